# Layers, lowest first; a module imports from the layers below it only, and
# tests/test_layers.py holds us to that.
#
#   _cli/                                           commands for operators
#   _demo/, testing/                                people and tests
#   opentelemetry, prometheus, _monitoring/         for monitoring, each with its extra
#   abc                                             what others write stores with
#   _fleet/     (_fleet, _inquiry, _looking)        a look at all, taking no part
#   _limiter/   (_limiter, _token_lease, _order)    what counters are good for
#   _counters/  (_counter, _strict, _lax, _hold, …) public classes
#   _actor/     (_partitioned                       an actor for each part of a namespace
#                _actor, _admission, _timers        one nursery, its door and its tasks
#                _batch_loop, _agenda, _requester   decide, send, receive, hand out
#                _dispatch, _watches, …             what goes together, who hears of it
#                _mailbox, _operations)             who waits, for what
#   _stores/    (_memory, _redis/)                  where namespaces live
#   _instance/  (_session, _phases, _own_copy, …    the instance's half of the protocol, pure
#                _write_buffer, _holds)             what it keeps until it is sent
#   _namespace/ (_namespace, _step, _entries,       the store's half, pure; in Lua beside it
#                _registry, _reaper, …)
#   _protocol/  (_messages, _values, …)             what the two say to each other
#   _errors, _public, _version
"""Instance-aware distributed counters for trio applications, on Redis.

Every process of a service owns a slice of each counter; the total is the sum over the
live processes. See `StrictInstanceAwareCounter` and `LaxInstanceAwareCounter`.
"""

import typing
from importlib import import_module as _import_module

from . import abc as abc
from ._actor._batch_loop import OnExit as OnExit
from ._counters._counter import InstanceAwareCounter as InstanceAwareCounter
from ._counters._handle import BoundCounter as BoundCounter
from ._counters._lax import LaxInstanceAwareCounter as LaxInstanceAwareCounter
from ._counters._lax_handle import BoundLaxCounter as BoundLaxCounter
from ._counters._options import LaxOptions as LaxOptions
from ._counters._options import OnConflict as OnConflict
from ._counters._options import StrictOptions as StrictOptions
from ._counters._strict import StrictInstanceAwareCounter as StrictInstanceAwareCounter
from ._errors import CounterClosedError as CounterClosedError
from ._errors import CounterOverflowError as CounterOverflowError
from ._errors import DistkitError as DistkitError
from ._errors import InstanceConflictError as InstanceConflictError
from ._errors import InvalidKeyError as InvalidKeyError
from ._errors import LimitReachedError as LimitReachedError
from ._errors import OutcomeUnknownError as OutcomeUnknownError
from ._errors import StoreError as StoreError
from ._errors import StoreUnavailableError as StoreUnavailableError
from ._protocol._conditions import Condition as Condition
from ._protocol._conditions import Eq as Eq
from ._protocol._conditions import Ge as Ge
from ._protocol._conditions import Gt as Gt
from ._protocol._conditions import Le as Le
from ._protocol._conditions import Lt as Lt
from ._protocol._conditions import Ne as Ne
from ._protocol._values import Change as Change
from ._protocol._values import CounterValue as CounterValue
from ._protocol._values import InstanceInfo as InstanceInfo
from ._public import publish as _publish
from ._stores._contract import Store as Store
from ._stores._memory import MemoryStore as MemoryStore
from ._stores._urls import open_store as open_store
from ._version import __version__ as __version__

__all__ = [
    "AsyncCredentialProvider",
    "BoundCounter",
    "BoundLaxCounter",
    "Change",
    "Condition",
    "CounterClosedError",
    "CounterOverflowError",
    "CounterState",
    "CounterStatistics",
    "CounterValue",
    "CredentialProvider",
    "DistkitError",
    "Eq",
    "Fleet",
    "FleetLimiter",
    "FleetLimiterStatistics",
    "FleetLimiterUsage",
    "Ge",
    "Gt",
    "InstanceAwareCounter",
    "InstanceConflictError",
    "InstanceInfo",
    "InvalidKeyError",
    "LaxInstanceAwareCounter",
    "LaxOptions",
    "Le",
    "LimitReachedError",
    "Lt",
    "MemoryStore",
    "Ne",
    "OnConflict",
    "OnExit",
    "OutcomeUnknownError",
    "RedisStore",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "StrictInstanceAwareCounter",
    "StrictOptions",
    "TlsOptions",
    "__version__",
    "open_store",
]

_publish(globals())

if typing.TYPE_CHECKING:
    from ._actor._statistics import CounterState as CounterState
    from ._actor._statistics import CounterStatistics as CounterStatistics
    from ._fleet._fleet import Fleet as Fleet
    from ._limiter._limiter import FleetLimiter as FleetLimiter
    from ._limiter._limiter import FleetLimiterStatistics as FleetLimiterStatistics
    from ._limiter._limiter import FleetLimiterUsage as FleetLimiterUsage
    from ._stores._redis._credential_provider import (
        AsyncCredentialProvider as AsyncCredentialProvider,
    )
    from ._stores._redis._credential_provider import CredentialProvider as CredentialProvider
    from ._stores._redis._store import RedisStore as RedisStore
    from ._stores._redis._tls_options import TlsOptions as TlsOptions
else:
    # Imported when they are asked for: redis-py takes longer than all the rest, and most programs
    # need no more than one of these.
    _LATER = {
        "AsyncCredentialProvider": "._stores._redis._credential_provider",
        "CounterState": "._actor._statistics",
        "CounterStatistics": "._actor._statistics",
        "CredentialProvider": "._stores._redis._credential_provider",
        "Fleet": "._fleet._fleet",
        "FleetLimiter": "._limiter._limiter",
        "FleetLimiterStatistics": "._limiter._limiter",
        "FleetLimiterUsage": "._limiter._limiter",
        "RedisStore": "._stores._redis._store",
        "TlsOptions": "._stores._redis._tls_options",
    }

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_LATER[name], __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
