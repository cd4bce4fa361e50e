"""Rules about trouble of one kind: one kind of request is refused or lost, and others pass.

It lasts for many heartbeats. What beats lives on, nothing waits for what is not in trouble, and an
outage is logged once.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio
from hypothesis import strategies as st
from hypothesis.stateful import rule

from distkit_actors import StoreError
from distkit_actors._protocol._messages import Apply, Query, Request, Watch
from distkit_actors.testing import FaultyStore
from tests.stateful.fleet import Member
from tests.stateful.fleet_rules import WHO
from tests.stateful.history import TICK
from tests.stateful.hold_rules import CHANCE
from tests.stateful.operations import METHODS, SMALL
from tests.stateful.question_rules import QUESTIONS, QuestionRules
from tests.stateful.wires import INTERVAL, THRESHOLD

#: What may be in trouble by itself. A store that is full refuses batches, those that read as well.
KINDS: Final[dict[str, Callable[[Request], bool]]] = {
    "questions": lambda request: isinstance(request, Query),
    "leases": lambda request: isinstance(request, Watch),
    "batches": lambda request: not isinstance(request, Query | Watch),
    "entries": lambda request: isinstance(request, Apply) and bool(request.entries),
}
#: What is no sign of life, so that nobody dies of its loss.
LIFELESS: Final = ("questions", "leases")
LOSSES: Final = ("drop_request", "drop_reply", "away")
#: The longest between two tries to connect.
_LONGEST_PAUSE: Final = INTERVAL / 2
DEEDS: Final = sorted({*METHODS} - {"clear"})


def strike(network: FaultyStore, how: str, when: Callable[[Request], bool]) -> None:
    """Refuse or lose one kind of request until the plan is forgotten."""
    if how == "refuse":
        network.answer(StoreError("OOM"), None, executed=False, when=when)
    else:
        getattr(network, how)(None, when=when)


class Lines(logging.Handler):
    """Which events were logged of one instance, in order."""

    def __init__(self, instance: str) -> None:
        super().__init__(logging.WARNING)
        self.instance = instance
        self.events: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "instance", None) == self.instance:
            self.events.append(record.event)  # type: ignore[attr-defined]  # each line has one


@contextmanager
def lines_of(instance: str) -> Iterator[Lines]:
    """Note what is logged of an instance meanwhile."""
    logger, lines = logging.getLogger("distkit_actors"), Lines(instance)
    logger.addHandler(lines)
    try:
        yield lines
    finally:
        logger.removeHandler(lines)


class RefusalRules(QuestionRules):
    """A history in which some kinds of requests fail and others do not."""

    @rule(who=WHO, kind=st.sampled_from(sorted(KINDS)), how=st.sampled_from(["refuse", *LOSSES]))
    def trouble_of_one_kind(self, who: int, kind: str, how: str) -> None:
        """One kind of request fails until somebody mends it."""
        self.do(partial(self._strike, self.member(who), kind, how))

    def _strike(self, member: Member, kind: str, how: str) -> None:
        member.in_trouble(None)
        member.planned = True
        strike(member.network, how, KINDS[kind])

    @rule(
        who=WHO,
        kind=st.sampled_from(sorted(KINDS)),
        how=st.sampled_from(["refuse", "refuse", "refuse", *LOSSES]),
        watches=st.booleans(),
        chance=CHANCE,
    )
    def one_kind_fails_for_long(
        self, who: int, kind: str, how: str, watches: bool, chance: int
    ) -> None:
        """One kind of request fails for many heartbeats, and much is asked for meanwhile."""
        draw = random.Random(chance)
        member = self.member(who)
        how = how if kind in LIFELESS else "refuse"
        self.do(member.mend)
        self.pass_time(2 * INTERVAL)
        if not member.settled or member.counter.statistics().outage_age is not None:
            return
        with lines_of(member.name) as lines:
            self.do(partial(self._strike, member, kind, how))
            if watches:
                self.begin_to_watch(who, draw.choice(SMALL))
            for _ in range(draw.randint(3, 6)):
                self._ask_and_do(who, kind, how, draw)
                self.pass_time(draw.choice([TICK, INTERVAL, 2 * INTERVAL]))
                self._check_beats(member, kind)
            self.do(member.mend)
            self.pass_time(2 * INTERVAL)
        self._check_lines(lines, kind, how)

    @rule(
        who=WHO,
        seconds=st.sampled_from([1.0, THRESHOLD - 1.0, THRESHOLD + 5.0]),
        trip=st.sampled_from([0.0, TICK / 5, TICK]),
        key=st.sampled_from(SMALL),
        replies=st.booleans(),
    )
    def outage(self, who: int, seconds: float, trip: float, key: str, replies: bool) -> None:
        """Somebody waits while a network is cut, and is heard with the next try to connect."""
        member = self.member(who)
        self.do(member.mend)
        self.pass_time(2 * INTERVAL)
        if not member.settled or member.counter.statistics().outage_age is not None:
            return

        def hold() -> None:
            member.in_trouble(None)
            member.network.hold(replies=replies)

        self.do(hold)
        self.operate((who, "set", key, 1))  # it is on its way when the connection is lost
        self.do(member.cut)
        self.pass_time(seconds)

        def heal() -> None:
            member.mend()
            member.in_trouble(None)
            member.network.delay(trip)

        self.do(heal)
        self.pass_time(_LONGEST_PAUSE + 5 * (trip + TICK))
        found = member.counter.statistics()
        self.do(member.mend)
        superseded = found.state == "superseded"
        assert superseded or found.connected, f"{member} has not come back"

    def _ask_and_do(self, who: int, kind: str, how: str, draw: random.Random) -> None:
        if draw.random() < 0.7:
            self._ask_meanwhile(who, kind, how, draw)
        for _ in range(draw.randint(0, 2)):
            key, count = draw.choice(SMALL), draw.randint(-3, 9)
            self.operate((who, draw.choice(DEEDS), key, count))

    def _ask_meanwhile(self, who: int, kind: str, how: str, draw: random.Random) -> None:
        """Somebody asks, perhaps when a beat is due, or behind a count; replies get lost."""
        member, key = self.member(who), draw.choice(SMALL)
        lost = 0 if kind in LIFELESS else draw.randint(0, 3)
        counts = draw.random() < 0.5

        def prepare() -> None:
            member.network.forget_plan()
            self._strike(member, kind, how)
            member.network.drop_reply(lost, when=KINDS["questions"])
            if counts and member.lax and not self.crowded:
                self.count_now(member, key, draw.randint(1, 9))

        self.run(partial(self._do_only, prepare))
        beat = (self.now // INTERVAL + 1) * INTERVAL if draw.random() < 0.4 else 0.0
        asked = self.ask_of(member, draw.choice(QUESTIONS), key, at=beat)
        if asked is not None and how == "refuse":
            self.pass_time(max(0.0, beat - self.now) + 4 * TICK)
            assert asked.over, f"{kind} are refused, and nobody answers {asked}"
            passes = {"leases", *({"batches", "entries"} if asked.kind == "instances" else ())}
            assert asked.error is None or kind not in passes, asked.error

    async def _do_only(self, function: Callable[[], None]) -> None:
        function()

    def _check_beats(self, member: Member, kind: str) -> None:
        """Whoever can send signs of life sends them."""
        waits = member.lax or member.exits or member.calls  # with each beat it is tried again
        if kind in LIFELESS or (kind == "entries" and not waits):
            for meter in self.meters.parts:
                silence = self.steady - meter.heard().last[member.name]
                assert silence < THRESHOLD - INTERVAL, f"{member} is silent for {silence} s"

    @property
    def now(self) -> float:
        """The time of a history."""

        async def now() -> float:
            return trio.current_time()

        return self.host.call(now)

    @property
    def steady(self) -> float:
        """The time by which the meters say who was heard when: it goes on by jumps of the clock."""

        async def steady() -> float:
            return self.clock.steady()

        return self.host.call(steady)

    def _check_lines(self, lines: Lines, kind: str, how: str) -> None:
        """An outage has one line at its beginning and one at its end (docs/observability.md).

        Who is asked is told of a question, and nobody else. A heartbeat that passes ends what the
        refusal of an operation has begun.
        """
        begun, ended = lines.events.count("refused"), lines.events.count("accepted")
        assert begun == ended, lines.events
        if kind in LIFELESS:
            assert not begun, lines.events
            assert how != "refuse" or not {"away", "back"} & {*lines.events}, lines.events
        elif kind == "batches":
            assert begun <= len(self.before), lines.events
