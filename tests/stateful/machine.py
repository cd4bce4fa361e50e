"""Random histories: what may happen to a fleet of counters.

Faults stack up, for nothing heals by itself: `verify` mends everything and compares, now and
then and at the end of each history.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from distkit_actors import StoreError
from tests.stateful.clock_rules import ClockRules
from tests.stateful.fleet import Call
from tests.stateful.fleet_rules import MOST_MEMBERS, WHO
from tests.stateful.history import TICK
from tests.stateful.hold_rules import COUNT, KEY
from tests.stateful.operations import COUNTS, EXTREME, KEYS, LOCAL, METHODS
from tests.stateful.reference import APPLIED, HIGH, LOW, NEVER
from tests.stateful.wires import INTERVAL

KIND = st.sampled_from(sorted(METHODS))
INC = st.sampled_from(["inc", "inc!"])
IMMEDIATE = st.sampled_from(sorted({*METHODS} - LOCAL))
EXTREME_KIND = st.sampled_from(["inc", "dec", "put", "get"]) | KIND
#: Longer than a flush takes, whatever trouble was planned and with all pauses before new tries.
FLUSHED = 15 * INTERVAL
EXTREME_COUNT = st.sampled_from([1, -1, 2**62, -(2**62), HIGH, LOW, HIGH - 1, LOW + 1])


class Histories(ClockRules, RuleBasedStateMachine):
    """Three to five counters, strict and lax, and everything that may go wrong."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        ClockRules.__init__(self)

    # ------------------------------------------------------------------------- rules

    @precondition(lambda self: len(self.fenced) < 2)
    @rule(name=st.integers(0, 7), lax=st.booleans(), inherit=st.booleans())
    def replace(self, name: int, lax: bool, inherit: bool) -> None:
        """Somebody with an id that was used before, perhaps by one who lives (I11)."""
        old = self.names[name % len(self.names)]
        if len(self.members) < MOST_MEMBERS or any(each.name == old for each in self.members):
            self.start(old, lax=lax, inherit=inherit)

    @rule(who=WHO, kind=KIND, key=KEY, count=COUNT)
    def call(self, who: int, kind: str, key: str, count: int) -> None:
        """Any operation."""
        self.operate((who, kind, key, count))

    @rule(who=WHO, kind=st.sampled_from(sorted(COUNTS)), key=KEY, count=COUNT)
    def count(self, who: int, kind: str, key: str, count: int) -> None:
        """An operation that leaves the others' slices alone."""
        self.operate((who, kind, key, count))

    @rule(calls=st.lists(st.tuples(WHO, EXTREME_KIND, EXTREME_COUNT), min_size=1, max_size=4))
    def call_extreme(self, calls: list[tuple[int, str, int]]) -> None:
        """Any operations, one after another, near the limits of int64."""
        for who, kind, count in calls:
            self.operate((who, kind, EXTREME, count))

    @rule(calls=st.lists(st.tuples(WHO, KIND, KEY, COUNT), min_size=2, max_size=4))
    def burst(self, calls: list[tuple[int, str, str, int]]) -> None:
        """Operations at the same moment."""
        self.operate(*calls)

    @rule(who=WHO, kind=INC, key=KEY, counts=st.lists(COUNT, min_size=2, max_size=3))
    def rush(self, who: int, kind: str, key: str, counts: list[int]) -> None:
        """Several callers of one counter count on one key at the same moment.

        P13, values before.
        """
        self.operate(*((who, kind, key, count) for count in counts))

    @rule(
        who=WHO,
        key=KEY,
        turns=st.lists(
            st.tuples(COUNT, st.just("inc!") | IMMEDIATE, COUNT), min_size=1, max_size=3
        ),
        flushes=st.booleans(),
    )
    def both_faces(
        self, who: int, key: str, turns: list[tuple[int, str, int]], flushes: bool
    ) -> None:
        """One instance counts in memory and acts in the store by turns, at the same moment.

        Perhaps somebody waits for a flush meanwhile, and goes away (P30, immediate operations).
        """
        member = self.member(who)
        if not member.lax:
            return

        async def run() -> None:
            waiting = trio.CancelScope()

            async def flush() -> None:
                with waiting, suppress(StoreError):
                    await member.flush()

            if flushes:
                self.host.nursery.start_soon(flush)
            for here, kind, there in turns:
                if not self.crowded:
                    self.count_now(member, key, here)
                    self.begin(member, kind, key, there)
            if flushes:
                await trio.lowlevel.checkpoint()
                waiting.cancel()
            await self.judge()

        self.run(run)

    @rule(who=WHO, kind=KIND, key=KEY, count=COUNT, wire=st.sampled_from(["", "late", "held"]))
    def cancelled(self, who: int, kind: str, key: str, count: int, wire: str) -> None:
        """A caller who goes away: before its operation was sent, or after."""
        member = self.member(who)
        if self.crowded or (member.lax and kind in LOCAL):
            return
        self.pass_time(TICK)
        if wire:
            member.network.hold(replies=wire == "late")

        async def run() -> None:
            call = self.begin(member, kind, key, count)
            if wire:
                await self.host.quiesce(self.traffic)
            call.scope.cancel()
            await self.host.quiesce(self.traffic)
            if call.cancelled and call.block is not None and wire:
                self.exited(member, call.block)  # if ever it is entered
            if not wire:
                assert call.cancelled or member.troubled
            if call.cancelled and not wire:
                # It was not sent, so it never happens.
                member.calls.remove(call)
                self._explain(dict.fromkeys(call.ops.values(), NEVER))
            if not member.troubled:
                member.network.release()
            await self.judge()

        self.run(run)

    @rule(who=WHO, key=KEY, counts=st.lists(st.integers(1, 9), min_size=1, max_size=3))
    def count_nowait(self, who: int, key: str, counts: list[int]) -> None:
        """A lax counter counts up, and nobody else does anything: its view never dips (I8)."""
        member = self.member(who)
        if not member.lax or self.crowded:
            return
        self.operate((who, "get", key, 0))
        self.pass_time(TICK)
        quiet = not self.model[key].open and self.moved[key] <= member.taps.of(key).heard

        def start() -> None:
            if quiet and member.view(key) is not None:
                member.watched = key
            for count in counts:
                self.count_now(member, key, count)

        self.do(start)
        self.pass_time(TICK)
        member.watched = None
        owns = [view.instance_count for view in member.views]
        assert owns == sorted(owns), f"{member} saw {owns} of {key}"
        member.views.clear()

    @rule(who=WHO, key=KEY, count=COUNT, kind=IMMEDIATE)
    def count_and_call(self, who: int, key: str, count: int, kind: str) -> None:
        """A lax counter counts, and acts at once: the count goes first.

        P30, immediate operations.
        """
        member = self.member(who)
        if not member.lax or self.crowded:
            return

        def start() -> None:
            self.count_now(member, key, count)
            self.begin(member, kind, key, count)

        self.do(start)

    @rule(who=WHO)
    def flush(self, who: int) -> None:
        """All that was counted is in the store when it returns."""
        member = self.member(who)
        if not member.lax or member.troubled or member.calls:
            return

        async def run() -> None:
            await self.judge()
            waiting = member.all_counts()
            with trio.fail_after(FLUSHED):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(member.flush)
                    await self.host.quiesce(self.traffic)
                    while nursery.child_tasks:  # nobody else lets time pass
                        await self.host.advance(self.traffic, TICK)
            self._explain(dict.fromkeys(waiting, APPLIED))
            for ops in member.counts.values():
                ops[:] = [op for op in ops if op not in waiting]
            await self.judge()

        self.run(run)

    @rule(who=WHO, kind=st.sampled_from(["set", "delete", "clear"]), key=KEY, count=COUNT)
    def lost_move(self, who: int, kind: str, key: str, count: int) -> None:
        """The store loses a move before everybody has heard of it (I7)."""
        self.operate((who, kind, key, count))
        self.wipe(INTERVAL + 0.5)

    @rule(who=WHO, steps=st.integers(1, MOST_MEMBERS - 1), kind=INC, key=KEY, count=COUNT)
    def lost_in_doubt(self, who: int, steps: int, kind: str, key: str, count: int) -> None:
        """The store loses a batch before its sender has heard of it, and the key moves (I6)."""
        self.do(partial(self._trouble, self.member(who), "hold_replies"))
        self.operate((who, kind, key, count), (who, "get", key, 0))
        self.do(self.member(who).cut)
        self.wipe(0.0)
        self.operate((who + steps, "set", key, count))
        self.heal(who, 0.0)

    # --------------------------------------------------------------------- comparing

    @rule()
    def verify(self) -> None:
        """Mend everything, let everybody be heard, and compare."""
        self.recover()
        for key in KEYS:
            self._compare(key)
        self.compare_views()
        self.compare_watchers()
        self.compare_onlooker()

    def _compare(self, name: str) -> None:
        """Every view of one key, the store and the model say the same."""
        key = self.model[name]
        assert not key.stale, f"of {key.stale} the store may have what it had long ago"
        assert not key.suspects, f"{key.suspects} have not heard of the last move of {name}"
        if not key.loose:
            assert not key.open, f"{key.open} is still open"
        self.pass_time(TICK)
        views, fresh = {}, False
        for number, member in enumerate(self.members):
            calls: list[Call] = []

            def start(number: int = number, calls: list[Call] = calls) -> None:
                calls.append(self.begin(self.member(number), "get", name, 0))

            self.do(start)
            call = calls[0]
            assert call.over, f"{member} does not answer"
            assert call.result is not None, call.error
            views[member.name] = call.result
            fresh = fresh or call.fresh or not member.lax
        sums = {view.cumulative for view in views.values()}
        assert len(sums) == 1, f"{name}: {views}"
        slices = {who: view.instance_count for who, view in views.items() if view.instance_count}
        if key.loose:
            return
        assert sums == {sum(slices.values())}, f"{name}: {views}"
        seen, possible = frozenset(slices.items()), {held for held, _, _ in key.worlds}
        # If all have it from a watch that has just read it, the model was not told.
        assert seen in possible, possible
        assert not fresh or possible == {seen}, possible
        held = self.contents().get(name, {})
        assert held == slices, f"{name}: the store holds {held}, the instances say {slices}"

    def teardown(self) -> None:
        """Compare at the end, whatever happened, unless something was found already."""
        try:
            if self.members and not self.failed:
                self.verify()
        finally:
            self.host.close()
