"""Measurements of distkit_actors, each as a ratio to a peer measured in the same run.

`python -m benchmarks` starts Redis servers of its own. A whole run writes
`docs/performance_table.md`, and `build/benchmarks.json` in the format of pyperf.

* `rows` holds the measurements, in groups; `peers` what the counters are compared with.
* `bench` knows how two things are compared, `load` how one of them is timed.
* `server` starts a server and reads what it tells of itself.
* `processes` starts the programs of `child`, and talks with them.
* `report` writes down what was found.
* `glance` makes of the written `tables` what is read first: five lines, and a `picture`.
"""
