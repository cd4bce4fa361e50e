"""The options of counters, for those who pass them on."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

from .._actor._batch_loop import OnExit

#: What a counter does if another one has its ``instance_id``; see `InstanceAwareCounter`.
OnConflict: TypeAlias = Literal["take_over", "refuse"]


class StrictOptions(TypedDict, total=False):
    """The options of `StrictInstanceAwareCounter`, for functions that pass them on.

    ::

        def our_counter(**options: Unpack[StrictOptions]) -> StrictInstanceAwareCounter:
            return StrictInstanceAwareCounter("our_app", "redis://cache", **options)

    Each is optional. What they mean, and their defaults, is with `InstanceAwareCounter`, which
    has the same ones.
    """

    instance_id: str | None
    dead_instance_threshold: float
    heartbeat_interval: float | None
    mailbox_size: int
    on_exit: OnExit
    inherit: bool
    exit_grace: float
    on_conflict: OnConflict
    start_grace: float
    label: str | None


class LaxOptions(StrictOptions, total=False):
    """The options of `LaxInstanceAwareCounter`, for functions that pass them on.

    Those of `StrictOptions`, and three of its own. What they mean, and their defaults, is with the
    class.
    """

    flush_interval: float
    allowed_lag: float
    detached_start: bool
