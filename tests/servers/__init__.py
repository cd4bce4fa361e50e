"""The store's tests on each server that is promised to work: ``python -m tests.servers``."""
