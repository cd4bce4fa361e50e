"""Counters over a real Redis, while everything around them fails.

* `tests.faults.fleet` opens counters with short thresholds and runs proxies.
* `tests.faults.lens` looks at what Redis holds, past all counters.
"""
