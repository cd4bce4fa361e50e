"""Exhaustive exploration of the core in small scopes; ``explore`` is the entry point."""
