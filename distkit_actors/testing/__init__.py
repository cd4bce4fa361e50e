"""For tests: a store with faults, crashes and restarts, and the conformance kit for stores.

The fixtures for pytest are in ``distkit_actors.testing.fixtures``. Nothing here is imported with
`distkit_actors`, and all but the fixtures is tied to no test framework.
"""

from .._public import publish as _publish
from ._check_store import check_store as check_store
from ._crashes import kill as kill
from ._crashes import outage as outage
from ._crashes import revive as revive
from ._faulty_store import FaultyStore as FaultyStore

__all__ = [
    "FaultyStore",
    "check_store",
    "kill",
    "outage",
    "revive",
]

_publish(globals())
