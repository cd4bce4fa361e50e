"""Random histories of a limit that a fleet shares, and the rules about it.

Whoever comes in, or waits while others come in, is compared with what `docs/semantics.md` and
`docs/guarantees.md` promise of a `FleetLimiter`; the store is compared with who is inside and who
waits. A promise is held as far as it goes: tokens of a counter that may have been taken for dead
are in nobody's way, and the order says nothing of arrivals that are close together.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from distkit_actors import CounterClosedError, FleetLimiter, StoreError
from tests.stateful.fleet import Member
from tests.stateful.fleet_rules import FAULTS, MOST_MEMBERS, TROUBLES, WHO, FleetRules
from tests.stateful.history import TICK
from tests.stateful.wires import ABSENT, INTERVAL, PRESENT, THRESHOLD

SEATS = "seats"
TICKETS, WAITING = f"limiter:tickets:{SEATS}", f"limiter:waiting:{SEATS}"

#: Visitors who wait at the same time.
MOST_WAITING = 8
#: Seconds for which a process may hand tokens on, and a second more.
LONGEST_TURN = 3.0
#: Seconds by which what a counter knows of the store's clock may be wrong, and some more.
ACCURACY = 1.5
#: Seconds without trouble after which no notice that was lost matters any more.
CALM = 8.0

WHICH = st.integers(0, 9)
DEED = st.sampled_from(
    [
        *("ask", "ask", "ask", "ask", "ask", "ask", "ask_for_two", "ask_at_once"),
        *("release", "release", "release", "release", "give_up", "give_up", "total", "usage"),
        *("hold_replies", "trouble", "fault", "refuse", "mend", "mend", "mend"),
    ]
)
#: Most come to the same few, so that there is a line.
WHERE = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4])
SECONDS = st.sampled_from([0.0, 0.0, TICK, TICK, 0.3, 0.3, 2.0, THRESHOLD + 1.0])
#: Of the scheduler; a question and its answer take six.
STEPS = st.integers(0, 12)
VISITS = st.lists(st.tuples(DEED, WHERE, WHICH, SECONDS), min_size=4, max_size=12)
MORE = st.sampled_from([0, 0, 1, 2])
RACE = st.lists(
    st.tuples(
        st.sampled_from([*3 * ("ask", "release"), "ask_at_once", "give_up", "total"]),
        st.sampled_from([0, 0, 0, 1]),
        WHICH,
        STEPS,
    ),
    min_size=2,
    max_size=4,
)
RUSH = st.lists(st.tuples(DEED, WHERE, WHICH, STEPS), min_size=4, max_size=12)

_numbers = itertools.count()


class Visitor:
    """Somebody who wants tokens, or has them."""

    def __init__(self, member: Member, limiter: FleetLimiter, count: int, total: int) -> None:
        self.member = member
        self.limiter = limiter
        self.count = count
        self.lowest = total  # that the total has been since
        self.number = next(_numbers)  # in the order in which all came
        self.came = self.entered = trio.current_time()
        self.scope = trio.CancelScope()
        self.timed = True  # its counter knows the store's clock
        self.admitted = False  # by a total that has changed before it could come in
        self.overtaken = math.inf  # when somebody came in who must not have come before it
        self.void = False  # the key has moved since it came in

    def __repr__(self) -> str:
        return f"{self.number}, who came to {self.member} at {self.came:.2f} for {self.count}"


class LimitRules(FleetRules):
    """A history of visitors who share a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.highest = 1
        self.fencing = False
        self.limiters: dict[Member, list[FleetLimiter]] = {}
        self.timed: dict[Member, bool] = {}  # whether its first visitor came without trouble
        self.waiting: list[Visitor] = []
        self.inside: list[Visitor] = []
        self.upset: dict[Member, float] = {}  # when it was in trouble last
        self.doubted: dict[Member, float] = {}  # when it may not have been counted last
        self.fence = 0
        self.wrong: list[str] = []

    # ---------------------------------------------------------- what differs by store

    beginning: float  # milliseconds by the store's clock when a history begins
    prompt = 0.5  # seconds in which the next in line comes in, while there is no trouble

    # ------------------------------------------------------------------------- rules

    @initialize(total=st.integers(1, 3), fencing=st.sampled_from([False, False, False, True]))
    def limit(self, total: int, fencing: bool) -> None:
        """Draw how many may come in."""
        self.total = self.highest = total
        self.fencing = fencing

    @rule(deeds=VISITS)
    def visits(self, deeds: list[tuple[str, int, int, float]]) -> None:
        """Visitors come, go and give up, one after another, and their networks fail."""

        async def run() -> None:
            for deed, who, which, seconds in deeds:
                self._act(deed, who, which)
                await self.judge()
                await self.host.advance(self.traffic, seconds)
            await self._await_the_next()

        self.run(run)

    @rule(deeds=RUSH)
    def rush(self, deeds: list[tuple[str, int, int, int]]) -> None:
        """The same within a few steps of the scheduler."""

        async def run() -> None:
            for deed, who, which, steps in deeds:
                self._act(deed, who, which)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
            await self._await_the_next()

        self.run(run)

    @rule(who=WHO, rounds=st.lists(st.tuples(MORE, RACE), min_size=3, max_size=8))
    def races(self, who: int, rounds: list[tuple[int, list[tuple[str, int, int, int]]]]) -> None:
        """Again and again one process has all tokens, and a few things happen at once."""
        self._mended()

        async def run() -> None:
            for more, deeds in rounds:
                await self._fill(who, more)
                for deed, where, which, steps in deeds:
                    self._act(deed, who + where, which)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                await self._await_the_next()

        self.run(run)

    @rule(
        who=WHO,
        asks=st.integers(1, 2),
        fault=st.sampled_from(["hold_replies", "hold_replies", "hold", "cut"]),
        seconds=st.sampled_from([0.0, 3.0, THRESHOLD + 1.0, THRESHOLD + 5.0]),
        stops=st.booleans(),
    )
    def hear_nothing(self, who: int, asks: int, fault: str, seconds: float, stops: bool) -> None:
        """A process asks, and hears nothing for a while; it stops then, or the answer comes late.

        Others come meanwhile.
        """
        self._mended()
        member = self.member(who)

        async def run() -> None:
            while self.inside:
                self._act("release", who, 0)
            await self.judge()
            self._trouble(member, fault)
            for where, times in ((who, asks), (who + 1, self.total)):
                for _ in range(times):
                    self._act("ask", where, 0)
                await self.judge()
            await self.host.advance(self.traffic, seconds)
            await self.judge()

        self.run(run)
        if stops and len(self.members) > 1:
            self.stop(member)
        else:
            self.heal(who, INTERVAL + TICK)

    @rule(who=WHO, more=MORE, seconds=st.sampled_from([0.0, 4.0]), deeds=VISITS)
    def visits_to_a_full_room(
        self, who: int, more: int, seconds: float, deeds: list[tuple[str, int, int, float]]
    ) -> None:
        """Visits, of which most are in the process that has the tokens."""
        self._mended()
        self.run(partial(self._fill, who, more))
        self.pass_time(seconds)
        self.visits([(deed, who + where, which, pause) for deed, where, which, pause in deeds])

    def _mended(self) -> None:
        """Mend everything, and let it be forgotten."""
        self.heal_all()
        self.pass_time(CALM + TICK)

    async def _fill(self, who: int, more: int) -> None:
        """One process has all tokens, somebody waits elsewhere, and perhaps others here."""
        for where, deed, times in (
            (who, "release", len(self.inside)),
            (who, "ask", self.total),
            (who + 1, "ask", 1),
            (who, "ask", more),
        ):
            for _ in range(times):
                self._act(deed, where, 0)
            await self.judge()

    @rule(who=WHO, how=st.sampled_from(["wipe", "delete", "clear_own"]))
    def start_afresh(self, who: int, how: str) -> None:
        """The key moves, somebody removes all that it has, or the store loses everything (I7).

        All know with their next heartbeat.
        """
        self.pass_time(TICK)

        async def run() -> None:
            await self.judge()
            if not (self._calm(0) and all(member.settled for member in self.members)):
                return
            self.upset.update(dict.fromkeys(self.members, trio.current_time()))
            if how == "wipe":
                await self.lose([0], calm=True)
            else:
                member = self.member(who)
                for visitor in self.inside:
                    visitor.void |= how == "delete" or visitor.member is member
                if how == "delete":
                    await member.counter.delete(SEATS)
                else:
                    await member.counter.clear_on_instance()
            await self.host.advance(self.traffic, INTERVAL + TICK)
            await self.judge()

        self.run(run)

    @precondition(lambda self: self._gone() and len(self.members) < MOST_MEMBERS)
    @rule(which=WHICH, lax=st.booleans())
    def come_back(self, which: int, lax: bool) -> None:
        """One that has stopped, or crashed, starts again."""
        gone = self._gone()
        self.start(gone[which % len(gone)], lax=lax)

    @rule(empty=st.booleans())
    def verify(self, empty: bool) -> None:
        """Mend everything, let everybody be heard, and compare; perhaps let all go."""
        self.recover()
        self._compare()
        while empty and self.inside:
            self.do(partial(self._act, "release", 0, self.chance))
            self.run(self._await_the_next)
            self._compare()
        assert not (empty and self.waiting), f"{self.waiting} wait before an empty room"

    # ------------------------------------------------------------------------- lives

    def stop(self, member: Member) -> None:
        """Stop a counter; those who wait for it are told."""
        super().stop(member)
        self.pass_time(LONGEST_TURN)
        self._forget(member)

    def crash(self, member: Member) -> None:
        """Let a process end with all its visitors."""
        super().crash(member)
        self.pass_time(LONGEST_TURN)
        self.inside = [visitor for visitor in self.inside if visitor.member is not member]
        self._forget(member)

    def _forget(self, member: Member) -> None:
        left = [visitor for visitor in self.waiting if visitor.member is member]
        assert not left, f"nobody tells {left}"
        self.limiters.pop(member, None)

    # ------------------------------------------------------------------------- deeds

    def _act(self, deed: str, who: int, which: int) -> None:
        """Do one thing, if it can be done."""
        member = self.member(who)
        match deed:
            case "ask" | "ask_for_two" if len(self.waiting) < MOST_WAITING:
                count = min(self.total, 1 + (deed == "ask_for_two"))
                self.host.nursery.start_soon(self._visit, member, which, count)
            case "ask_at_once":
                self._ask_at_once(self._visitor(member, which, 1))
            case "release" if self.inside:
                visitor = self.inside.pop(which % len(self.inside))
                visitor.limiter.release_on_behalf_of(visitor)
            case "give_up" if self.waiting:
                self.waiting[which % len(self.waiting)].scope.cancel()
            case "total":
                self._change_total(1 + which % 3)
            case "usage":
                self.host.nursery.start_soon(_usage, self._limiters_of(member)[0])
            case "fault":
                self.fault(who, FAULTS[which % len(FAULTS)], 1)
            case "refuse":
                self._refuse(member, executed=which % 2 == 1)
            case "hold_replies":
                self._trouble(member, deed)
            case "trouble":
                self._trouble(member, TROUBLES[which % len(TROUBLES)])
            case "mend":
                self.upset[member] = self._upset(member)
                member.mend()

    def _change_total(self, total: int) -> None:
        """Tell every process another total; whoever has tokens keeps them."""
        self.total, self.highest = total, max(total, self.highest)
        for visitor in self.waiting:
            visitor.lowest = min(visitor.lowest, total)
            visitor.admitted |= visitor in visitor.limiter.statistics().borrowers
        for limiter in self._limiters():
            limiter.total_tokens = total

    def _refuse(self, member: Member, *, executed: bool) -> None:
        """Let what stands before the store refuse a request, and perhaps wrongly say so."""
        member.planned = True
        member.network.answer(StoreError("OOM"), executed=executed)
        self.meters.parts[0].lenient |= executed  # its counter resumes when it finds that out

    async def _visit(self, member: Member, which: int, count: int) -> None:
        visitor = self._visitor(member, which, count)
        error: Exception | None = None
        self.waiting.append(visitor)
        with visitor.scope:
            try:
                await visitor.limiter.acquire_on_behalf_of(visitor, visitor.count)
            except Exception as raised:  # noqa: BLE001 (judged below)
                error = raised
            else:
                self._come_in(visitor)
        self.waiting.remove(visitor)
        match error:
            case None:
                pass
            case CounterClosedError() if member.stopping:
                pass
            case ValueError() if visitor.count > visitor.lowest:
                pass
            case StoreError() if type(error) is StoreError and self._upset(member) >= visitor.came:
                pass
            case _:
                self.wrong.append(f"{visitor} must not be told {error!r}")

    def _ask_at_once(self, visitor: Visitor) -> None:
        with suppress(trio.WouldBlock):
            visitor.limiter.acquire_on_behalf_of_nowait(visitor)
            self._come_in(visitor)

    def _visitor(self, member: Member, which: int, count: int) -> Visitor:
        limiter = self._limiters_of(member)[which % 3 == 2]
        visitor = Visitor(member, limiter, count, self.total)
        visitor.timed = self.timed.setdefault(member, self._upset(member) < visitor.came)
        return visitor

    def _limiters_of(self, member: Member) -> list[FleetLimiter]:
        """Return the limiters of a counter: two, which share a place in the fleet's line."""
        if member not in self.limiters:
            self.limiters[member] = [
                FleetLimiter(member.counter, SEATS, self.total, fencing=self.fencing)
                for _ in range(2)
            ]
        return self.limiters[member]

    def _limiters(self) -> list[FleetLimiter]:
        return [limiter for pair in self.limiters.values() for limiter in pair]

    # ------------------------------------------------------------------------ judging

    def _come_in(self, visitor: Visitor) -> None:
        """Hold that somebody may come in at this moment."""
        now = visitor.entered = trio.current_time()
        before = [other for other in self.inside if self._in_the_way(other, visitor)]
        self.inside.append(visitor)
        if not visitor.admitted and sum(each.count for each in [*before, visitor]) > self.total:
            self.wrong.append(f"there is no room beside {before} of {self.total} for {visitor}")
        if self.meters.parts[0].status(visitor.member.name) == ABSENT:
            self.wrong.append(f"others may have the tokens of {visitor}")
        if visitor.overtaken < now:
            self.wrong.append(f"{visitor} was overtaken at {visitor.overtaken}")
        for other in self.waiting:
            if self._is_before(other, visitor):
                other.overtaken = min(other.overtaken, now)
        if self.fencing:
            number = visitor.limiter.fencing_number_of(visitor)
            if self.highest == 1 and number <= self.fence:
                self.wrong.append(f"{number} of {visitor} is not greater than {self.fence}")
            self.fence = max(self.fence, number)

    def _in_the_way(self, other: Visitor, visitor: Visitor) -> bool:
        """Whether the store must have counted the tokens of ``other`` when it let one in."""
        if other.void or other.member.stopping or not self._is_counted(other.member):
            return False
        doubted, now = self.doubted.get(other.member, -math.inf), trio.current_time()
        return doubted < other.entered or (
            # It was away, and is back. What is late, or handed on, was decided before that.
            max(doubted, self._upset(visitor.member)) < now - LONGEST_TURN
        )

    def _is_before(self, other: Visitor, visitor: Visitor) -> bool:
        """Whether ``other``, who waits, has to come in before ``visitor``."""
        if other.limiter is visitor.limiter:
            return other.number < visitor.number and not other.scope.cancel_called
        upset = max(self._upset(each.member) for each in (other, visitor))
        known = max(upset, other.came) < trio.current_time() - LONGEST_TURN
        return known and visitor.timed and other.came < visitor.came - ACCURACY

    def _is_counted(self, member: Member) -> bool:
        meter = self.meters.parts[0]
        return meter.status(member.name) == PRESENT and member.name not in meter.flickered

    def _upset(self, member: Member) -> float:
        if member.troubled or member.planned:
            return trio.current_time()
        return self.upset.get(member, -math.inf)

    async def judge(self) -> None:
        """Wait until all is quiet, then see whether all who came in might, and all others wait."""
        await self.host.quiesce(self.traffic)
        now = trio.current_time()
        for member in self.members:
            if not self._is_counted(member):
                self.doubted[member] = self.upset[member] = now
            if member.troubled or member.planned or not member.counter.statistics().connected:
                self.upset[member] = now
        await super().judge()
        assert not self.wrong, self.wrong
        for visitor in self.waiting:
            assert not visitor.scope.cancel_called, f"{visitor} cannot give up"
            assert math.isinf(visitor.overtaken), f"{visitor} was overtaken"
        for limiter in self._limiters():
            inside = [visitor for visitor in self.inside if visitor.limiter is limiter]
            waiting = [visitor for visitor in self.waiting if visitor.limiter is limiter]
            found = limiter.statistics()
            assert set(found.borrowers) == set(inside)
            assert found.borrowed_tokens == sum(visitor.count for visitor in inside)
            assert found.tasks_waiting == len(waiting)

    def _gone(self) -> list[str]:
        living = {member.name for member in self.members}
        return [name for name in self.names if name not in living]

    def _calm(self, seconds: float) -> bool:
        """Whether there has been no trouble for so long, and nobody dead is in anybody's way."""
        status, now = self.meters.parts[0].status, trio.current_time()
        upset = any(now - self._upset(member) <= seconds for member in self.members)
        return not upset and all(status(name) == ABSENT for name in self._gone())

    async def _await_the_next(self) -> None:
        """While there is no trouble, whoever is next and finds room comes in."""
        await self.judge()
        if self._calm(CALM):
            await self.host.advance(self.traffic, self.prompt)
            await self.judge()
            if self._calm(CALM):
                self._hold_nobody_up()

    def _hold_nobody_up(self) -> None:
        """Hold that whoever may be the first in line has no room, and no place is a ghost's."""
        waiting = {visitor.member.name for visitor in self.waiting}
        tickets = self.contents().get(TICKETS, {})
        assert tickets.keys() == waiting, f"{tickets}, but {waiting} wait"
        heads = {visitor.limiter: visitor for visitor in reversed(self.waiting)}.values()
        if not heads:
            return
        earliest = min(head.came for head in heads)
        timed = all(head.timed for head in heads)
        first = [head for head in heads if not timed or head.came <= earliest + ACCURACY]
        free = self.total - sum(_tokens(self._users()).values())
        held_up = any(free < head.count <= self.total for head in first)
        assert held_up, f"{first} wait, and {free} tokens are free"

    def _users(self) -> Iterable[Visitor]:
        return (v for v in self.inside if not (v.void or v.member.stopping))

    def _compare(self) -> None:
        """Mended and at rest, the store has who is inside and who waits, and nothing else."""

        async def run() -> None:
            await self.host.advance(self.traffic, self.prompt)
            await self.judge()
            self._hold_nobody_up()
            held, tokens = self.contents(), _tokens(self._users())
            waiting = Counter(visitor.member.name for visitor in self.waiting)
            assert held.get(SEATS, {}) == tokens, f"{held.get(SEATS)}, not {tokens}"
            latest = self.beginning + 1000 * self.clock.now()
            assert all(0 < ticket <= latest for ticket in held.get(TICKETS, {}).values()), held
            for name, number in held.get(WAITING, {}).items():
                assert 0 < number <= waiting[name], f"{number} of {name}, but {waiting} wait"
            for member in self.members[:1]:
                usage = await self._limiters_of(member)[0].fleet_usage()
                assert usage.borrowed_tokens == sum(tokens.values())
                assert usage.tasks_waiting == sum(held.get(WAITING, {}).values())
            await self.judge()

        self.run(run)


async def _usage(limiter: FleetLimiter) -> None:
    """Ask something else of a counter, which travels alone."""
    with trio.move_on_after(TICK), suppress(StoreError, CounterClosedError):
        await limiter.fleet_usage()


def _tokens(visitors: Iterable[Visitor]) -> Counter[str]:
    tokens: Counter[str] = Counter()
    for visitor in visitors:
        tokens[visitor.member.name] += visitor.count
    return tokens


class LimitHistories(LimitRules, RuleBasedStateMachine):
    """A limit that a fleet shares, and everything that may go wrong."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        LimitRules.__init__(self)

    def teardown(self) -> None:
        """Compare at the end, and let all go, unless something was found already."""
        try:
            if self.members and not self.failed:
                self.verify(empty=True)
        finally:
            self.host.close()
