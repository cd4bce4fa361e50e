"""Rules about holds, about looking at the whole fleet, and about forgetting somebody."""

from __future__ import annotations

import random
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from distkit_actors import CounterValue, InstanceInfo, StoreError
from tests.stateful.fleet import Block, Call, Member
from tests.stateful.fleet_rules import FAULTS, MOST_MEMBERS, WHO, FleetRules
from tests.stateful.history import TICK
from tests.stateful.operations import EXTREME, HOLDS, KEYS, SMALL, Wanted
from tests.stateful.wires import INTERVAL

#: Blocks that one counter is inside at the same time.
MOST_BLOCKS = 3

KEY = st.sampled_from(SMALL)
COUNT = st.integers(-5, 9)
HOLD = st.sampled_from(sorted(HOLDS))
MOVE = st.sampled_from(["set", "delete", "clear"])
CHANCE = st.integers(0, 2**32 - 1)


class HoldRules(FleetRules):
    """A history in which blocks are entered and left."""

    # ------------------------------------------------------------------------- holds

    @rule(who=WHO, kind=HOLD, key=KEY, count=COUNT)
    def enter(self, who: int, kind: str, key: str, count: int) -> None:
        """Somebody enters the block of a hold, if there is room."""
        if len(self.member(who).blocks) < MOST_BLOCKS:
            self.operate((who, kind, key, count))

    @precondition(lambda self: any(member.blocks for member in self.members))
    @rule(which=st.integers(0, 9))
    def leave_block(self, which: int) -> None:
        """Somebody leaves a block, which always goes well and never waits."""
        inside = self._inside()
        member, block = inside[which % len(inside)]
        manager = block.manager
        assert manager is not None
        if self.crowded:
            return

        async def run() -> None:
            self.exited(member, block)
            await manager.__aexit__(None, None, None)
            await self.judge()

        self.run(run)

    def _leave_block_of(self, who: int) -> None:
        inside = [place for place, (m, _) in enumerate(self._inside()) if m is self.member(who)]
        if inside:
            self.leave_block(inside[-1])

    def _inside(self) -> list[tuple[Member, Block]]:
        return [(member, block) for member in self.members for block in member.blocks]

    @rule(who=WHO, kind=HOLD, key=KEY, count=COUNT, mover=WHO)
    def hold_and_move(self, who: int, kind: str, key: str, count: int, mover: int) -> None:
        """Somebody holds, and somebody moves the epoch before the block is left."""
        self.enter(who, kind, key, count)
        self.operate((mover, "delete", key, 0))
        self._leave_block_of(who)

    @rule(who=WHO, kind=HOLD, key=KEY, count=COUNT, fault=st.sampled_from([None, *FAULTS]))
    def hold_and_clear_own(
        self, who: int, kind: str, key: str, count: int, fault: str | None
    ) -> None:
        """Somebody holds, and removes all that it has before the block is left."""
        self.enter(who, kind, key, count)
        self.pass_time(TICK)  # a lax counter sends it
        if fault is not None:
            self.fault(who, fault, 1)
        self.operate((who, "remove_all", key, 0))
        self._leave_block_of(who)

    @precondition(lambda self: len(self.members) < MOST_MEMBERS)
    @rule(lax=st.booleans(), kind=HOLD, key=KEY, count=COUNT)
    def end_refused_before_a_stop(self, lax: bool, kind: str, key: str, count: int) -> None:
        """The store refuses the end of a hold. Its counter stops once the store accepts (I9).

        It lingers: one that leaves takes all with it.
        """
        self.start(f"i{len(self.names)}", lax=lax, on_exit="linger")
        member = self.members[-1]
        self.enter(-1, kind, key, count)

        def refuse() -> None:
            member.in_trouble(None)
            member.network.refuse(StoreError("OOM"))

        self.do(refuse)
        if member.blocks:
            self.leave_block(-1)
        self.do(member.mend)
        self.stop(member)

    @rule(seconds=st.sampled_from([0.0, INTERVAL + 0.5]))
    def wipe(self, seconds: float) -> None:
        """The store loses everything (I7)."""
        for member in list(self.fenced):
            # After this loss nobody could tell it that somebody newer has its id.
            self.crash(member)
        self.pass_time(TICK)
        self.run(partial(self.lose, range(len(self.before)), calm=seconds > 0))
        self.pass_time(seconds)

    def late_move(self, who: int, kind: str, key: str, count: int) -> None:
        """The store loses a move, and who made it cannot tell it again for a while (L1)."""
        self.operate((who, kind, key, count))
        self.do(self.member(who).cut)
        self.wipe(0.0)

    @rule(who=WHO, steps=st.integers(1, MOST_MEMBERS - 1), kind=MOVE, key=KEY, chance=CHANCE)
    def deeds_around_a_late_move(
        self, who: int, steps: int, kind: str, key: str, chance: int
    ) -> None:
        """Somebody counts and holds before, while the move is lost, and after it was told again.

        What exactly is drawn evenly: of what is likely in histories, little is about holds.
        """
        draw = random.Random(chance)
        mover = self.member(who + steps)
        for member in (self.member(who), mover):
            self.do(member.mend)
        self.pass_time(INTERVAL + TICK)
        self._deeds(who, key, draw, ["inc", "put", "hold"])
        self.late_move(who + steps, kind, key, 1)
        self._deeds(who, key, draw, ["inc", "inc", "put", "hold", "hold_below", "exit", "exit"])
        self.do(mover.mend)
        self.pass_time(INTERVAL + TICK)
        self._deeds(who, key, draw, ["inc", "exit", "exit", "exit"])
        for _ in range(2):  # it hears of the move, and says what is left
            self.operate((who, "get", key, 0))

    def _deeds(self, who: int, key: str, draw: random.Random, kinds: list[str]) -> None:
        for _ in range(draw.randint(1, 4)):
            kind, number = draw.choice(kinds), draw.randint(-1, 2)
            inside = [place for place, (m, _) in enumerate(self._inside()) if m is self.member(who)]
            if kind in HOLDS:
                self.enter(who, kind, key, number)
            elif kind != "exit":
                self.operate((who, kind, key, number))
            elif inside:
                self.leave_block(draw.choice(inside))

    # ------------------------------------------------------------------------- looks

    @rule(who=WHO, key=KEY)
    def look(self, who: int, key: str) -> None:
        """Somebody asks who contributes what, and who is there, while nothing is under way."""
        member = self.member(who)
        model = self.model[key]
        if member.troubled or member.planned or model.vague:
            return
        self.pass_time(TICK)

        async def run() -> None:
            if model.open or not member.settled or not member.counter.statistics().connected:
                return  # it may pause before it tries to connect again
            calls = [self._ask(member, "slices", key), self._ask(member, "instances")]
            await self.host.advance(self.traffic, TICK)
            shares, fleet = (_result(call) for call in calls)
            _, unsure, absent = self._doubts(self.part_of(key))
            assert isinstance(shares, dict)
            possible = model.shares(member.name, unsure, absent)
            assert frozenset(shares.items()) in possible, f"{shares} of {key}, not {possible}"
            self._check_fleet(fleet)
            member.calls = [call for call in member.calls if call not in calls]
            await self.judge()

        self.run(run)

    def _check_fleet(self, fleet: object) -> None:
        """Who is in any part is there."""
        assert isinstance(fleet, list)
        alive = {info.instance_id for info in fleet if isinstance(info, InstanceInfo) if info.alive}
        doubts = [self._doubts(part) for part in range(len(self.before))]
        nowhere = set.intersection(*(absent for _, _, absent in doubts))
        somewhere = {n for _, unsure, absent in doubts for n in {*self.names} - unsure - absent}
        assert not nowhere & alive, f"not all of {fleet} can be there"
        assert somewhere <= alive, f"more than {fleet} are there"

    def compare_views(self) -> None:
        """Mended and at rest, all who ask about the fleet are told the same."""
        exact = not any(key.vague for key in self.model.values())

        async def run() -> None:
            values: dict[str, CounterValue] = {}
            for member in self.members:
                calls = [self._ask(member, "instances"), self._ask(member, "keys")]
                calls += [self._ask(member, "slices", key) for key in KEYS]
                calls.append(self._ask(member, "get_all", list(KEYS)))
                await self.host.advance(self.traffic, TICK)
                fleet, keys, *shares, got = map(_result, calls)
                member.calls.clear()
                assert isinstance(fleet, list)
                assert isinstance(got, dict)
                living = [info.instance_id for info in fleet if info.alive]
                assert living == sorted(each.name for each in self.members)
                assert not exact or len(living) == len(fleet)
                for key, share in zip(KEYS, shares, strict=True):
                    assert isinstance(share, dict)
                    total, own = got[key]
                    assert share.get(member.name, 0) == own
                    assert values.setdefault(key, got[key])[0] == total
                    assert key == EXTREME or sum(share.values()) == total, f"{share} of {key}"
                counted = [key for key in KEYS if got[key] != (0, 0)]
                assert keys == counted, f"{keys}, not {counted}"
            await self.judge()

        self.run(run)

    # ---------------------------------------------------------------------- forgetting

    @precondition(lambda self: len(self.names) > 1)
    @rule(who=WHO, whom=st.integers(0, 7))
    def forget(self, who: int, whom: int) -> None:
        """Somebody is taken for dead before time, rightly or not; if it lives it comes back."""
        member = self.member(who)
        name = self.names[whom % len(self.names)]
        if name == member.name or self.crowded:
            return
        self.pass_time(TICK)
        self.do(lambda: self._ask(member, "forget", name))

    def _ask(self, member: Member, method: str, *arguments: object) -> Call:
        call = Call(Wanted(method, {}, method, list(arguments)), {}, heard=member.answers)
        member.ask(self.host.nursery, call)
        return call


def _result(call: Call) -> object:
    assert call.over, f"nobody answers {call}"
    assert call.error is None, call.error
    return call.result
