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

    Each is optional. `InstanceAwareCounter`, which has the same ones, says more of each.
    """

    instance_id: str | None
    """Names this instance; None, the default, draws a UUID4 at the start."""
    dead_instance_threshold: float
    """Seconds of silence after which the others drop its slices; 30 by default."""
    heartbeat_interval: float | None
    """Seconds between signs of life; None, the default, is a third of the threshold."""
    mailbox_size: int
    """How many operations may wait for the store; 10 000 by default."""
    on_exit: OnExit
    """``"leave"``, the default: a stop takes the slices away. ``"linger"``: they count until the
    threshold has passed."""
    inherit: bool
    """Continue the counts of a predecessor with the same ``instance_id``; False by default."""
    exit_grace: float
    """Seconds that a stop may take; 5 by default."""
    on_conflict: OnConflict
    """``"take_over"``, the default, from another counter with the ``instance_id``, or ``"refuse"``
    to start."""
    start_grace: float
    """Seconds for which a start goes on trying while the store is away; 0 by default."""
    label: str | None
    """Tells people which instance this is, in `InstanceInfo`; None by default."""


class LaxOptions(StrictOptions, total=False):
    """The options of `LaxInstanceAwareCounter`, for functions that pass them on.

    Those of `StrictOptions`, and three of its own. The class says more of each.
    """

    flush_interval: float
    """Seconds between a first count and the flush that carries it; 0.02 by default."""
    allowed_lag: float
    """Seconds for which a read may return what the store said last of a key; 0.02 by default."""
    detached_start: bool
    """Start without waiting for the store; False by default."""
