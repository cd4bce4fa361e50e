"""For tests: a store with faults, and the conformance kit for stores.

Not imported with `distkit_actors`, and tied to no test framework.
"""

from .._public import publish as _publish
from ._check_store import check_store as check_store
from ._faulty_store import FaultyStore as FaultyStore

__all__ = [
    "FaultyStore",
    "check_store",
]

_publish(globals())
