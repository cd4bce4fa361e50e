"""The errors that are this package's own, as one tree.

Each class is also the builtin or trio class it resembles, so that code which already
catches `ValueError` or `trio.ClosedResourceError` keeps working.
"""

from __future__ import annotations

import trio


class DistkitError(Exception):
    """Base of the errors of this package, but for some that are errors of Python or trio only.

    These are `TypeError` and `ValueError` for an argument that cannot be as it is, unless it is a
    key or a prefix; `RuntimeError` for a call at a wrong place, as in another thread or under
    asyncio, or once too often, as of a hold; `trio.WouldBlock`, and what else trio raises at the
    end of a channel.
    """

    applied: tuple[str, ...] = ()
    """Of an operation on several keys that takes several steps, as those on more than 1000 keys and
    on keys in several parts do: the keys of the steps that took effect, though another failed; but
    for those whose condition did not hold."""


class InvalidKeyError(DistkitError, ValueError):
    """Not a key or a prefix; nothing was changed anywhere.

    They are strings of 1 to 255 characters that can be encoded as UTF-8.
    """


class CounterOverflowError(DistkitError, OverflowError):
    """The slice or the cumulative would leave the signed 64-bit range; nothing was changed.

    Two operations report with it what happened to a part: `LaxInstanceAwareCounter.flush`
    counts that the store had to refuse and that are lost, and
    `InstanceAwareCounter.clear_on_instance` slices that have to stay.
    """


class LimitReachedError(DistkitError):
    """A hold would have taken the cumulative beyond its limit; nothing was changed.

    It comes at once, as `trio.WouldBlock` does: a hold does not wait for others to make room.
    `FleetLimiter` does.
    """


class StoreError(DistkitError):
    """The store answered, and refuses: wrong password, no permission, out of memory and the like.

    The operation did not take effect, except where a subclass says otherwise. Lax counts
    stay pending. The message says what to do; it contains no secrets.
    """


class StoreUnavailableError(StoreError):
    """The store cannot be reached at start, or ``exit_grace`` was over before a stop was done.

    In between, the store being away is no error: strict operations wait, lax ones go on.
    """


class OutcomeUnknownError(StoreError):
    """Nobody can know whether the operation took effect, so it is not repeated.

    It did so once or not at all: read the value and decide. There are two causes. The store
    lost its own record of an operation whose answer had not arrived ("Exactly once" in
    ``docs/guarantees.md``); or the counter was stopped, and ``exit_grace`` ran out, before
    the answer came.
    """


class InstanceConflictError(DistkitError):
    """A newer counter with the same ``instance_id`` has taken over; this one changes nothing more.

    At the start of a counter that refuses to take over (``on_conflict="refuse"``): a living one
    has the id; nothing was changed.

    An operation on its way while the connection was lost may have taken effect before the
    other one took over.
    """


class CounterClosedError(DistkitError, trio.ClosedResourceError):
    """The counter is not running: not started yet, stopping, or stopped.

    The operation was not sent. Only if the counter has crashed, which is a bug and shows in
    ``__cause__``, one that was on its way may have taken effect.
    """
