"""What `statistics()` shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: Where in its life a counter is; see `CounterStatistics.state`.
CounterState: TypeAlias = Literal[
    "new", "starting", "running", "away", "superseded", "stopping", "closed"
]


@dataclass(frozen=True, slots=True)
class CounterStatistics:
    """A counter at one moment. Ages are in seconds, on the clock of the trio run it runs in.

    Where the store spreads the prefix over several parts, each field is of all of them together:
    mostly the sum, else it says how.

    Attributes:
        state: Where in its life it is: ``"new"``, ``"starting"``, ``"running"``, ``"away"``,
            ``"superseded"``, ``"stopping"`` or ``"closed"``.
        mailbox_length: Operations that wait to be sent.
        mailbox_peak: The most that ever waited at once.
        operations_done: Operations the store has answered; lax counts are not operations.
        batches_done: Exchanges with the store that were acknowledged, heartbeats included.
        in_flight_age: Seconds that the batch on its way has been without an answer, or None.
        pending_keys: Lax: keys with counts that the store has not acknowledged.
        refused_keys: Lax: how often the store had to refuse counts of a key, which are lost.
        withheld_slices: Own slices that wait until the cumulative has room for them.
        stuck_slices: Slices of dead instances that the cumulative cannot do without yet.
        connected: Whether a connection to the store is up, as far as is known.
        reconnects: How often the connection was lost and made again.
        warnings: What is wrong with the store, so that counts may be lost: how it evicts keys, or
            replicas that did not confirm writes (``min_replicas``).
        last_heartbeat_age: Seconds since the last acknowledged batch was sent, or None.
        outages: How often the store went away, or began to refuse, since the start.
        outage_age: Seconds for which the store has been away or has refused, or None.
    """

    __module__ = "distkit_actors"  # which imports it when it is asked for

    state: CounterState
    """Where in its life it is.

    ``"new"``: not started. ``"starting"``: registering, or waiting for a store to register with;
    after a detached start it counts already. ``"running"``: at work. ``"away"``: it runs, and the
    store cannot be reached or does not answer. ``"superseded"``: another counter has taken its
    ``instance_id``, or had it when this one was to register after a detached start, so it has
    ended or is about to. ``"stopping"``: it finishes what waits, and leaves. ``"closed"``: it has
    ended, or was closed before it was started. Of several parts: the worst. ``"starting"`` until
    all have registered; then ``"away"`` if one is.
    """
    mailbox_length: int
    """Operations that wait to be sent; those in line for a place in the mailbox not included."""
    mailbox_peak: int
    """The most that ever waited at once, in one part."""
    operations_done: int
    """Operations the store has answered; lax counts are not operations. One that concerns several
    parts counts once for each."""
    batches_done: int
    """Exchanges with the store that were acknowledged, heartbeats included."""
    in_flight_age: float | None
    """Seconds that the batch on its way has been without an answer; None if there is none. Of
    several parts: the longest."""
    pending_keys: int
    """Lax: keys with counts that the store has not acknowledged."""
    refused_keys: int
    """Lax: how often since the start the store had to refuse counts of a key; they are lost.

    A key counts once for each batch in which its counts were refused, so this number only grows.
    """
    withheld_slices: int
    """Own slices that wait until the cumulative has room for them."""
    stuck_slices: int
    """Slices of dead instances that wait until the cumulative can do without them.

    As far as this instance's last batch looked.
    """
    connected: bool
    """Whether a connection to the store is up, as far as is known; to all parts."""
    reconnects: int
    """How often the connection was lost and made again."""
    warnings: tuple[str, ...]
    """What is wrong with how the store is set up, so that counts may be lost.

    As far as it says, when it was looked at last, which is about once a minute: an eviction policy
    that takes any key. What several parts say is said once.
    """
    last_heartbeat_age: float | None
    """Seconds since the last acknowledged batch was sent; None before the first. Of several parts:
    the longest, and None before the first in each."""
    outages: int
    """How often the store went away, or began to refuse, since the start."""
    outage_age: float | None
    """Seconds for which the store has been away, or has refused; None if it does neither. Of
    several parts: the longest."""


def combined(parts: Sequence[CounterStatistics], state: CounterState) -> CounterStatistics:
    """Return the statistics of all parts of a namespace together."""
    beats = [part.last_heartbeat_age for part in parts]
    return CounterStatistics(
        state=state,
        mailbox_length=sum(part.mailbox_length for part in parts),
        mailbox_peak=max(part.mailbox_peak for part in parts),
        operations_done=sum(part.operations_done for part in parts),
        batches_done=sum(part.batches_done for part in parts),
        in_flight_age=_longest(part.in_flight_age for part in parts),
        pending_keys=sum(part.pending_keys for part in parts),
        refused_keys=sum(part.refused_keys for part in parts),
        withheld_slices=sum(part.withheld_slices for part in parts),
        stuck_slices=sum(part.stuck_slices for part in parts),
        connected=all(part.connected for part in parts),
        reconnects=sum(part.reconnects for part in parts),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
        last_heartbeat_age=None if None in beats else _longest(beats),
        outages=sum(part.outages for part in parts),
        outage_age=_longest(part.outage_age for part in parts),
    )


def _longest(ages: Iterable[float | None]) -> float | None:
    return max((age for age in ages if age is not None), default=None)
