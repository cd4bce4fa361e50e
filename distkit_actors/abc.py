"""What a store is to a counter: for people who write a store of their own, or tools for stores.

A store keeps the counters of any number of prefixes. A counter reaches it through a `Link`, sends
a `Request` at a time, and gets a `Reply`; a store that can push has a `Subscription`, too. What
each request does is in ``docs/protocol.md``, and in Python in `Namespace`, which a store may
simply run. `distkit_actors.testing.check_store` checks what a store answers; how a link fails, and
how it is cancelled, is left to tests of its author's.

All messages are immutable values that compare equal by content and can be pickled. Times in them
are microseconds. A *stamp* is an instant of the namespace's own clock, which only goes forward.

Not everything here is for everybody: to count, `distkit_actors` itself has all that is needed.
"""

from ._namespace._namespace import Namespace
from ._protocol._conditions import Condition, Eq, Ge, Gt, Le, Lt, Ne
from ._protocol._messages import (
    FOLD_LIMIT,
    JUST_COME,
    MAX_CHANGED,
    MAX_ENTRIES,
    MAX_JOURNAL,
    MAX_MOVES,
    MAX_PURGE,
    Applied,
    Apply,
    ConditionFailed,
    Conflict,
    Entry,
    Forget,
    Forgotten,
    Journal,
    Kind,
    Load,
    Loaded,
    Mismatch,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Periods,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Reply,
    Request,
    Result,
    Resume,
    Slice,
    Stale,
    Watch,
    Watched,
)
from ._public import publish as _publish
from ._stores._contract import (
    Link,
    NotPermittedError,
    Store,
    StoreAwayError,
    StoreSilentError,
    Subscription,
)

__all__ = [
    "FOLD_LIMIT",
    "JUST_COME",
    "MAX_CHANGED",
    "MAX_ENTRIES",
    "MAX_JOURNAL",
    "MAX_MOVES",
    "MAX_PURGE",
    "Applied",
    "Apply",
    "Condition",
    "ConditionFailed",
    "Conflict",
    "Entry",
    "Eq",
    "Forget",
    "Forgotten",
    "Ge",
    "Gt",
    "Journal",
    "Kind",
    "Le",
    "Link",
    "Load",
    "Loaded",
    "Lt",
    "Mismatch",
    "MustResume",
    "Namespace",
    "Ne",
    "NotPermittedError",
    "Open",
    "Opened",
    "Peek",
    "Peeked",
    "Periods",
    "Previous",
    "Query",
    "QueryKind",
    "QueryPage",
    "Rejection",
    "Reply",
    "Request",
    "Result",
    "Resume",
    "Slice",
    "Stale",
    "Store",
    "StoreAwayError",
    "StoreSilentError",
    "Subscription",
    "Watch",
    "Watched",
]

_publish(globals())
