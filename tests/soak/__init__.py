"""Processes that count for a while, as everything around them fails: ``python -m tests.soak``.

* `tests.soak.worker` is one of the processes; it says on its standard output what it counted.
* `tests.soak.controller` starts them, breaks things, and compares at the end.
* `tests.soak.account` says what may have come of what was said.
"""
