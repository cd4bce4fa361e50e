"""One history: its counters, what the model says of them, and how the two are compared.

After each rule every answer must be one that the reference model can explain, and nobody who
beats may have been reaped. Documented limits that need two failures do not make the model
vague: where one applies, the key is *loose*, that is, not compared until its epoch moves again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal

import trio
from hypothesis import note

from distkit_actors import (
    CounterClosedError,
    CounterOverflowError,
    DistkitError,
    OutcomeUnknownError,
    Store,
    StoreError,
    StoreUnavailableError,
)
from tests.stateful.fleet import GRACE, Call, Member
from tests.stateful.host import Host
from tests.stateful.reference import (
    APPLIED,
    MAYBE,
    MOVES,
    NEVER,
    OVERFLOW,
    Key,
    Op,
)
from tests.stateful.wires import ABSENT, PRESENT, UNSURE, Meter

SMALL, EXTREME = ("a", "b"), "x"
KEYS = (*SMALL, EXTREME)
#: The model tries all orders of what is open.
MOST_OPEN_CALLS, MOST_OPEN_OPS = 3, 6
TICK = 0.05  # longer than `flush_interval` and `allowed_lag`
PATIENCE = 0.25  # longer than a lax read waits

METHODS = {
    "inc": "inc",
    "dec": "dec",
    "get": "get",
    "set": "set",
    "delete": "delete",
    "put": "set_on_instance",
    "remove": "delete_on_instance",
    "clear": "clear",
    "remove_all": "clear_on_instance",
}
WITH_COUNT = {"inc", "dec", "set", "put"}
OF_EVERY_KEY = {"clear", "remove_all"}
#: What a lax counter answers from its memory.
LOCAL = {"inc", "dec", "get", "put"}


class History:
    """One namespace, the counters that live in it, and the model of what they hold."""

    def __init__(self) -> None:
        self.host = Host()
        self.meter = Meter(self.make_store())
        self.model = {key: Key() for key in KEYS}
        self.moved = dict.fromkeys(KEYS, -1.0)  # by which step of the store, at the latest
        self.movers: dict[str, str] = {}  # {key: who moved it last, where that is certain}
        self.members: list[Member] = []
        self.fenced: list[Member] = []  # superseded, and perhaps not aware of it
        self.stopped: list[Member] = []  # with copies of requests that may still arrive
        self.names: list[str] = []
        self.before: dict[str, str] = {}  # statuses when the last rule ended
        self.wiped_at = -math.inf
        self.cleared = False  # at some time
        self.failed = False
        self.chance = 0

    # ---------------------------------------------------------- what differs by store

    prefix: str

    def make_store(self) -> Store:
        """Return the store of one history, on trio's clock."""
        raise NotImplementedError

    def wipe_store(self) -> None:
        """Have the store lose everything it knows of the namespace."""
        raise NotImplementedError

    def contents(self) -> Mapping[str, Mapping[str, int]]:
        """Return what the store holds: {key: {instance: slice}}, no zeros; check its sums."""
        raise NotImplementedError

    # --------------------------------------------------------------------- judging

    async def judge(self) -> None:
        """Wait until all is quiet, then see whether everything can be explained."""
        await self.host.quiesce(self.meter)
        assert not self.meter.violations, self.meter.violations
        for member in (*self.members, *self.fenced):
            assert not member.over.is_set(), f"{member} has crashed"
        answers: dict[Op, object] = {}
        for member in self.members:
            answers.update(self._answers(member))
        for member in self.members:
            if member.settled:
                hanging = [call for call in member.calls if not (call.over or call.cancelled)]
                assert not hanging, f"nobody will ever answer {hanging}"
                answers.update(self._given_up(member, APPLIED))
        self._explain(answers)
        self._compare_local_views()

    def _explain(self, answers: Mapping[Op, object], *, disturbed: bool = False) -> None:
        now = {name: self.meter.status(name) for name in self.names}
        unsure = self.meter.flickered | {
            name
            for name, status in now.items()
            if status == UNSURE or status != self.before.get(name, status)
        }
        absent = {name for name, status in now.items() if status == ABSENT} - unsure
        alive = {member.name for member in self.members}
        disturbed = disturbed or bool(unsure or absent)
        for name, key in self.model.items():
            self._loosen_if_full(key, disturbed=disturbed)
            moves = [op for op in key.open if op.kind in MOVES]
            moved = any(op in answers for op in moves)
            if moves:
                self.movers.pop(name, None)
                if len(moves) == 1 and answers.get(moves[0], MAYBE) not in (MAYBE, NEVER):
                    self.movers[name] = moves[0].who
            key.explain(answers, unsure, absent)
            self._loosen_if_full(key, disturbed=disturbed)
            if any(op.kind in MOVES for op in key.open):
                self.moved[name] = math.inf
            elif moved or math.isinf(self.moved[name]):
                self.moved[name] = self.meter.steps
            for dead in absent - alive:
                key.drop(dead)
        self.before = now
        self.meter.flickered.clear()

    def _loosen_if_full(self, key: Key, *, disturbed: bool) -> None:
        """I12: what comes or goes may have to wait until it fits."""
        if disturbed and key is self.model[EXTREME] and key.may_not_fit():
            key.loose = True

    def _answers(self, member: Member) -> Iterable[tuple[Op, object]]:
        """Yield what the calls that are over say, and forget them."""
        over = [call for call in member.calls if call.over and not call.cancelled]
        for call in sorted(over, key=lambda call: call.number):
            member.calls.remove(call)
            answer = self._answer(member, call)
            if not call.ops and answer is APPLIED:
                self.counted(member, call)
            for op in call.ops.values():
                yield op, answer

    def _answer(self, member: Member, call: Call) -> object:
        match call.error:
            case None if member.lax and call.name == "get":
                # Without the store's word it is as old as it may be.
                return tuple(call.result or ()) if call.fresh else NEVER
            case None if not call.ops:
                return APPLIED
            case None:
                return None if call.result is None else tuple(call.result)
            case CounterOverflowError():
                return OVERFLOW if call.name != "remove_all" else MAYBE
            case OutcomeUnknownError() if member.stopping or self._may_be_lost(call):
                return MAYBE
            case StoreUnavailableError() if member.stopping:
                return MAYBE
            case CounterClosedError() if member.stopping:
                return NEVER
            case StoreError() if type(call.error) is StoreError and member.troubled:
                return NEVER
            case _:
                raise AssertionError(f"{member}: {call} must not fail so") from call.error

    def _may_be_lost(self, call: Call) -> bool:
        """Whether the store may have lost its record of the call (L4), as its counter sees it."""
        return call.unknown_to_store or self.wiped_at >= call.began

    def counted(self, member: Member, call: Call) -> None:
        """A lax counter has counted something, which the store will hear of."""
        op = Op(member.name, *call.count, pending_count=True, after=member.all_counts())
        self.model[call.key].open.append(op)
        member.counts.setdefault(call.key, []).append(op)

    def _given_up(self, member: Member, counts: str) -> Iterable[tuple[Op, object]]:
        """Yield answers for what nobody waits for; forget all of it."""
        for op in member.all_counts():
            yield op, counts
        for call in member.calls:
            for op in call.ops.values():
                yield op, MAYBE
        member.counts.clear()
        member.calls.clear()

    def _compare_local_views(self) -> None:
        """An instance sees what it counted itself, unless a move is news to it (I8)."""
        for member in self.members:
            if not member.lax:
                continue
            for name, key in self.model.items():
                view = member.view(name)
                if view and not key.loose and self.moved[name] <= member.tap.heard:
                    own = key.own(member.name)
                    assert view.instance_count in own, f"{member} sees {view} of {name}, not {own}"

    # --------------------------------------------------------------------- helpers

    def run(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run something in the trio thread."""
        # What a rule does must not depend on how much chance the rules before it have used
        # up, or no history could be made shorter.
        random.seed(self.chance)
        trio._core._run._r.seed(self.chance)
        try:
            self.host.call(function)
        except BaseException:
            self.failed = True
            raise

    def do(self, function: Callable[[], object]) -> None:
        """Do something in the trio thread, and judge what comes of it."""

        async def run() -> None:
            function()
            await self.judge()

        self.run(run)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with everything happening at its time."""

        async def run() -> None:
            await self.host.advance(self.meter, seconds)
            await self.judge()

        self.run(run)

    def member(self, who: int) -> Member:
        """Return one of the members, whatever their number."""
        return self.members[who % len(self.members)]

    @property
    def crowded(self) -> bool:
        """Whether the model had better not be asked to imagine more."""
        calls = sum(len(member.calls) for member in self.members)
        return calls >= MOST_OPEN_CALLS or self._most_open >= MOST_OPEN_OPS

    @property
    def _most_open(self) -> int:
        return max(len(key.open) for key in self.model.values())

    def begin(self, member: Member, kind: str, key: str, count: int) -> Call:
        """Start a call, and tell the model."""
        self.cleared |= kind == "clear"
        amount = -count if kind == "dec" else count if kind in WITH_COUNT else 0
        name = "inc" if kind == "dec" else kind
        keys = KEYS if kind in OF_EVERY_KEY else (key,)
        local = member.lax and kind in LOCAL
        after = member.all_counts()
        ops: dict[str, Op] = {}
        if not local or kind == "get":
            ops = {
                each: Op(member.name, name, amount, sees_pending=local, after=after)
                for each in keys
            }
        call = Call(ops, kind, key, (name, amount), heard=member.tap.answers)
        call.unknown_to_store = member.name in self.meter.lost
        for each, op in ops.items():
            self.model[each].open.append(op)
            if op.kind in MOVES:
                self.moved[each] = math.inf
        arguments: list[object] = [] if kind in OF_EVERY_KEY else [key]
        if kind in WITH_COUNT:
            arguments.append(count)
        member.ask(self.host.nursery, call, METHODS[kind], *arguments)
        return call

    def operate(self, *wanted: tuple[int, str, str, int]) -> None:
        """Make calls at the same moment, and wait for them while the network is sound."""
        self.pass_time(TICK)
        calls: list[Call] = []

        def start() -> None:
            for who, kind, key, count in wanted:
                member = self.member(who)
                if member.lax and key == EXTREME and kind in LOCAL - {"get"}:
                    continue  # a count that is refused later would take its neighbours along
                if not self.crowded:
                    calls.append(self.begin(member, kind, key, count))

        self.do(start)
        if any(call.name in LOCAL and not call.over for call in calls):
            self.pass_time(PATIENCE)
        for call in calls:
            note(f"# {call} -> {call.result or call.error if call.over else '...'}")

    # ------------------------------------------------------------------ life and death

    def start(
        self,
        name: str,
        *,
        lax: bool,
        on_exit: Literal["leave", "linger"] = "leave",
        inherit: bool = False,
        twice: bool = False,
    ) -> None:
        """Start a counter, perhaps in the place of another."""

        async def run() -> None:
            old = next((each for each in self.members if each.name == name), None)
            answers: dict[Op, object] = {}
            if old:
                self.members.remove(old)
                self.fenced.append(old)
                answers.update(self._given_up(old, MAYBE))
            self.movers = {key: who for key, who in self.movers.items() if who != name}
            if name in self.names:
                self._explain(answers, disturbed=True)
                kept = {PRESENT: True, ABSENT: False}.get(self.meter.status(name))
                for key in self.model.values():
                    if not inherit or not kept:
                        key.drop(name, surely=not inherit or kept is False)
            else:
                self.names.append(name)
            new = Member(
                self.meter, self.meter, self.prefix, name, lax=lax, on_exit=on_exit, inherit=inherit
            )
            if twice:
                new.network.duplicate(None)
            await new.start(self.host.nursery)
            new.network.forget_plan()
            self.members.append(new)
            if not inherit:
                new.tap.heard = self.meter.steps
            await self.judge()

        self.run(run)

    def stop(self, member: Member) -> None:
        """Stop a counter in good order, as far as its network allows."""

        async def run() -> None:
            reachable = member.settled and member.counter.statistics().connected
            sound = reachable and not (member.troubled or member.planned)
            await self.judge()
            answers: dict[Op, object] = {}
            member.stopping = True
            self.members.remove(member)
            self.meter.awaited.discard(member.name)
            failure: list[Exception] = []

            async def close() -> None:
                try:
                    await member.close()
                except DistkitError as error:
                    failure.append(error)

            self.host.nursery.start_soon(close)
            await self.host.quiesce(self.meter)
            if not member.over.is_set():
                await self.host.advance(self.meter, 2 * GRACE)
            assert member.over.is_set(), f"{member} does not stop"
            left = self.meter.status(member.name) == ABSENT
            assert not sound or (not failure and (left or member.on_exit == "linger")), failure
            if not left and member.on_exit == "leave":
                self.meter.doubt(member.name)
            answers.update(self._answers(member))
            answers.update(self._given_up(member, MAYBE if failure else APPLIED))
            self._explain(answers, disturbed=True)
            self.stopped.append(member)
            await self.judge()

        self.run(run)

    def crash(self, member: Member) -> None:
        """End a counter so that it can say nothing more."""

        async def run() -> None:
            await self.judge()
            member.partition()
            member.stopping = True
            if member in self.members:
                self.members.remove(member)
                self.meter.awaited.discard(member.name)
            else:
                self.fenced.remove(member)
            member.scope.cancel()
            await self.host.advance(self.meter, 2 * GRACE)
            assert member.over.is_set(), f"{member} does not stop"
            await member.network.deliver_late_copies()  # no later than this
            answers = dict(self._answers(member))
            answers.update(self._given_up(member, MAYBE))
            self._explain(dict.fromkeys(answers, MAYBE), disturbed=True)
            await self.judge()

        self.run(run)

    async def note_wipe(self, *, calm: bool) -> None:
        """Note that the store has lost everything.

        Args:
            calm: nobody will ask for anything before all who can have been heard again.
        """
        self.wiped_at = trio.current_time()
        self.meter.wiped({member.name for member in self.members}, cleared=self.cleared)
        calm = calm and not any(key.open for key in self.model.values())
        told = {
            member.name
            for member in self.members
            if calm and member.settled and not (member.troubled or member.planned)
        }
        for name, key in self.model.items():
            news = any(self.moved[name] > member.tap.heard for member in self.members)
            if news and self.movers.get(name) not in told:
                # Somebody who has not heard of a move may count on the key before the
                # mover comes back, or the mover may not (L1, L2, L4).
                key.loose = True
            self.meter.lenient |= news
        await self.judge()
