"""Measurements of distkit_actors, each as a ratio to a peer measured in the same run.

`python -m benchmarks` starts Redis servers of its own, takes about two minutes, and writes
`docs/performance.json`, `docs/performance.svg` and `docs/performance_table.md`.

* `measure` knows how two things are compared, `load` and `statement` how one is timed.
* `peers` holds what the counters are compared with, `children` the processes that are started.
* `rows` holds the measurements themselves, one module for each group of rows.
* `report`, `chart` and `page` write down what was found.
"""
