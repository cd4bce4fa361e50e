"""For tests: a store with faults, and the conformance kit for stores.

Not imported with `distkit_actors`, and tied to no test framework.
"""

from ._check_store import check_store as check_store
from ._faulty_store import FaultyStore as FaultyStore

__all__ = [
    "FaultyStore",
    "check_store",
]

# Tracebacks, reprs and pickles show the names that users import.
for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
