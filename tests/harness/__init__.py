"""Real servers, a faulty network and worker processes for the tests.

* `tests.harness.server` runs a private redis-server.
* `tests.harness.cluster` makes a Redis Cluster of such servers.
* `tests.harness.sentinel` has sentinels watch over such servers.
* `tests.harness.proxy` puts a misbehaving network in front of one.
* `tests.harness.topologies` puts one in front of each server of a cluster or trio.
* `tests.harness.workers` runs counters in processes of their own.
"""

import itertools
import os

_prefix_numbers = itertools.count(1)


def unique_prefix() -> str:
    """Return a key prefix no other test uses; one per Hypothesis example."""
    return f"t{os.getpid()}_{next(_prefix_numbers)}"
