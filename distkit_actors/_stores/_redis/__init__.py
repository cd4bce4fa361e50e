"""The store over Redis: how to reach a server, and what to say to it."""
