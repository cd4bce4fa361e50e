"""The counter that counts in memory and tells the store a little later.

This file is longer than others, as half of it is what users read of the class. What is known of a
key, and how the store is asked for more, is in `_local_view`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import Final, Self, final

import trio

from .._actor._batch_loop import OnExit
from .._actor._watching import checked_lag
from .._errors import CounterOverflowError
from .._instance._buffered_key import NEVER, BufferedKey
from .._instance._holds import Hold
from .._protocol._conditions import Condition
from .._protocol._values import CounterValue, checked_count, checked_name, checked_number, fits
from .._stores._contract import Store
from ._batches import checked_counts, checked_names
from ._compiled import COMPILED, CompiledCounts
from ._counter import InstanceAwareCounter
from ._lax_handle import BoundLaxCounter
from ._local_view import LocalViewMixin
from ._options import OnConflict
from ._strict import StrictInstanceAwareCounter

#: Trio's own, looked up once.
_checkpoint: Final = trio.lowlevel.checkpoint
_current_time: Final = trio.current_time
_in_trio_task: Final = trio.lowlevel.in_trio_task


@final
class LaxInstanceAwareCounter(LocalViewMixin, InstanceAwareCounter):
    """`inc`, `dec`, `get` and `set_on_instance` answer from memory; a flush follows.

    The local view of a key is what the store said last plus what was counted here since. A
    flush sends everything pending as one batch, every ``flush_interval`` seconds while
    there is something to send. Nothing pending is forgotten before the store has
    acknowledged it, so counting goes on through an outage, and nothing is lost or doubled
    by it. `set`, `delete`, `delete_on_instance`, `clear` and `clear_on_instance` act
    at once, behind the counts made before them, and wait for the store. What is pending
    when another instance calls one of `set`, `delete` and `clear` comes after that.

    `inc` and its like are ``async`` although they seldom wait, so that code for
    `InstanceAwareCounter` serves with either kind; where nothing may wait use `inc_nowait`.

    Every ``async`` operation is a checkpoint. A cancelled `inc`, `dec` or
    `set_on_instance` has counted nothing; for the operations that act at once see
    `InstanceAwareCounter`.

    Args:
        prefix: Names the family. More on this and all options up to ``label`` is with
            `InstanceAwareCounter`.
        store: A `Store`, or the URL of one.
        instance_id: Names this instance; by default a fresh UUID4.
        dead_instance_threshold: Seconds of silence after which the others drop its slices.
        heartbeat_interval: Seconds between signs of life; by default a third of the threshold.
        mailbox_size: How many operations may wait for the store.
        on_exit: ``"leave"``: a stop takes the slices away. ``"linger"``: they count until the
            threshold has passed.
        inherit: Continue the counts of a predecessor with the same ``instance_id``.
        exit_grace: Seconds that a stop may take.
        on_conflict: ``"take_over"`` from another counter with the ``instance_id``, or
            ``"refuse"`` to start.
        start_grace: Seconds for which a start goes on trying while the store is away.
        label: Tells people which instance this is, in `InstanceInfo`.
        flush_interval: Seconds between a first count and the flush that carries it.
        allowed_lag: Seconds for which `get` may return what the store said last of a key;
            a read that must ask the store waits ten times as long, or as long as the store's
            answers take if that is longer.
        detached_start: Start without waiting for the store: `run` and `open` are ready at once,
            counting starts in memory, and the store hears of it as soon as it is there, whatever
            ``start_grace`` is. Until then `CounterStatistics.state` is ``"starting"``, or
            ``"away"`` once the store is known to be. What acts at once waits, as it does
            in any outage, and a store that refuses is tried again with each heartbeat. If
            ``on_conflict`` is ``"refuse"`` and the id turns out to be taken, the counter ends with
            `InstanceConflictError`, and what it has counted is void.

    Raises:
        InvalidKeyError: The prefix cannot be one.
        ValueError: Periods that do not fit together, or a bad URL.
    """

    def __init__(
        self,
        prefix: str,
        store: Store | str,
        *,
        instance_id: str | None = None,
        dead_instance_threshold: float = 30.0,
        heartbeat_interval: float | None = None,
        mailbox_size: int = 10_000,
        on_exit: OnExit = "leave",
        inherit: bool = False,
        exit_grace: float = 5.0,
        on_conflict: OnConflict = "take_over",
        start_grace: float = 0.0,
        label: str | None = None,
        flush_interval: float = 0.02,
        allowed_lag: float = 0.02,
        detached_start: bool = False,
    ) -> None:
        if not 0 < checked_number(flush_interval, "flush_interval") < float("inf"):
            raise ValueError(f"flush_interval must be positive seconds, not {flush_interval}")
        self._allowed_lag = checked_lag(allowed_lag)
        super().__init__(
            prefix,
            store,
            instance_id=instance_id,
            dead_instance_threshold=dead_instance_threshold,
            heartbeat_interval=heartbeat_interval,
            mailbox_size=mailbox_size,
            on_exit=on_exit,
            inherit=inherit,
            exit_grace=exit_grace,
            on_conflict=on_conflict,
            start_grace=start_grace,
            label=label,
            _flush_interval=flush_interval,
            _detached_start=detached_start,
        )
        self._options.update(
            flush_interval=flush_interval, allowed_lag=allowed_lag, detached_start=detached_start
        )
        buffer = self._actor.buffer
        assert buffer is not None
        self._buffer = buffer
        if COMPILED and type(self) is LaxInstanceAwareCounter:
            vars(self)["inc_nowait"] = CompiledCounts(buffer, self.inc_nowait).inc_nowait
        self._strict: StrictInstanceAwareCounter | None = None  # made when somebody asks for it

    @classmethod
    def open(
        cls,
        prefix: str,
        store: Store | str,
        *,
        instance_id: str | None = None,
        dead_instance_threshold: float = 30.0,
        heartbeat_interval: float | None = None,
        mailbox_size: int = 10_000,
        on_exit: OnExit = "leave",
        inherit: bool = False,
        exit_grace: float = 5.0,
        on_conflict: OnConflict = "take_over",
        start_grace: float = 0.0,
        label: str | None = None,
        flush_interval: float = 0.02,
        allowed_lag: float = 0.02,
        detached_start: bool = False,
    ) -> AbstractAsyncContextManager[Self]:
        """Return a block that runs a new counter; it takes what the constructor takes.

        Entering it registers the counter, leaving it flushes and stops the counter; both are
        checkpoints. What comes out of it, and what a cancellation does, is with
        `InstanceAwareCounter.open`. Raises what the constructor and `run` raise.
        """
        counter = cls(
            prefix,
            store,
            instance_id=instance_id,
            dead_instance_threshold=dead_instance_threshold,
            heartbeat_interval=heartbeat_interval,
            mailbox_size=mailbox_size,
            on_exit=on_exit,
            inherit=inherit,
            exit_grace=exit_grace,
            on_conflict=on_conflict,
            start_grace=start_grace,
            label=label,
            flush_interval=flush_interval,
            allowed_lag=allowed_lag,
            detached_start=detached_start,
        )
        return counter._running()

    @property
    def strict(self) -> StrictInstanceAwareCounter:
        """The strict face of this instance: every answer comes from the store.

        ::

            async with LaxInstanceAwareCounter.open("my_app", url) as counter:
                counter.inc_nowait("requests")  # cheap
                seats = await counter.strict.inc("seats")  # exact

        Both faces are one instance: they have one ``instance_id``, one slice of each key, one
        heartbeat and one end, and a `run` or `aclose` of either is that of both. Always the same
        object. Not a checkpoint, and it may be had before the counter runs.

        A strict operation on a key first sends the pending counts of this key, so it sees them. Its
        result is in the local view when the call returns. If counts were pending, an operation that
        adds waits one round trip longer. While the store is away it waits, as the operations of any
        strict counter do, and the lax face goes on. Options such as ``mailbox_size`` are those that
        this counter was made with.
        """
        if self._strict is None:
            self._strict = StrictInstanceAwareCounter._of(self)  # pyright: ignore[reportPrivateUsage] - its other face
        return self._strict

    def bind(self, key: str) -> BoundLaxCounter:
        """Return a handle with every operation on ``key``, without the key.

        Not a checkpoint. Works before the counter runs. Raises `InvalidKeyError`. Its
        `BoundLaxCounter.inc_nowait` is faster than `inc_nowait`.
        """
        return BoundLaxCounter(self, checked_name(key))

    # ------------------------------------------------------------------ hot path

    def inc_nowait(self, key: str, count: int = 1) -> None:
        """Add ``count`` to this instance's slice, in memory. Not a checkpoint.

        Works on a key never used before, and while the store is away. What the store has to
        refuse later, because of what others count, is raised by `flush`, or by the stop.

        From another thread use ``trio.from_thread.run_sync(counter.inc_nowait, key)``. To call it
        there directly is a mistake, and mostly raises RuntimeError. But if this thread has counted
        on the key since the last flush, a wrong thread is not noticed, and a count may get lost.
        The check would take a third as long as counting.

        Raises:
            RuntimeError: Called in another thread, as far as that is noticed.
            InvalidKeyError: Not a key; nothing was changed.
            TypeError: ``count`` is no int; nothing was changed.
            CounterOverflowError: The slice or the cumulative, as far as known here, would
                leave int64; nothing was changed.
            InstanceConflictError: Another counter has taken over; nothing was changed.
            CounterClosedError: The counter is not running; nothing was changed.
        """
        try:
            buffered = self._buffer.buffered_keys[key]  # an eighth of a count less than `get`
        except (KeyError, TypeError):  # `_buffered` says so, if it is no key
            pass
        else:
            if type(count) is int:
                delta = buffered.delta + count
                if buffered.low <= delta and delta <= buffered.high:  # noqa: PLR1716 - for speed
                    buffered.delta = delta
                    return
        self._add(self._buffered(key), checked_count(count))

    def dec_nowait(self, key: str, count: int = 1) -> None:
        """Take ``count`` from this instance's slice, in memory. Not a checkpoint.

        The same as `inc_nowait` of ``-count``; raises what that raises.
        """
        self.inc_nowait(key, -checked_count(count))

    def get_nowait(self, key: str) -> CounterValue:
        """Return the local view, however old. Not a checkpoint.

        It contains everything counted here.

        Raises:
            trio.WouldBlock: The key has not been read from the store yet, or not for so long that
                it was forgotten: what others count is not known, whatever was counted here.
                ``await counter.get(key)`` reads it.
            InvalidKeyError: Not a key.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        buffered = self._buffered(key)
        if not buffered.has_base:
            raise trio.WouldBlock(
                f"the store has not said yet what others count on {key!r}, so that only the own "
                "slice is known: `await counter.get(key)` asks it"
            )
        buffered.used = True
        return buffered.value

    def age(self, key: str) -> float:
        """Return how old the store's value is in the local view, in seconds. Not a checkpoint.

        That is the time since the store's last answer about ``key`` came. If this answer tells what
        an earlier copy of the request found, it is the time since the first copy was sent. What was
        counted here since is in the view, what others have counted since is not. ``inf`` if the
        store has not told a value of the key yet, or if the key was forgotten since: one without an
        own slice is, after two to four thresholds without use. It is ``inf``, too, once this
        instance has heard that somebody has moved the epoch since, with a heartbeat at the latest.
        It asks nobody. An age of more than ``allowed_lag`` after an `InstanceAwareCounter.get`
        tells that the store is away or slow.

        Raises:
            InvalidKeyError: Not a key.
            RuntimeError: Called in another thread.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        self._actor.admit(key)
        buffered = self._buffer.find(checked_name(key))
        return inf if buffered is None else self._actor.now() - buffered.read_at

    def _add(self, buffered: BufferedKey, count: int) -> None:
        delta = buffered.delta + count
        if buffered.low <= delta and delta <= buffered.high:  # noqa: PLR1716 - for speed
            buffered.delta = delta
            return
        self._check(buffered, delta, count)
        if not buffered.dirty:
            self._buffer.touch(buffered)
        buffered.delta += count  # what a finalizer has counted meanwhile is in it
        buffered.update_bounds()

    def _check(self, buffered: BufferedKey, delta: int, count: int) -> None:
        if not buffered.admits(delta):
            raise CounterOverflowError(
                f"{count} more on {buffered.key!r} would take the slice or the cumulative out of "
                "the signed 64-bit range; nothing was changed"
            )

    def _replace(self, buffered: BufferedKey, count: int) -> None:
        self._check_replacing(buffered, count)
        self._buffer.replace(buffered, count)

    def _check_replacing(self, buffered: BufferedKey, count: int) -> None:
        cumulative, own = buffered.value
        if not fits(cumulative - own + count):
            raise CounterOverflowError(
                f"{count} on {buffered.key!r} would take the cumulative out of the signed 64-bit "
                "range; nothing was changed"
            )

    # ---------------------------------------------------------------- operations

    async def inc(self, key: str, count: int = 1) -> CounterValue:
        """Add ``count`` to this instance's slice, in memory; return the local view after.

        The first one of a key reads the store before, as `get` does; the view of later ones may
        be as old as `age` says. A checkpoint; when cancelled, nothing was counted. Raises what
        `inc_nowait` raises.
        """
        count = checked_count(count)
        actor = self._actor
        # An open counter lets a task of trio pass at once, and `_buffered` makes the other checks.
        # To await what does not wait would take a tenth of the whole call.
        if not actor.open or not _in_trio_task():
            await actor.wait_open()
        buffered = self._buffered(key)
        if buffered.asked or _current_time() - buffered.read_at <= self._allowed_lag:
            await _checkpoint()
        else:
            await self._refresh(buffered)
        buffered.asked = True  # unless it was cancelled: then the next one asks
        if not actor.open:
            await actor.wait_open()
        buffered = self._buffered(key)
        self._add(buffered, count)
        return buffered.value

    async def get(self, key: str) -> CounterValue:
        """Return the local view, at most ``allowed_lag`` seconds old if the store is there.

        A value that is older is read from the store first, waiting for it ten times
        ``allowed_lag``, or as long as answers take of late if that is longer. For a key never
        read it waits until the store has answered, or is known to be away. After that the answer
        is what is known here, which is 0 for a key never read. It contains everything counted
        here, and never dips while a flush is on its way. A checkpoint; cancelling it leaves
        nothing behind.

        Raises:
            InvalidKeyError: Not a key.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        actor = self._actor
        if not actor.open or not _in_trio_task():  # as in `inc`
            await actor.wait_open()
        buffered = self._buffered(key)
        if _current_time() - buffered.read_at <= self._allowed_lag:
            await _checkpoint()
            if buffered.read_at > NEVER:  # no move has made it void meanwhile
                buffered.used = True
                return buffered.value
        found = await self._refresh(buffered)
        if found is None:  # and no answer may come for long
            buffered = self._buffered(key)
            buffered.used = buffered.has_base
        elif self._buffer.find(key) is not buffered:
            return CounterValue(*found)  # it was forgotten while we waited
        return buffered.value

    async def set_on_instance(self, key: str, count: int) -> CounterValue:
        """Make this instance's slice ``count``, in memory; return the local view after.

        A checkpoint; when cancelled, nothing was changed. Raises what `inc_nowait` raises.
        """
        count = checked_count(count)
        checked_name(key)
        self._actor.check_task()
        await trio.lowlevel.checkpoint()
        await self._actor.wait_open()
        buffered = self._buffered(key)
        self._replace(buffered, count)
        return buffered.value

    async def inc_all(self, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        """Add to this instance's slices of several keys, in memory: all or none.

        The first time of a key, it is read from the store before, as `inc` does. Each key then goes
        with a flush, by itself. A checkpoint; when cancelled, nothing was counted. Raises what
        `inc_nowait` raises.
        """
        wanted = checked_counts(counts)
        await self._know(wanted)
        buffered_keys = [(self._buffered(key), count) for key, count in wanted.items()]
        for buffered, count in buffered_keys:
            self._check(buffered, buffered.delta + count, count)
        for buffered, count in buffered_keys:
            self._add(buffered, count)
        return {buffered.key: buffered.value for buffered, _ in buffered_keys}

    async def set_all_on_instance(self, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        """Replace this instance's slices of several keys, in memory: all or none.

        A checkpoint; when cancelled, nothing was changed. Raises what `inc_nowait` raises.
        """
        wanted = checked_counts(counts)
        self._actor.check_task()
        await trio.lowlevel.checkpoint()
        await self._actor.wait_open()
        buffered_keys = [(self._buffered(key), count) for key, count in wanted.items()]
        for buffered, count in buffered_keys:
            self._check_replacing(buffered, count)
        for buffered, count in buffered_keys:
            self._replace(buffered, count)
        return {buffered.key: buffered.value for buffered, _ in buffered_keys}

    async def get_all(self, keys: Iterable[str]) -> dict[str, CounterValue]:
        """Return the local views of several keys, as `get` does that of one.

        Views that are too old are read from the store, up to 1000 in one step of each part. A part
        that is away does not delay the other parts. A checkpoint; cancelling it leaves nothing
        behind. Raises what `get` raises, and `TypeError` for a single string.
        """
        wanted = checked_names(keys)
        await self._actor.wait_open()
        now = trio.current_time()
        old = [key for key in wanted if now - self._buffered(key).read_at > self._allowed_lag]
        found = await self._read(old)
        asked = set(old)
        # Those that were known may have been moved while others were read.
        while void := [key for key in wanted if key not in asked and self._is_void(key)]:
            found |= await self._read(void)
            asked.update(void)
        return {key: self._view(key, found) for key in wanted}

    # ---------------------------------------------------------------------- holds

    async def _enter_hold(self, hold: Hold, condition: Condition | None) -> CounterValue | None:
        if condition is not None:
            return await self._enter_alone(hold, condition)
        await self.inc(hold.key, 0)
        buffered = self._buffered(hold.key)
        self._add(buffered, hold.count)
        buffered.hold(hold)
        return buffered.value

    def _own_slice(self, key: str, stored: int) -> int:
        buffered = self._buffer.find(key)
        if buffered is None:
            return stored
        replaced = buffered.assign is not None or buffered.flight_assign is not None
        counted = buffered.value.instance_count
        return counted if buffered.has_base or replaced else stored + counted

    def _own_keys(self) -> set[str]:
        buffered_keys = self._buffer.buffered_keys.values()
        counted = {buffered.key for buffered in buffered_keys if buffered.value.instance_count}
        return super()._own_keys() | counted

    async def flush(self) -> None:
        """Wait until all that was counted before the call is in the store. A checkpoint.

        It does not wait for ``flush_interval``. When cancelled, the counts stay pending, and
        are sent as ever. All parts of the namespace are flushed at the same time, each by itself.

        Raises:
            CounterOverflowError: The store had to refuse counts, now or since the last
                flush; they are lost.
            StoreError: The store refuses; the counts stay pending.
            InstanceConflictError: Another counter has taken over; the counts are void.
            CounterClosedError: The counter is not running; what a stop could not send is
                lost, and said by `run` and `aclose`.
        """
        await self._actor.flush()
