"""The command line: a fleet of counters to watch."""
