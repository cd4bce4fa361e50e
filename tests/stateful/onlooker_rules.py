"""Rules about an onlooker: a `Fleet` beside the counters, in trouble of its own or in everybody's.

It takes no part. So nothing that the model knows depends on it, and it is only asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio
from hypothesis import strategies as st
from hypothesis.stateful import rule

from distkit_actors import Fleet
from distkit_actors._protocol._messages import Query, QueryKind, Request
from distkit_actors.testing import FaultyStore
from distkit_actors.testing._faulty_network import any_request
from tests.stateful.ends import Meters
from tests.stateful.history import TICK
from tests.stateful.hold_rules import KEY
from tests.stateful.operations import SMALL
from tests.stateful.question_rules import ANSWERED, QUESTIONS, Asker
from tests.stateful.refusal_rules import LOSSES, RefusalRules, lines_of, strike
from tests.stateful.wires import INTERVAL, PRESENT, SLACK, THRESHOLD

LOOKS: Final = (*QUESTIONS, "get_all")
LASTING: Final = ("cut", "hold", "away", "refuse", "drop_reply")
#: Which question is which request.
REQUESTS: Final = {
    "instances": QueryKind.INSTANCES,
    "slices": QueryKind.SLICES,
    "keys": QueryKind.KEYS,
}


class Onlooker:
    """A `Fleet`, and its network."""

    name = ""  # it has none

    def __init__(self, meters: Meters, prefix: str) -> None:
        self.network = FaultyStore(meters)
        self.troubled = False  # by a lasting fault
        self.stopping = False
        self.over = trio.Event()
        self._prefix = prefix
        self._leave = trio.Event()
        self.counter: Fleet | None = None

    def __repr__(self) -> str:
        return "the onlooker"

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Look until it is to leave."""
        try:
            async with Fleet.open(self._prefix, self.network) as self.counter:
                task_status.started()
                await self._leave.wait()
        finally:
            self.over.set()

    def leave(self) -> None:
        """Leave the block; what waits is told."""
        self.stopping = True
        self._leave.set()

    def strike(self, how: str, when: Callable[[Request], bool] = any_request) -> None:
        """Have a fault last until it is mended; `cut` and `hold` strike whatever is asked."""
        self.troubled = True
        if how in ("cut", "hold"):
            getattr(self.network, how)()
        else:
            strike(self.network, how, when)

    def mend(self) -> None:
        """End every fault."""
        self.network.forget_plan()
        self.network.release()
        self.network.heal()
        self.troubled = False


class OnlookerRules(RefusalRules):
    """A history with an onlooker: one at most."""

    def __init__(self) -> None:
        super().__init__()
        self.onlooker: Onlooker | None = None

    # ------------------------------------------------------------------------- rules

    @rule(kind=st.sampled_from(LOOKS), key=KEY)
    def look_from_outside(self, kind: str, key: str) -> None:
        """It is asked, whatever state its network is in."""
        self.ask_of(self._looking(), kind, key)

    @rule(how=st.sampled_from(["", *LASTING]), kind=st.sampled_from(LOOKS))
    def look_no_more(self, how: str, kind: str) -> None:
        """It leaves; those who have asked are told, and the next one has seen nothing yet."""
        onlooker = self._looking()
        if how:
            self.do(partial(onlooker.strike, how))
        self.ask_of(onlooker, kind, "a")
        self.do(onlooker.leave)
        assert onlooker.over.is_set(), "it does not leave"
        self.onlooker = None

    @rule(how=st.sampled_from(LASTING))
    def onlooker_in_trouble(self, how: str) -> None:
        """Something lasts until it is mended."""
        self.do(partial(self._looking().strike, how))

    @rule(how=st.sampled_from(LOSSES), times=st.integers(1, 3))
    def onlooker_loses(self, how: str, times: int) -> None:
        """Trouble with the next few requests: each is repeated."""
        getattr(self._looking().network, how)(times)

    @rule()
    def mend_onlooker(self) -> None:
        """The end of all that."""
        self.do(self._looking().mend)

    @rule(how=st.sampled_from(LASTING), seconds=st.sampled_from([THRESHOLD + 1.0, 3 * THRESHOLD]))
    def outage_of_all(self, how: str, seconds: float) -> None:
        """Nobody reaches the store, nor does the onlooker, which asks: so nobody has died (I5)."""
        onlooker = self._ready()
        seen = self.host.call(self._seen)
        self._cut_all()
        before = self._told(onlooker, "get_all")
        self.do(partial(onlooker.strike, how))
        for _ in range(int(seconds)):
            if how == "refuse" or not any(q.asker is onlooker for q in self.questions):
                self.ask_of(onlooker, "instances", "a", always=True)
            self.pass_time(1.0)
        self.do(onlooker.mend)
        for _ in range(int(ANSWERED / TICK)):  # no longer than needed, or they would be dead
            if any(question.asker is onlooker for question in self.questions):
                self.pass_time(TICK)
        alive = self._alive(onlooker)
        there = {name for recent, _ in seen for name in recent}
        assert there <= alive, f"the outage has made {alive} of {there}"
        if all(recent | absent >= {*self.names} for recent, absent in seen):
            after = self._told(onlooker, "get_all")
            assert after == before, f"the outage has made {after} of {before}"
        self.heal_all()

    @rule(
        refused=st.sampled_from([None, *REQUESTS]),
        pause=st.sampled_from([1.0, 3.0, 5.0]),
        asks=st.integers(1, 2),
    )
    def all_fall_silent(self, refused: str | None, pause: float, asks: int) -> None:
        """The onlooker sees a fleet that has died, though it may not ask everything (P43)."""
        onlooker = self._ready()
        other = "get_all" if refused == "instances" else "instances"
        self._cut_all()
        with lines_of("") as lines:
            if refused is not None:
                self.do(partial(onlooker.strike, "refuse", partial(_asks, REQUESTS[refused])))
            for _ in range(int((THRESHOLD + INTERVAL) / pause) + 3):
                for _ in range(asks):
                    self.ask_of(onlooker, refused or "keys", "a")
                self._told(onlooker, other)
                self.pass_time(pause)
            if refused == "instances":
                left = self._told(onlooker, "get_all")
                assert {each for each, _ in left.values()} == {0}, f"the dead count {left}"
            else:
                assert not self._alive(onlooker), "they are dead"
            self.do(onlooker.mend)
            self.ask_of(onlooker, refused or "keys", "a")
        begun, ended = lines.events.count("refused"), lines.events.count("accepted")
        assert begun == ended <= len(self.before), lines.events
        self.heal_all()

    # --------------------------------------------------------------------- comparing

    def compare_onlooker(self) -> None:
        """Mended and at rest, an onlooker is told what the counters are told."""
        onlooker = self._looking()
        self.do(onlooker.mend)
        self.pass_time(ANSWERED)
        self.check_questions()
        teller = self.member(0)
        totals = {key: total for key, (total, _) in self._told(teller, "get_all").items()}
        looked = {key: total for key, (total, _) in self._told(onlooker, "get_all").items()}
        assert looked == totals, f"it sees {looked}, not {totals}"
        assert self._alive(onlooker) == {member.name for member in self.members}
        listed = self._told(onlooker, "keys")
        assert [key for key in listed if key in SMALL] == [key for key in SMALL if totals[key]]
        for key in SMALL:
            assert self._told(onlooker, "slices", key) == self._told(teller, "slices", key)

    # ----------------------------------------------------------------------- helpers

    def _looking(self) -> Onlooker:
        """Return the onlooker; one comes if there is none."""
        if self.onlooker is None:
            self.onlooker = Onlooker(self.meters, self.prefix)
            self.run(self._come)
        return self.onlooker

    async def _come(self) -> None:
        assert self.onlooker is not None
        await self.host.nursery.start(self.onlooker.run)
        await self.judge()

    def _ready(self) -> Onlooker:
        """Return the onlooker, that is well, and has just had an answer."""
        onlooker = self._looking()
        self.do(onlooker.mend)
        self.pass_time(INTERVAL + 0.5)
        self._told(onlooker, "instances")
        return onlooker

    def _cut_all(self) -> None:
        def cut() -> None:
            for member in (*self.members, *self.fenced):
                member.cut()

        self.do(cut)

    async def _seen(self) -> list[tuple[set[str], set[str]]]:
        """Return for each part who has just beaten, and who does not count there."""
        seen: list[tuple[set[str], set[str]]] = []
        for part, meter in enumerate(self.meters.parts):
            last, since = meter.heard().last, self.clock.steady() - INTERVAL - SLACK
            recent = {name for name in last if meter.status(name) == PRESENT and last[name] > since}
            seen.append((recent, self._doubts(part)[2]))
        return seen

    def _told(self, asker: Asker, kind: str, key: str = "a") -> Any:
        """Return what somebody is told who is well."""
        question = self.ask_of(asker, kind, key, always=True)
        assert question is not None
        assert question.over, f"nobody answers {question}"
        assert question.error is None, question.error
        return question.result

    def _alive(self, asker: Asker) -> set[str]:
        """Return who is said to live."""
        return {info.instance_id for info in self._told(asker, "instances") if info.alive}


def _asks(kind: QueryKind, request: Request) -> bool:
    return isinstance(request, Query) and request.kind is kind
