"""What the counters are compared with; each peer is set up as its users would."""
