"""What a lax counter has counted and the store has not acknowledged yet (P29 … P32).

For each key it keeps a `BufferedKey`; here is which of them have something to send, and what
becomes of that.

This file is a little longer than others. All its methods keep the same few lists in step (which
keys are dirty, sent, staged, idle), and these are better seen on one page.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from .._protocol._messages import Entry, Previous, Rejection, Result, Slice
from .._protocol._values import fits
from ._buffered_key import NEVER, BufferedKey
from ._holds import Hold


class Settled(NamedTuple):
    """What became of counts that were sent."""

    keys: list[str]
    """Keys whose counts are settled: whoever waits for a flush waits for one less."""
    dropped: list[str]
    """Keys whose counts the store had to refuse."""
    committed: list[Hold]
    """Holds whose additions are in the store, or share the fate of the own slice.

    P20, doubtful batch.
    """
    released: list[Hold]
    """Holds whose additions have been taken back."""
    deferred: list[Hold]
    """Holds whose additions the store has no room to take back now."""


class _Clear(NamedTuple):
    """The last clear."""

    own: Callable[[str], int]
    """What the own slice of a key is."""
    by_us: bool
    at: float
    read_at: float


def _nothing(_: str) -> int:
    return 0


class WriteBuffer:
    """The buffered keys of one lax counter, and which of them have something to send."""

    def __init__(self, on_dirty: Callable[[str], None]) -> None:
        # ``on_dirty`` is called when a key gets something to send, once for each key and flush.
        # That happens in many places, also in `inc_nowait`, where nobody can wait for a task.
        self.buffered_keys: dict[str, BufferedKey] = {}
        self.refused: dict[str, int] = {}  # {key: counts the store had to refuse}
        #: Seconds by which the values of the answer that is taken in are older than that answer.
        self.behind = 0.0
        self._on_dirty = on_dirty
        # Ordered dicts: the first item of a plain one is found behind the places of all removed.
        self._dirty: OrderedDict[str, BufferedKey] = OrderedDict()  # as they were first touched
        self._sent: list[BufferedKey] = []  # in the order of their entries
        self._staged: list[BufferedKey] = []  # void if the clear on its way succeeds
        # Buffered keys with nothing to send, and no own slice at the last clear, that nobody has
        # looked at since.
        self._before: dict[str, BufferedKey] = {}
        self._clear = _Clear(_nothing, by_us=True, at=0.0, read_at=0.0)
        self._idle: OrderedDict[str, float] = OrderedDict()  # {key without a slice: since when}

    @property
    def dirty(self) -> int:
        """How many keys have something to send."""
        return len(self._dirty)

    @property
    def pending(self) -> int:
        """How many keys have counts that are not acknowledged. Any thread may ask."""
        return len(self._unacknowledged())

    @property
    def counted(self) -> int:
        """How many keys have such counts that are no beginnings or ends of holds."""
        return sum(buffered.counted for buffered in self._unacknowledged())

    def _unacknowledged(self) -> set[BufferedKey]:
        # Each is copied at once: the counter's thread may go on meanwhile.
        flight, dirty = (*tuple(self._sent), *tuple(self._staged)), tuple(self._dirty.values())
        # Counts of a dirty key may have cancelled each other out.
        return {*flight, *(buffered for buffered in dirty if buffered.pending)}

    def has_pending(self, key: str) -> bool:
        """Whether there is something to send of ``key``."""
        buffered = self._dirty.get(key)
        return buffered is not None and buffered.pending

    def unsettled(self) -> dict[BufferedKey, int]:
        """Return what is pending or in flight, and what settles it (`BufferedKey.sent`)."""
        numbers = {buffered: buffered.sent + 1 for buffered in self._dirty.values()}
        for buffered in (*self._sent, *self._staged):
            numbers.setdefault(buffered, buffered.sent)
        return numbers

    def buffered(self, key: str, now: float) -> BufferedKey:
        """Return the buffered key of ``key``, a new one if need be."""
        buffered = self.find(key)
        if buffered is None:
            buffered = self.buffered_keys[key] = BufferedKey(key)
            self._idle[key] = now
        return buffered

    def find(self, key: str) -> BufferedKey | None:
        """Return the buffered key of ``key`` if there is one."""
        buffered = self.buffered_keys.get(key)
        if buffered is None and key in self._before:
            buffered = self.buffered_keys[key] = self._before.pop(key)
            self._void(buffered, self._clear)
            self._rest(buffered, self._clear.at)
        return buffered

    def touch(self, buffered: BufferedKey) -> None:
        """Note that ``buffered`` has something to send."""
        # First of all, and before it has: a key that only says so itself would never be sent, if an
        # interrupt by the keyboard came in between.
        self._dirty[buffered.key] = buffered
        buffered.dirty = True
        buffered.update_bounds()
        self._on_dirty(buffered.key)

    def replace(self, buffered: BufferedKey, value: int) -> None:
        """Make the own slice of a key ``value``, whatever it was and whatever is pending."""
        if not buffered.dirty:
            self.touch(buffered)
        buffered.replace(value)

    # ------------------------------------------------------------------- sending

    def send(
        self,
        limit: int,
        now: float,
        own: Mapping[str, Slice],
        first: Iterable[str] = (),
        apart: Container[str] = (),
    ) -> tuple[list[Entry], list[str]]:
        """Put pending counts in flight: those of the keys ``first``, and of others up to ``limit``.

        ``own`` has the slices in the store; keys in ``apart`` are left out. Returns the entries,
        and the keys whose counts had cancelled each other out.
        """
        chosen = {key: self._dirty[key] for key in first if key in self._dirty}
        for key, buffered in self._dirty.items():
            if len(chosen) >= limit:
                break
            if key not in apart:
                chosen[key] = buffered
        entries: list[Entry] = []
        nothing: list[str] = []
        for key, buffered in chosen.items():
            del self._dirty[key]
            buffered.dirty = False
            buffered.update_bounds()
            entry = buffered.send(own.get(key))
            if entry is None:
                nothing.append(key)
                self._rest(buffered, now)
            else:
                entries.append(entry)
                self._sent.append(buffered)
            if buffered.pending:
                self.touch(buffered)
        return entries, nothing

    def stage(self) -> None:
        """Put everything pending in flight without sending it: a clear will make it void.

        P30, immediate operations.
        """
        for buffered in self._dirty.values():
            buffered.dirty = False
            buffered.stage()
            buffered.update_bounds()
            self._staged.append(buffered)
        self._dirty.clear()

    # ------------------------------------------------------------------- settling

    def settle(self, results: Sequence[Result], now: float) -> Settled:
        """Take in what became of what `send` gave out."""
        settled = Settled([], [], [], [], [])
        sent, self._sent = self._sent, []
        for buffered, result in zip(sent, results, strict=True):
            if result is Rejection.RETRY or result is Rejection.MOVED:
                self._back(buffered)
                continue
            settled.keys.append(buffered.key)
            if buffered.flight_releases and result is not Rejection.REFUSED:
                settled.released.extend(buffered.flight_releases)
            if buffered.flight_replaced and result is not Rejection.REFUSED:
                settled.released.extend(buffered.flight_replaced)
            if isinstance(result, Previous):
                if buffered.flight_holds:
                    settled.committed.extend(buffered.flight_holds)
                own = result.slice if buffered.flight_assign is None else buffered.flight_assign
                own += buffered.flight_delta
                buffered.acknowledge()
                buffered.base(result.cumulative - result.slice + own, own, now - self.behind)
                self._rest(buffered, now)
            else:
                # With `Rejection.UNKNOWN` the counts shared the fate of the slice they were
                # folded into: it is void since the key moved, or withheld until it fits.
                if result is Rejection.REFUSED:
                    self._refuse(buffered, settled)
                else:
                    settled.committed.extend(buffered.flight_holds)
                buffered.acknowledge()
                buffered.read_at = NEVER
                buffered.update_bounds()
                self._rest(buffered, now)
        return settled

    def _refuse(self, buffered: BufferedKey, settled: Settled) -> None:
        """Drop refused counts (P32, refused counts), but try releases again."""
        # Those that the refused value was to replace are still in the slice.
        settled.deferred.extend((*buffered.flight_replaced, *buffered.flight_releases))
        amount = buffered.flight_delta + (buffered.flight_assign or 0)
        amount += sum(hold.count for hold in buffered.flight_releases)
        for hold in buffered.flight_holds:
            hold.void = True
            buffered.void(hold)
        if amount or buffered.flight_assign is not None:
            self.refused[buffered.key] = self.refused.get(buffered.key, 0) + amount
            settled.dropped.append(buffered.key)

    def unsend(self) -> None:
        """Make everything in flight pending again: the store has refused it, or it is the end.

        Something in front of the store may say so wrongly (P39, unique numbers).
        """
        sent, self._sent = self._sent, []
        for buffered in sent:
            for hold in buffered.flight_releases:
                hold.end_refused = True
            self._back(buffered)

    def end_stage(self, *, void: bool, now: float, but: Collection[str] = ()) -> Settled:
        """End what `stage` began.

        ``void``: the clear succeeded, so what was staged is void, ``but`` in these keys.
        """
        settled = Settled([], [], [], [], [])
        staged, self._staged = self._staged, []
        for buffered in staged:
            if void and buffered.key not in but:
                settled.keys.append(buffered.key)
                settled.committed.extend(buffered.flight_holds)
                settled.released.extend((*buffered.flight_replaced, *buffered.flight_releases))
                buffered.acknowledge()
                buffered.update_bounds()
                self._rest(buffered, now)
            else:
                self._back(buffered)
        return settled

    def _back(self, buffered: BufferedKey) -> None:
        buffered.take_back()
        buffered.update_bounds()
        self.touch(buffered)

    # --------------------------------------------------------------------- holds

    def give_back(self, hold: Hold) -> None:
        """Take an addition back with the next flush; at once in the local view."""
        if not hold.void:
            buffered = self.buffered(hold.key, NEVER)
            buffered.give_back(hold)
            if buffered.dirty:
                buffered.update_bounds()
            else:
                self.touch(buffered)

    def cancel_release(self, hold: Hold) -> bool:
        """Undo `give_back`, if that is not on its way; False if it is too late."""
        buffered = self.buffered_keys.get(hold.key)
        if buffered is None or hold not in buffered.unsent_releases:
            return False
        buffered.void(hold)
        buffered.update_bounds()
        return True

    def void(self, hold: Hold) -> None:
        """Note that a hold has nothing to take back any more."""
        if hold.key in self.buffered_keys:
            self.buffered_keys[hold.key].void(hold)

    # ---------------------------------------------------------- the store's word

    def read(self, key: str, cumulative: int, own: int, now: float) -> None:
        """Take in the values that an operation in the store has found for ``key``.

        The key has a view from now on, though no lax count was made on it: what somebody here has
        seen is known (I8, own reads).
        """
        buffered = self.buffered(key, now)
        buffered.base(cumulative, own, now - self.behind)
        self._rest(buffered, now)

    def moved(self, key: str, own: int, now: float) -> None:
        """Note that somebody moved the epoch of ``key``, so that the store's last value is void.

        P31, void words.
        """
        buffered = self.find(key)
        if buffered is not None and buffered.has_base:
            # What others have now is not known; what the move has taken from here is.
            cumulative = buffered.cumulative - buffered.own + own
            buffered.base(cumulative if fits(cumulative) else own, own, NEVER)
            self._rest(buffered, now)

    def cleared(
        self, own: Callable[[str], int], *, by_us: bool, now: float, left: Iterable[str] = ()
    ) -> None:
        """Note that every key's epoch was moved; in the keys ``left`` is an own slice.

        There may be very many keys. Those with nothing to send and no slice are changed only when
        somebody looks at them (`find`). Those that nobody has looked at since the last clear are
        forgotten.
        """
        self._clear = _Clear(own, by_us, now, now - self.behind if by_us else NEVER)
        self._before, self.buffered_keys = self.buffered_keys, {}
        self._idle = OrderedDict()
        with_slice = [self._before[key] for key in left if key in self._before]
        for buffered in (*with_slice, *self._dirty.values(), *self._sent, *self._staged):
            self._before.pop(buffered.key, None)
            self.buffered_keys[buffered.key] = buffered
            self._void(buffered, self._clear)
            self._rest(buffered, now)

    def _void(self, buffered: BufferedKey, clear: _Clear) -> None:
        if clear.by_us or buffered.has_base:
            own = clear.own(buffered.key)
            buffered.base(own, own, clear.read_at)

    # -------------------------------------------------------------------- bounds

    def _rest(self, buffered: BufferedKey, now: float) -> None:
        """Remember since when the store has all of a buffered key."""
        self._idle.pop(buffered.key, None)
        if not (buffered.own or buffered.dirty):
            self._idle[buffered.key] = now

    def close(self) -> None:
        """Let nothing more be counted; what is pending stays to be reported."""
        for buffered in self._dirty.values():  # all others are retired
            buffered.invalidate()
        self.buffered_keys, self._before, self._idle = {}, {}, OrderedDict()

    def forget_idle(self, now: float, patience: float, limit: int = 1000) -> None:
        """Forget keys that have had no slice and no use for ``patience`` seconds (I10, bounds)."""
        if self._before and self._clear.at <= now - patience:
            self._before = {}
        for _ in range(min(limit, len(self._idle))):
            key, since = next(iter(self._idle.items()))
            if since > now - patience:
                break
            buffered = self.buffered_keys[key]
            del self._idle[key]
            if buffered.used:
                buffered.used = False
                self._idle[key] = now
            elif not (buffered.own or buffered.dirty or buffered.in_flight):
                del self.buffered_keys[key]
                buffered.invalidate()
