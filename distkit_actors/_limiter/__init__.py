"""What counters are good for: a limit on what the whole fleet does at once."""
