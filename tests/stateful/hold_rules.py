"""Rules about holds, about looking at the whole fleet, and about forgetting somebody."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from distkit_actors import CounterValue, InstanceInfo
from tests.stateful.fleet import Call, Member
from tests.stateful.history import TICK
from tests.stateful.lives import Lives
from tests.stateful.operations import EXTREME, HOLDS, KEYS, SMALL, Wanted

MOST_MEMBERS = 5
#: Blocks that one counter is inside at the same time.
MOST_BLOCKS = 3

WHO = st.integers(0, MOST_MEMBERS - 1)
KEY = st.sampled_from(SMALL)
COUNT = st.integers(-5, 9)
HOLD = st.sampled_from(sorted(HOLDS))


class HoldRules(Lives):
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
        inside = [(member, block) for member in self.members for block in member.blocks]
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

    @rule(who=WHO, kind=HOLD, key=KEY, count=COUNT, mover=WHO)
    def hold_and_move(self, who: int, kind: str, key: str, count: int, mover: int) -> None:
        """Somebody holds, and somebody moves the epoch before the block is left."""
        self.enter(who, kind, key, count)
        self.operate((mover, "delete", key, 0))
        if self.member(who).blocks:
            self.leave_block(0)

    # ------------------------------------------------------------------------- looks

    @rule(who=WHO, key=KEY)
    def look(self, who: int, key: str) -> None:
        """Somebody asks who contributes what, and who is there, while nothing is under way."""
        member = self.member(who)
        model = self.model[key]
        if member.troubled or member.planned or model.loose:
            return
        self.pass_time(TICK)

        async def run() -> None:
            if model.open or not member.settled or not member.counter.statistics().connected:
                return  # it may pause before it tries to connect again
            calls = [self._ask(member, "slices", key), self._ask(member, "instances")]
            await self.host.advance(self.meter, TICK)
            shares, fleet = (_result(call) for call in calls)
            _, unsure, absent = self._doubts()
            assert isinstance(shares, dict)
            possible = model.shares(member.name, unsure, absent)
            assert frozenset(shares.items()) in possible, f"{shares} of {key}, not {possible}"
            self._check_fleet(fleet, unsure, absent)
            member.calls = [call for call in member.calls if call not in calls]
            await self.judge()

        self.run(run)

    def _check_fleet(self, fleet: object, unsure: set[str], absent: set[str]) -> None:
        assert isinstance(fleet, list)
        alive = {info.instance_id for info in fleet if isinstance(info, InstanceInfo) if info.alive}
        assert not absent & alive, f"not all of {fleet} can be there"
        assert {*self.names} - unsure - absent <= alive, f"more than {fleet} are there"

    def compare_views(self) -> None:
        """Mended and at rest, all who ask about the fleet are told the same."""
        exact = not any(key.loose for key in self.model.values())

        async def run() -> None:
            values: dict[str, CounterValue] = {}
            for member in self.members:
                calls = [self._ask(member, "instances"), self._ask(member, "keys")]
                calls += [self._ask(member, "slices", key) for key in KEYS]
                calls.append(self._ask(member, "get_all", list(KEYS)))
                await self.host.advance(self.meter, TICK)
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
        call = Call(Wanted(method, {}, method, list(arguments)), {}, heard=member.tap.answers)
        member.ask(self.host.nursery, call)
        return call


def _result(call: Call) -> object:
    assert call.over, f"nobody answers {call}"
    assert call.error is None, call.error
    return call.result
