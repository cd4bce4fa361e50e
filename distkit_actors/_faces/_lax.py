"""The counter that counts in memory and tells the store a little later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from typing import Self, Unpack, final

import trio

from .._actor._exchange import OnExit
from .._actor._operations import Operation
from .._core._conditions import Condition
from .._core._holds import Hold
from .._core._ledger import Ledger
from .._core._messages import MAX_ENTRIES, Before, Declined, Entry, Kind
from .._core._tally import Tally
from .._core._values import CounterValue, checked_count, checked_name, fits
from .._errors import CounterOverflowError, StoreError
from .._stores._contract import Store
from ._batches import checked_counts, checked_names, values_after
from ._counter import CounterOptions, InstanceAwareCounter, OnConflict
from ._handle import BoundCounter

#: A read waits this many times `allowed_lag` for the store, if its answers do not take longer.
_PATIENCE = 10


class LaxOptions(CounterOptions, total=False):
    """The options of `LaxInstanceAwareCounter`, for `LaxInstanceAwareCounter.open`."""

    flush_interval: float
    allowed_lag: float


@final
class LaxInstanceAwareCounter(InstanceAwareCounter):
    """`inc`, `dec`, `get` and `set_on_instance` answer from memory; a flush follows.

    The local view of a key is the store's last word plus what was counted here since. A
    flush sends everything pending as one batch, every ``flush_interval`` seconds while
    there is something to send. Nothing pending is forgotten before the store has
    acknowledged it, so counting goes on through an outage, and nothing is lost or doubled
    by it (I6). `set`, `delete`, `delete_on_instance`, `clear` and `clear_on_instance` act
    at once, behind the counts made before them (P30), and wait for the store.

    Every ``async`` operation is a checkpoint. A cancelled `inc`, `dec` or
    `set_on_instance` has counted nothing; for the operations that act at once see
    `InstanceAwareCounter`.

    Args:
        prefix: See `InstanceAwareCounter`, as for all options not named here.
        store: The same.
        instance_id: The same.
        dead_instance_threshold: The same.
        heartbeat_interval: The same.
        mailbox_size: The same.
        on_exit: The same.
        inherit: The same.
        exit_grace: The same.
        on_conflict: The same.
        flush_interval: Seconds between a first count and the flush that carries it.
        allowed_lag: Seconds for which the store's last word on a key may serve `get`;
            a read that must ask the store waits ten times as long, or as long as the store's
            answers take if that is longer.

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
        flush_interval: float = 0.02,
        allowed_lag: float = 0.02,
    ) -> None:
        if not 0 < flush_interval < float("inf"):
            raise ValueError(f"flush_interval must be positive seconds, not {flush_interval}")
        if not 0 < allowed_lag < float("inf"):
            raise ValueError(f"allowed_lag must be positive seconds, not {allowed_lag}")
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
            _flush_interval=flush_interval,
        )
        self._allowed_lag = allowed_lag
        ledger = self._actor.ledger
        assert ledger is not None
        self._ledger: Ledger = ledger

    @classmethod
    def open(  # pyright: ignore[reportIncompatibleMethodOverride] - it takes more
        cls, prefix: str, store: Store | str, **options: Unpack[LaxOptions]
    ) -> AbstractAsyncContextManager[Self]:
        """Return a block that runs a new counter; see `InstanceAwareCounter.open`.

        Leaving it flushes (I9).
        """
        return cls(prefix, store, **options)._running()

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
        refuse later, because of what others count, is raised by `flush` (P32).

        From another thread use ``trio.from_thread.run_sync(counter.inc_nowait, key)``. To call it
        there directly is a mistake, and mostly raises RuntimeError. Not always: a thread is not
        told from another where this thread has counted on the key since the last flush, because
        that alone would take a third as long as counting; a count may then get lost.

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
            tally = self._ledger.tallies.get(key)
        except TypeError:  # not hashable, so no key: `_tally` says so
            tally = None
        if tally is not None and type(count) is int:
            delta = tally.delta + count
            if tally.low <= delta and delta <= tally.high:  # noqa: PLR1716 - chained it is slower
                tally.delta = delta
                return
        self._add(self._tally(key), checked_count(count))

    def dec_nowait(self, key: str, count: int = 1) -> None:
        """Take ``count`` from this instance's slice, in memory; see `inc_nowait`."""
        self.inc_nowait(key, -checked_count(count))

    def get_nowait(self, key: str) -> CounterValue:
        """Return the local view, however old. Not a checkpoint.

        It contains everything counted here (I8).

        Raises:
            trio.WouldBlock: The key has never been read from the store: what others count is not
                known, whatever was counted here. ``await counter.get(key)`` reads it.
            InvalidKeyError: Not a key.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        tally = self._tally(key)
        if not tally.known:
            raise trio.WouldBlock(
                f"the store has not said yet what others count on {key!r}, so that only the own "
                "slice is known: `await counter.get(key)` asks it"
            )
        tally.used = True
        return tally.value

    def _tally(self, key: str) -> Tally:
        self._actor.check_open()
        return self._ledger.tally(checked_name(key), self._actor.now())

    def _add(self, tally: Tally, count: int) -> None:
        delta = tally.delta + count
        self._check(tally, delta, count)
        tally.delta = delta
        if not tally.dirty:
            self._ledger.touch(tally)

    def _check(self, tally: Tally, delta: int, count: int) -> None:
        if not tally.admits(delta):
            raise CounterOverflowError(
                f"{count} more on {tally.key!r} would take the slice or the cumulative out of "
                "the signed 64-bit range; nothing was changed"
            )

    def _replace(self, tally: Tally, count: int) -> None:
        self._check_replacing(tally, count)
        self._ledger.replace(tally, count)

    def _check_replacing(self, tally: Tally, count: int) -> None:
        cumulative, own = tally.value
        if not fits(cumulative - own + count):
            raise CounterOverflowError(
                f"{count} on {tally.key!r} would take the cumulative out of the signed 64-bit "
                "range; nothing was changed"
            )

    # ---------------------------------------------------------------- operations

    async def inc(self, key: str, count: int = 1) -> CounterValue:
        """Add ``count`` to this instance's slice, in memory; return the local view after.

        The first one of a key reads the store before, as `get` does. A checkpoint; when
        cancelled, nothing was counted. Raises what `inc_nowait` raises.
        """
        count = checked_count(count)
        await self._actor.wait_open()
        tally = self._tally(key)
        if tally.known or tally.asked:
            await trio.lowlevel.checkpoint()
        else:
            tally.asked = True
            await self._refresh(tally)
        await self._actor.wait_open()
        tally = self._tally(key)
        self._add(tally, count)
        return tally.value

    async def get(self, key: str) -> CounterValue:
        """Return the local view, at most ``allowed_lag`` seconds old if the store is there.

        A value that is older is read from the store first, waiting for it ten times
        ``allowed_lag``, or as long as answers take of late if that is longer. For a key never
        read it waits until the store has answered, or is known to be away. After that the answer
        is what is known here, which is 0 for a key never read. It contains everything counted
        here, and never dips while a flush is on its way (I8). A checkpoint; cancelling it leaves
        nothing behind.

        Raises:
            InvalidKeyError: Not a key.
            InstanceConflictError: Another counter has taken over.
            CounterClosedError: The counter is not running.
        """
        await self._actor.wait_open()
        tally = self._tally(key)
        if trio.current_time() - tally.read_at <= self._allowed_lag:
            await trio.lowlevel.checkpoint()
        else:
            found = await self._refresh(tally)
            if found and self._ledger.find(key) is not tally:
                return CounterValue(*found)  # it was forgotten while we waited
            tally = self._tally(key)
        return tally.value

    async def set_on_instance(self, key: str, count: int) -> CounterValue:
        """Make this instance's slice ``count``, in memory; return the local view after.

        A checkpoint; when cancelled, nothing was changed. Raises what `inc_nowait` raises.
        """
        count = checked_count(count)
        checked_name(key)
        self._actor.check_task()
        await trio.lowlevel.checkpoint()
        await self._actor.wait_open()
        tally = self._tally(key)
        self._replace(tally, count)
        return tally.value

    async def inc_all(self, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        """Add to this instance's slices of several keys, in memory: all or none.

        Keys that were never read are read from the store before, as `inc` does. A checkpoint;
        when cancelled, nothing was counted. Raises what `inc_nowait` raises.
        """
        wanted = checked_counts(counts)
        await self._know(wanted)
        tallies = [(self._tally(key), count) for key, count in wanted.items()]
        for tally, count in tallies:
            self._check(tally, tally.delta + count, count)
        for tally, count in tallies:
            self._add(tally, count)
        return {tally.key: tally.value for tally, _ in tallies}

    async def set_all_on_instance(self, counts: Mapping[str, int]) -> dict[str, CounterValue]:
        """Replace this instance's slices of several keys, in memory: all or none.

        A checkpoint; when cancelled, nothing was changed. Raises what `inc_nowait` raises.
        """
        wanted = checked_counts(counts)
        self._actor.check_task()
        await trio.lowlevel.checkpoint()
        await self._actor.wait_open()
        tallies = [(self._tally(key), count) for key, count in wanted.items()]
        for tally, count in tallies:
            self._check_replacing(tally, count)
        for tally, count in tallies:
            self._replace(tally, count)
        return {tally.key: tally.value for tally, _ in tallies}

    async def get_all(self, keys: Iterable[str]) -> dict[str, CounterValue]:
        """Return the local views of several keys, as `get` does that of one.

        If one of them is too old, all that are are read from the store, up to 1000 in one
        step. A checkpoint; cancelling it leaves nothing behind. Raises what `get` raises, and
        `TypeError` for a single string.
        """
        wanted = checked_names(keys)
        await self._actor.wait_open()
        now = trio.current_time()
        old = [key for key in wanted if now - self._tally(key).read_at > self._allowed_lag]
        found = await self._read(old)
        return {key: self._view(key, found) for key in wanted}

    async def _know(self, keys: Iterable[str]) -> None:
        """Read keys that nobody has asked the store for. A checkpoint."""
        await self._actor.wait_open()
        new = [self._tally(key) for key in keys]
        new = [tally for tally in new if not (tally.known or tally.asked)]
        for tally in new:
            tally.asked = True
        await self._read([tally.key for tally in new])
        await self._actor.wait_open()

    async def _read(self, keys: Sequence[str]) -> dict[str, CounterValue]:
        """Ask the store for its word on keys, and go without it after a while. A checkpoint."""
        entries = [Entry(Kind.ADD, key, 0) for key in keys]
        found: Sequence[Before | Declined] = ()
        # What the store refuses is logged by the actor, who goes on trying: the local view serves.
        with self._reading(keys), suppress(StoreError):
            found = await self._in_steps(entries)
        return values_after(entries, found) if found else {}  # noqa: ASYNC910 - `_in_steps` is one

    def _view(self, key: str, found: Mapping[str, CounterValue]) -> CounterValue:
        tally = self._ledger.find(key)
        if tally is None or not tally.known:  # perhaps forgotten while we waited
            return found.get(key) or self._tally(key).value
        return tally.value

    # ---------------------------------------------------------------------- holds

    async def _enter_hold(self, hold: Hold, condition: Condition | None) -> CounterValue | None:
        if condition is not None:
            return await self._enter_alone(hold, condition)
        await self.inc(hold.key, 0)
        tally = self._tally(hold.key)
        self._add(tally, hold.count)
        tally.hold(hold)
        return tally.value

    def _own_slice(self, key: str, stored: int) -> int:
        tally = self._ledger.find(key)
        if tally is None:
            return stored
        replaced = tally.assign is not None or tally.flight_assign is not None
        counted = tally.value.instance_count
        return counted if tally.known or replaced else stored + counted

    def _own_keys(self) -> set[str]:
        tallies = self._ledger.tallies.values()
        counted = {tally.key for tally in tallies if tally.value.instance_count}
        return super()._own_keys() | counted

    async def flush(self) -> None:
        """Wait until all that was counted before the call is in the store. A checkpoint.

        It does not wait for ``flush_interval``. When cancelled, the counts stay pending, and
        are sent as ever.

        Raises:
            CounterOverflowError: The store had to refuse counts, now or since the last
                flush; they are lost (P32).
            StoreError: The store refuses; the counts stay pending.
            InstanceConflictError: Another counter has taken over; the counts are void.
            CounterClosedError: The counter is not running; what a stop could not send is
                lost, and said by `run` and `aclose`.
        """
        await self._actor.flush()

    async def _refresh(self, tally: Tally) -> tuple[int, int] | None:
        """Ask the store for its word on a key, and go without it after a while."""
        found: tuple[int, int] | None = None
        # What the store refuses is logged by the actor, who goes on trying: the local view serves.
        with self._reading([tally.key]), suppress(StoreError):
            found = await self._actor.ask(Operation(Kind.ADD, tally.key))
        return found  # noqa: ASYNC910 - `ask` is a checkpoint, refused or not

    def _reading(self, keys: Sequence[str]) -> AbstractContextManager[None]:
        """Return a block that is given up when it has taken too long to read ``keys``."""
        tallies = self._ledger.tallies
        known = all(key in tallies and tallies[key].known for key in keys)
        steps = -(-len(keys) // MAX_ENTRIES)
        return self._actor.reading(_PATIENCE * self._allowed_lag, known=known, steps=steps)


@final
class BoundLaxCounter(BoundCounter):
    """Every operation of a lax counter on one key, without the key. Made by ``counter.bind``."""

    __slots__ = ("_lax", "_ledger", "_tally")

    def __init__(self, counter: LaxInstanceAwareCounter, key: str) -> None:
        super().__init__(counter, key)
        self._lax = counter
        self._ledger = counter._ledger  # pyright: ignore[reportPrivateUsage] - for speed
        self._tally = Tally(key)
        self._tally.retire()

    def inc_nowait(self, count: int = 1) -> None:
        """See `LaxInstanceAwareCounter.inc_nowait`."""
        if type(count) is int:
            tally = self._tally
            delta = tally.delta + count
            if tally.low <= delta and delta <= tally.high:  # noqa: PLR1716 - ditto
                tally.delta = delta
                return
        self._lax.inc_nowait(self.key, count)
        self._tally = self._lax._tally(self.key)  # pyright: ignore[reportPrivateUsage] - ditto

    def dec_nowait(self, count: int = 1) -> None:
        """See `LaxInstanceAwareCounter.dec_nowait`."""
        self.inc_nowait(-checked_count(count))

    def get_nowait(self) -> CounterValue:
        """See `LaxInstanceAwareCounter.get_nowait`."""
        return self._lax.get_nowait(self.key)
