"""The kit that users get for their tests."""
