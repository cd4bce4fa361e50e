"""Random histories of a fleet of counters, checked against a reference model.

* `tests.stateful.reference` says what a counter is, in plain Python.
* `tests.stateful.machine` makes up histories, stacks faults and compares.
* `tests.stateful.part_rules` adds what may strike one part of a namespace that has several.
* `tests.stateful.fleet` runs the counters, `tests.stateful.wires` watches what they say.
"""
