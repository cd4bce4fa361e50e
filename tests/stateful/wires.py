"""What passes between counters and store, watched at both ends.

A `Tap` sits at the counter's end of a faulty network, the `Meter` at the store's end; if there are
several parts, one for each (`tests.stateful.ends`). From
what the store executed, and when, the meter tells whose slices must be counted now (I5),
whose must not (I3), and of whom nobody can say. Both ends are in one file, as they take in the same
requests and replies.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, TypeVar

import trio

from distkit_actors import Store
from distkit_actors._errors import StoreError, StoreUnavailableError
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    Kind,
    MustResume,
    Open,
    Opened,
    Previous,
    Reply,
    Request,
    Resume,
)
from distkit_actors._stores._contract import Link, Subscription
from tests.stateful.clock import StoreClock
from tests.stateful.host import Traffic

T = TypeVar("T")

THRESHOLD, INTERVAL = 6.0, 2.0
#: Seconds after which an answer is late: less than faults may last.
_PATIENCE = 1.0
#: The store does not write every sign of life down, nor is it precise to the microsecond.
SLACK = THRESHOLD / 50

PRESENT, UNSURE, ABSENT = "present", "unsure", "absent"


class Heard(NamedTuple):
    """What a meter had heard at some time."""

    present: frozenset[str]  # who may have been counted
    at: float  # anybody, at last
    last: dict[str, float]
    unobserved: float
    unobserved_by: dict[str, float]


class Meter(Store):
    """The store's end: counts what is going on, and keeps track of who is alive."""

    def __init__(self, inner: Store, traffic: Traffic, clock: StoreClock) -> None:
        self._inner = inner
        self.traffic = traffic
        self.clock = clock
        self._backs = 0  # jumps back of the clock before anybody was heard last
        self.steps = 0  # executed so far, by anybody
        self.violations: list[str] = []
        self.lenient = False  # a documented limit was passed: somebody may have to resume
        self.flickered: set[str] = set()  # came back, perhaps after having been reaped
        self._last: dict[str, float] = {}  # when each was heard
        self._sure_until: dict[str, float] = {}
        self._graced: set[str] = set()  # who has had a fresh threshold since it was heard
        self._late_steps: dict[str, int] = {}  # steps of others since it may be reaped
        self._doomed: set[str] = set()  # that somebody has asked to forget
        self._absent: set[str] = set()
        self.awaited: set[str] = set()  # who may still tell the store of a clear that it lost
        self._again: set[str] = set()  # who has to resume once more after that
        self.lost: set[str] = set()  # not heard since the store lost everything
        self._heard = -math.inf  # anybody
        self._grace = -math.inf  # when a fresh threshold may have begun last, for anybody silent
        self._unobserved = 0.0  # what blackouts may have taken from observed time, at the most
        self._unobserved_by: dict[str, float] = {}  # the same, when each was heard

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        """Return a link that is watched."""
        async with self._busy_at_the_end(self._inner.link(prefix)) as link:
            yield _Wire(link, self._enter, self._exit)

    @asynccontextmanager
    async def subscribe(self, prefix: str) -> AsyncIterator[Subscription | None]:
        """Return subscriptions that are busy while they connect, and not while they wait."""
        async with self._busy_at_the_end(self._inner.subscribe(prefix)) as subscription:
            yield None if subscription is None else _Ear(subscription, self._enter, self._exit)

    @asynccontextmanager
    async def _busy_at_the_end(self, block: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        """Count as busy while the block is left, which takes time."""
        closing = False
        try:
            async with block as opened:
                try:
                    yield opened
                finally:
                    closing = True
                    self._enter()
        finally:
            if closing:
                self._exit()

    def status(self, who: str) -> str:
        """Tell whether the slices of ``who`` are counted at this moment."""
        if who in self._absent:
            return ABSENT
        if self.awaited or who in self._again:
            return UNSURE
        return PRESENT if self.clock.steady() <= self._sure_until[who] else UNSURE

    def await_no_more(self, who: str) -> None:
        """``who`` has told the store of a clear that it lost, or never will."""
        if self.awaited:
            self.awaited.discard(who)
            if not self.awaited:
                self._again = set(self._last) - self._absent

    def doubt(self, who: str) -> None:
        """``who`` may have left."""
        self._sure_until[who] = -math.inf

    def wiped(self, alive: Collection[str], *, cleared: bool) -> None:
        """The store lost everything: nobody is counted until heard again.

        If a `clear` was lost, those who come back before one who knows of it have to come
        back a second time.
        """
        if cleared:
            self.awaited = set(alive)
        self.lost = set(alive)
        self._absent.update(self._last)
        self._sure_until = dict.fromkeys(self._sure_until, -math.inf)
        self._heard = self._grace = -math.inf

    def heard(self) -> Heard:
        """Return what it has heard up to now, as the store has it too."""
        present = frozenset(self._last.keys() - self._absent)
        return Heard(
            present, self._heard, dict(self._last), self._unobserved, dict(self._unobserved_by)
        )

    def went_back(self, heard: Heard, alive: Collection[str], *, cleared: bool) -> None:
        """The store has again what it had then: nobody knows who is counted, and with what."""
        self.wiped(alive, cleared=cleared)
        self._absent -= heard.present
        self._last.update(heard.last)
        self._late_steps.update(dict.fromkeys(self._late_steps, 0))
        self._heard, self._grace = heard.at, self.clock.steady()
        self._unobserved = heard.unobserved
        self._unobserved_by.update(heard.unobserved_by)

    def _enter(self, request: Request | None = None) -> None:
        self.traffic.begin()
        if isinstance(request, Apply):
            # Its answer may never be seen here, and it may have been done all the same.
            self._doomed |= {e.key for e in request.entries if e.kind is Kind.FORGET}

    def _exit(self, request: Request | None = None, reply: Reply | Exception | None = None) -> None:
        self.traffic.end()
        match request, reply:
            case Open(), Opened():
                self._executed(request.instance)
            case ((Apply() | Resume()), Applied()) if reply.journal is not None:
                goes_on = isinstance(request, Apply) or not request.first
                self._executed(request.instance, goes_on=goes_on)
                self._forgotten(request, reply)
                if isinstance(request, Apply) and request.leave:
                    self._absent.add(request.instance)
                elif isinstance(request, Apply) and request.budget:
                    self._reaped_by(request.instance)
            case ((Apply() | Resume()), Applied()):
                self._repeated(request.instance)
            case ((Apply() | Resume()), MustResume()):
                doomed = request.instance in self._doomed
                self._doomed.discard(request.instance)
                if self.status(request.instance) == PRESENT and not (self.lenient or doomed):
                    self.violations.append(f"{request.instance} was reaped while it lived")
            case _:
                pass

    def _hear(self, who: str, *, goes_on: bool) -> None:
        """Take down when ``who`` was heard, and what the silent have of it.

        Args:
            goes_on: it has lived by its last sign of life up to now.
        """
        now = self.clock.steady()
        gap = now - self._heard
        # A step that was held up gives the silent a fresh threshold, too (P42, overload). It is
        # held up if its instance was silent for longer than half-way from one interval to the
        # threshold less an interval (P24, blackout).
        held_up = goes_on and now - self._last[who] > THRESHOLD / 2 - SLACK
        if self.clock.backs > self._backs:
            # Nobody knows how much of the gap counts.
            self._backs, self._grace = self.clock.backs, now
            self._unobserved += gap if math.isfinite(gap) else 0.0
        elif gap > THRESHOLD - INTERVAL + SLACK and math.isfinite(gap):
            # A blackout (I5): who was counted before it has one fresh threshold. For who has had
            # that it counts as one interval at the most.
            for each, sure in self._sure_until.items():
                if each not in self._absent and sure >= self._heard:
                    fresh = now + THRESHOLD - SLACK
                    late = sure + gap - INTERVAL - SLACK
                    self._sure_until[each] = min(fresh, late) if each in self._graced else fresh
                    self._graced.add(each)
        if gap > INTERVAL + SLACK or held_up:
            self._grace = now
        if gap > INTERVAL + SLACK and math.isfinite(gap):
            self._unobserved += gap - INTERVAL
        self._heard = self._last[who] = now
        self._unobserved_by[who] = self._unobserved
        self._late_steps[who] = 0

    def _repeated(self, who: str) -> None:
        """``who`` has sent a batch once more: a sign of life if it was alive (P42, overload)."""
        if who in self._absent:
            return
        self._hear(who, goes_on=True)
        now = self.clock.steady()
        if now <= self._sure_until[who]:
            self._sure_until[who] = now + THRESHOLD - SLACK
            self._graced.discard(who)
        else:
            self._grace = now  # if it was dead, nobody was heard now: the gap may be longer

    def _executed(self, who: str, *, goes_on: bool = False) -> None:
        self._hear(who, goes_on=goes_on)
        now = self.clock.steady()
        if who in self._absent or now > self._sure_until.get(who, -math.inf):
            self.flickered.add(who)
        self._sure_until[who] = now + THRESHOLD - SLACK
        self._graced.discard(who)
        self._absent.discard(who)
        self.lost.discard(who)
        self.steps += 1
        if self.awaited:
            self.await_no_more(who)
        else:
            self._again.discard(who)

    def _forgotten(self, request: Apply | Resume, reply: Applied) -> None:
        """Take in whom somebody had taken for dead before time."""
        entries = request.entries if isinstance(request, Apply) else ()
        for entry, result in zip(entries, reply.results, strict=False):
            if entry.kind is Kind.FORGET and isinstance(result, Previous):
                self._sure_until[entry.key] = -math.inf
                if not result.cumulative:  # how many of its slices are left
                    self._absent.add(entry.key)

    def _reaped_by(self, who: str) -> None:
        now = self.clock.steady()
        for each, last in self._last.items():
            # However many fresh thresholds have begun, it gets one: after two thresholds of
            # observed time, in which three blackouts count as an interval each, it is gone (I3).
            observed = now - last - (self._unobserved - self._unobserved_by[each])
            over = observed > 2 * THRESHOLD + 3 * INTERVAL + SLACK
            over = over or now > max(last, self._grace) + THRESHOLD + SLACK
            if each != who and over:
                self._late_steps[each] += 1
                if self._late_steps[each] >= 3:
                    self._absent.add(each)


class Tap(Store):
    """A counter's end: what it has been told."""

    def __init__(self, inner: Store, meter: Meter, watch: Callable[[], None]) -> None:
        self._inner = inner
        self._meter = meter
        self._watch = watch
        self.waiting = False  # for an answer
        self.settled = True  # nothing it sent is without an answer
        self.answers = 0  # how many it got
        self.heard = 0  # how many steps it knows the outcome of, as to epochs
        self._began = 0

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        """Return a link that is watched."""
        async with self._inner.link(prefix) as link:
            yield _Wire(link, self._enter, self._exit)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription | None]:
        """Return subscriptions as they come."""
        return self._inner.subscribe(prefix)

    def _enter(self, request: Request | None = None) -> None:
        self._watch()
        self.waiting = True
        self._began = self._meter.steps

    def _exit(self, request: Request | None = None, reply: Reply | Exception | None = None) -> None:
        self._watch()
        self.waiting = False
        match request, reply:
            case Apply(), Applied():
                self.settled = True
                self.answers += 1
                if reply.journal is not None:
                    self.heard = max(self.heard, self._began)
            case (Apply() | Resume(), StoreUnavailableError() | Applied() | MustResume() | None):
                self.settled = False
            case _:
                pass


class _Wire(Link):
    def __init__(
        self,
        inner: Link,
        enter: Callable[[Request | None], None],
        leave: Callable[[Request | None, Reply | Exception | None], None],
    ) -> None:
        self._inner = inner
        self._enter = enter
        self._exit = leave
        self._sent: Request | None = None  # by a caller, that waits for its answer …
        self._heard: Reply | StoreError | None = None  # … which is here
        self._waiting = trio.CancelScope()

    async def connect(self) -> None:
        self._enter(None)
        try:
            await self._inner.connect()
        finally:
            self._exit(None, None)

    async def receive(self, request: Request) -> Reply:
        heard, self._heard = self._heard, None
        if heard is not None and request is self._sent:
            await trio.lowlevel.checkpoint()
            if isinstance(heard, StoreError):
                raise heard
            return heard
        return await self._ask(request)

    async def _ask(self, request: Request) -> Reply:
        self._enter(request)
        answer: Reply | Exception | None = None
        try:
            answer = await self._inner.exchange(request)
        except StoreError as error:
            answer = error
            raise
        else:
            return answer
        finally:
            self._exit(request, answer)

    @property
    def connected(self) -> bool:
        return self._inner.connected

    async def inspect(self) -> tuple[str, ...]:
        self._enter(None)
        try:
            return await self._inner.inspect()
        finally:
            self._exit(None, None)

    @property
    def patience(self) -> float:
        return _PATIENCE

    @property
    def can_send_nowait(self) -> bool:
        return self.connected

    def send_nowait(self, request: Request) -> None:
        """Nothing goes without waiting, and yet it is made up and has its place.

        P38, lone operation.
        """
        self._sent, self._heard = request, None

    def wait_answer(self) -> Awaitable[None]:
        """Here it is sent, too."""
        return self._wait()

    async def _wait(self) -> None:
        assert self._sent is not None
        with trio.CancelScope() as self._waiting:
            try:
                self._heard = await self._ask(self._sent)
            except StoreError as error:
                self._heard = error

    def receive_nowait(self, request: Request) -> Reply | None:
        assert request is self._sent
        return None if isinstance(self._heard, StoreError) else self._heard

    def interrupt(self) -> None:
        self._waiting.cancel()


class _Ear(Subscription):
    def __init__(
        self, inner: Subscription, enter: Callable[[], None], leave: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._enter = enter
        self._exit = leave

    async def connect(self) -> None:
        self._enter()
        try:
            await self._inner.connect()
        finally:
            self._exit()

    async def wait(self) -> frozenset[str] | None:
        return await self._inner.wait()
