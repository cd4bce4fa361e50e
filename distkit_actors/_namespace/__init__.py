"""The store's half of the protocol: in Python, and beside it in Lua."""
