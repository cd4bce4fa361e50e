"""Random histories: what may happen to a fleet, and what must hold whatever happened.

Faults stack up, for nothing heals by itself: `verify` mends everything and compares, now and
then and at the end of each history. In between every answer must be one that the reference
model can explain, and nobody who beats may be reaped.

Documented limits that need two failures (``docs/guarantees.md``) do not make the model vague:
where one applies, the key is *loose*, that is, not compared until its epoch moves again.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Literal

import trio
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from distkit_actors import (
    CounterClosedError,
    CounterOverflowError,
    DistkitError,
    InstanceConflictError,
    OutcomeUnknownError,
    Store,
    StoreError,
    StoreUnavailableError,
)
from tests.stateful.fleet import GRACE, Call, Member
from tests.stateful.host import Host
from tests.stateful.reference import (
    APPLIED,
    HIGH,
    LOW,
    MAYBE,
    MOVES,
    NEVER,
    OVERFLOW,
    Key,
    Op,
)
from tests.stateful.wires import ABSENT, INTERVAL, PRESENT, THRESHOLD, UNSURE, Meter

SMALL, EXTREME = ("a", "b"), "x"
KEYS = (*SMALL, EXTREME)
MOST_MEMBERS = 5
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

WHO = st.integers(0, MOST_MEMBERS - 1)
KIND = st.sampled_from(sorted(METHODS))
KEY = st.sampled_from(SMALL)
COUNT = st.integers(-5, 9)
EXTREME_COUNT = st.sampled_from([1, -1, 2**62, -(2**62), HIGH, LOW, HIGH - 1, LOW + 1])


class Histories(RuleBasedStateMachine):
    """One namespace, three to five counters, and everything that may go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host()
        self.meter = Meter(self.make_store())
        self.model = {key: Key() for key in KEYS}
        self.moved = dict.fromkeys(KEYS, -1.0)  # by which step of the store, at the latest
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

    @abstractmethod
    def make_store(self) -> Store:
        """Return the store of one history, on trio's clock."""

    @abstractmethod
    def wipe_store(self) -> None:
        """Have the store lose everything it knows of the namespace."""

    @abstractmethod
    def contents(self) -> Mapping[str, Mapping[str, int]]:
        """Return what the store holds: {key: {instance: slice}}, no zeros; check its sums."""

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
            moved = any(op in answers for op in key.open if op.kind in MOVES)
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
                self._counted(member, call)
            for op in call.ops.values():
                yield op, answer

    def _answer(self, member: Member, call: Call) -> object:
        match call.error:
            case None if member.lax and call.name == "get":
                # Without the store's word it is as old as it may be.
                return tuple(call.result or ()) if call.heard < member.tap.answers else NEVER
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

    def _counted(self, member: Member, call: Call) -> None:
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

    def do(self, function: Callable[..., object], *arguments: object) -> None:
        """Do something in the trio thread, and judge what comes of it."""

        async def run() -> None:
            function(*arguments)
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

    # ------------------------------------------------------------------------- rules

    @initialize(lax=st.lists(st.booleans(), min_size=3, max_size=4), chance=st.integers(0, 99))
    def fleet(self, lax: list[bool], chance: int) -> None:
        """Start the first few."""
        self.chance = chance  # who runs first, and how long a counter waits to reconnect
        for is_lax in lax:
            self.start(f"i{len(self.names)}", lax=is_lax)

    @precondition(lambda self: len(self.members) < MOST_MEMBERS)
    @rule(lax=st.booleans(), linger=st.booleans(), twice=st.booleans())
    def join(self, lax: bool, linger: bool, twice: bool) -> None:
        """Somebody new."""
        on_exit: Literal["leave", "linger"] = "linger" if linger else "leave"
        self.start(f"i{len(self.names)}", lax=lax, on_exit=on_exit, twice=twice)

    @precondition(lambda self: len(self.fenced) < 2)
    @rule(name=st.integers(0, 7), lax=st.booleans(), inherit=st.booleans())
    def replace(self, name: int, lax: bool, inherit: bool) -> None:
        """Somebody with an id that was used before, perhaps by one who lives (I11)."""
        old = self.names[name % len(self.names)]
        if len(self.members) < MOST_MEMBERS or any(each.name == old for each in self.members):
            self.start(old, lax=lax, inherit=inherit)

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=WHO)
    def leave(self, who: int) -> None:
        """A clean stop."""
        self.stop(self.member(who))

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=WHO)
    def kill(self, who: int) -> None:
        """The process is no more."""
        self.crash(self.member(who))

    @rule(who=WHO, kind=KIND, key=KEY, count=COUNT)
    def call(self, who: int, kind: str, key: str, count: int) -> None:
        """Any operation."""
        self.operate((who, kind, key, count))

    @rule(who=WHO, kind=st.sampled_from(["inc", "dec", "get", "put"]), key=KEY, count=COUNT)
    def count(self, who: int, kind: str, key: str, count: int) -> None:
        """An operation that leaves the others' slices alone."""
        self.operate((who, kind, key, count))

    @rule(who=WHO, kind=KIND, count=EXTREME_COUNT)
    def call_extreme(self, who: int, kind: str, count: int) -> None:
        """Any operation, near the limits of int64."""
        self.operate((who, kind, EXTREME, count))

    @rule(calls=st.lists(st.tuples(WHO, KIND, KEY, COUNT), min_size=2, max_size=4))
    def burst(self, calls: list[tuple[int, str, str, int]]) -> None:
        """Operations at the same moment."""
        self.operate(*calls)

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
                await self.host.quiesce(self.meter)
            call.scope.cancel()
            await self.host.quiesce(self.meter)
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
        if not member.lax or self.crowded or member.view(key) is None:
            return
        self.pass_time(TICK)
        quiet = not self.model[key].open and self.moved[key] <= member.tap.heard

        def start() -> None:
            if quiet:
                member.watched = key
            for count in counts:
                member.count(key, count)
                self._counted(member, Call({}, "inc", key, ("inc", count)))

        self.do(start)
        self.pass_time(TICK)
        member.watched = None
        owns = [view.instance_count for view in member.views]
        assert owns == sorted(owns), f"{member} saw {owns} of {key}"
        member.views.clear()

    @rule(who=WHO)
    def flush(self, who: int) -> None:
        """All that was counted is in the store when it returns."""
        member = self.member(who)
        if not member.lax or member.troubled or member.calls:
            return

        async def run() -> None:
            await self.judge()
            waiting = member.all_counts()
            with trio.fail_after(2 * INTERVAL):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(member.flush)
                    await self.host.advance(self.meter, INTERVAL)
            self._explain(dict.fromkeys(waiting, APPLIED))
            for ops in member.counts.values():
                ops[:] = [op for op in ops if op not in waiting]
            await self.judge()

        self.run(run)

    @rule(
        who=WHO,
        fault=st.sampled_from(["drop_request", "drop_reply", "late_copy", "duplicate", "away"]),
        times=st.integers(1, 3),
    )
    def fault(self, who: int, fault: str, times: int) -> None:
        """Trouble with the next few requests."""
        member = self.member(who)
        member.planned = True
        getattr(member.network, fault)(times)

    @rule(who=WHO, fault=st.sampled_from(["hold", "hold_replies", "delay", "away", "refuse"]))
    def lasting_fault(self, who: int, fault: str) -> None:
        """Trouble until somebody mends it."""
        self._trouble(self.member(who), fault)

    def _trouble(self, member: Member, fault: str) -> None:
        member.troubled = True
        network = member.network
        match fault:
            case "hold":
                network.hold()
            case "hold_replies":
                network.hold(replies=True)
            case "delay":
                network.delay(0.3)
            case "away":
                network.away(None)
            case "refuse":
                network.refuse(StoreError("OOM"))
            case _:
                member.partition()

    @rule(fault=st.sampled_from(["away", "refuse", "cut"]))
    def store_trouble(self, fault: str) -> None:
        """The store is away, or refuses everybody."""

        def run() -> None:
            for member in self.members:
                self._trouble(member, fault)

        self.do(run)

    @rule(who=WHO)
    def cut(self, who: int) -> None:
        """A partition."""
        self.do(self.member(who).partition)

    @rule(who=WHO, seconds=st.sampled_from([0.0, 1.5]))
    def heal(self, who: int, seconds: float) -> None:
        """The end of all trouble of somebody."""
        self.do(self.member(who).mend)
        self.pass_time(seconds)

    @rule()
    def heal_all(self) -> None:
        """The end of all trouble."""

        def run() -> None:
            for member in self.members:
                member.mend()

        self.do(run)

    @rule(who=WHO, seconds=st.sampled_from([3.0, THRESHOLD + 1.0, THRESHOLD + 5.0]))
    def partition(self, who: int, seconds: float) -> None:
        """A partition, shorter or longer than the threshold, and what comes after it."""
        member = self.member(who)
        self.do(member.partition)
        self.pass_time(seconds)
        self.do(member.mend)

    @rule(who=WHO)
    def late_copies(self, who: int) -> None:
        """What was lost for now arrives."""
        pool = [*self.members, *self.stopped, *self.fenced]
        member = pool[who % len(pool)]

        async def run() -> None:
            await member.network.deliver_late_copies()
            await self.judge()

        self.run(run)

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.5, 5.0, 9.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.pass_time(seconds)

    @rule(seconds=st.sampled_from([1.0, 3.5, THRESHOLD + 1.0, 20.0]))
    def suspend(self, seconds: float) -> None:
        """Time passes while all processes are frozen."""

        async def run() -> None:
            await self.judge()
            await self.host.suspend(self.meter, seconds)
            await self.judge()

        self.run(run)

    @rule(seconds=st.sampled_from([4.5, THRESHOLD + 0.5, THRESHOLD + 4.0]))
    def blackout(self, seconds: float) -> None:
        """Nobody reaches the store for a while (I5)."""

        def cut() -> None:
            for member in (*self.members, *self.fenced):
                member.partition()

        self.do(cut)
        self.pass_time(seconds)
        self.heal_all()

    @rule(seconds=st.sampled_from([0.0, INTERVAL + 0.5]))
    def wipe(self, seconds: float) -> None:
        """The store loses everything (I7)."""
        for member in list(self.fenced):
            # After this loss nobody could tell it that somebody newer has its id.
            self.crash(member)
        self.pass_time(TICK)
        self.wipe_store()

        async def run() -> None:
            self.wiped_at = trio.current_time()
            self.meter.wiped({member.name for member in self.members}, cleared=self.cleared)
            for name, key in self.model.items():
                if any(self.moved[name] > member.tap.heard for member in self.members):
                    # Somebody who has not heard of a move may count on the key before the
                    # mover comes back, or the mover may not (L1, L2, L4).
                    key.loose = self.meter.lenient = True
            await self.judge()

        self.run(run)
        self.pass_time(seconds)

    # --------------------------------------------------------------------- comparing

    @rule()
    def verify(self) -> None:
        """Mend everything, let everybody be heard, and compare."""
        self.heal_all()

        async def late() -> None:
            for member in (*self.members, *self.stopped, *self.fenced):
                await member.network.deliver_late_copies()
            self.stopped.clear()
            await self.judge()

        self.run(late)
        self.run(self._dismiss)
        self.pass_time(4 * INTERVAL)
        self.run(self._all_settled)
        # The dead may have a fresh threshold after a blackout.
        self.pass_time(2 * THRESHOLD + 2 * INTERVAL)
        self.meter.lenient = False
        statuses = {member.name: self.before[member.name] for member in self.members}
        assert set(statuses.values()) <= {PRESENT}, statuses
        for key in KEYS:
            self._compare(key)

    async def _all_settled(self) -> None:
        for member in self.members:
            assert member.settled, f"{member} has not come to rest"

    async def _dismiss(self) -> None:
        """Tell those who were superseded, and end them."""
        for member in self.fenced:
            member.mend()
            await self.host.advance(self.meter, INTERVAL)
            with trio.fail_after(1):
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(member.counter.clear)
                        await self.host.quiesce(self.meter)
                except* InstanceConflictError:
                    pass
                else:
                    raise AssertionError(f"{member} does not know that somebody has its id")
            member.stopping = True
            with suppress(InstanceConflictError):
                await member.close()
        self.fenced.clear()
        await self.judge()

    def _compare(self, name: str) -> None:
        """Every view of one key, the store and the model say the same."""
        key = self.model[name]
        if not key.loose:
            assert not key.open, f"{key.open} is still open"
        self.pass_time(TICK)
        views = {}
        for number, member in enumerate(self.members):
            calls: list[Call] = []

            def start(number: int = number, calls: list[Call] = calls) -> None:
                calls.append(self.begin(self.member(number), "get", name, 0))

            self.do(start)
            call = calls[0]
            assert call.over, f"{member} does not answer"
            assert call.result is not None, call.error
            views[member.name] = call.result
        sums = {view.cumulative for view in views.values()}
        assert len(sums) == 1, f"{name}: {views}"
        slices = {who: view.instance_count for who, view in views.items() if view.instance_count}
        if key.loose:
            return
        assert sums == {sum(slices.values())}, f"{name}: {views}"
        assert len(key.worlds) == 1, f"{name}: {key.worlds}"
        assert dict(next(iter(key.worlds))[0]) == slices
        held = self.contents().get(name, {})
        assert held == slices, f"{name}: the store holds {held}, the instances say {slices}"

    def teardown(self) -> None:
        """Compare at the end, whatever happened, unless something was found already."""
        try:
            if self.members and not self.failed:
                self.verify()
        finally:
            self.host.close()
