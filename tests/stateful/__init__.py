"""Random histories of a fleet of counters, checked against a reference model.

* `tests.stateful.reference` says what a counter is, in plain Python.
* `tests.stateful.machine` makes up histories, stacks faults and compares.
* `tests.stateful.part_rules` adds what may strike one part of a namespace that has several.
* `tests.stateful.limit_rules` makes up histories of a limit that a fleet shares.
* `tests.stateful.fleet_rules` has what may happen to both: counters come and go, networks fail.
* `tests.stateful.fleet` runs the counters, `tests.stateful.wires` watches what they say.
"""
