"""What the counters promise, each promise once, over every store."""
