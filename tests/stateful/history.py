"""One history: its counters, what the model says of them, and how the two are compared.

After each rule every answer must be one that the reference model can explain, and nobody who
beats may have been reaped. Documented limits that need two failures do not make the model
vague for long: where L1 applies, what is told of the key means nothing until all have heard of the
move (`Key.blur`), and where L2 or L4 does, the key is *loose*, that is, not compared until its
epoch moves again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import ClassVar

import trio
from hypothesis import note

from distkit_actors import (
    Change,
    CounterClosedError,
    CounterOverflowError,
    InstanceConflictError,
    LimitReachedError,
    OutcomeUnknownError,
    Store,
    StoreError,
    StoreUnavailableError,
)
from tests.stateful.clock import StoreClock
from tests.stateful.ends import Meters, place
from tests.stateful.fleet import Block, Call, Member
from tests.stateful.host import Host
from tests.stateful.operations import (
    EXTREME,
    HOLDS,
    KEYS,
    LOCAL,
    OF_EVERY_KEY,
    READS,
    Effect,
    wanted,
)
from tests.stateful.reference import (
    APPLIED,
    LIMIT,
    MAYBE,
    MOVES,
    NEVER,
    OVERFLOW,
    Key,
    Op,
    has_moved,
)
from tests.stateful.wires import ABSENT, UNSURE

#: The model tries all orders of what is open.
MOST_OPEN_CALLS, MOST_OPEN_OPS = 3, 6
TICK = 0.05  # longer than `flush_interval` and `allowed_lag`
PATIENCE = 0.25  # longer than a lax read waits


class History:
    """One namespace, the counters that live in it, and the model of what they hold."""

    def __init__(self) -> None:
        self.host = Host()
        self.clock = StoreClock()
        self.meters = Meters(self.make_store(), self.clock)
        self.traffic = self.meters.traffic
        self.model = {key: Key() for key in KEYS}
        self.moved = dict.fromkeys(KEYS, -1.0)  # by which step of its part, at the latest
        self.movers: dict[str, str] = {}  # {key: who moved it last, where that is certain}
        self.untold: dict[str, str] = {}  # {key: who has to tell the store of its move again}
        self.members: list[Member] = []
        self.fenced: list[Member] = []  # superseded, and perhaps not aware of it
        self.stopped: list[Member] = []  # with copies of requests that may still arrive
        self.names: list[str] = []
        # For each part: statuses when the last rule ended, and when and by which step it lost
        # something last.
        self.before: list[dict[str, str]] = [{} for _ in self.meters.parts]
        self.wiped_at = [-math.inf] * len(self.before)
        self.lost_at = [-1] * len(self.before)
        self.cleared = False  # at some time
        self.failed = False
        self.chance = 0

    # ---------------------------------------------------------- what differs by store

    prefix: str
    partitions: ClassVar[int] = 1

    def make_store(self) -> Store:
        """Return the store of one history, on its clock."""
        raise NotImplementedError

    def wipe_store(self, part: int) -> None:
        """Have a part of the store lose everything it knows of the namespace."""
        raise NotImplementedError

    def contents_of(self, part: int) -> Mapping[str, Mapping[str, int]]:
        """Return what a part holds: {key: {instance: slice}}, no zeros; check its sums."""
        raise NotImplementedError

    def contents(self) -> Mapping[str, Mapping[str, int]]:
        """Return what all parts hold, as `contents_of` does."""
        held: dict[str, Mapping[str, int]] = {}
        for part in range(self.partitions):
            held.update(self.contents_of(part))
        return held

    # --------------------------------------------------------------------- judging

    async def judge(self) -> None:
        """Wait until all is quiet, then see whether everything can be explained."""
        await self.host.quiesce(self.traffic)
        for meter in self.meters.parts:
            assert not meter.violations, meter.violations
        for member in self.members:
            assert not member.has_ended, f"{member} has crashed"
        for member in self.fenced:
            if member.over.is_set():
                assert isinstance(member.failure, InstanceConflictError), f"{member} has crashed"
        answers: dict[Op, object] = {}
        for member in self.members:
            answers.update(self._answers(member))
        for member in self.members:
            settled = {part for part in range(len(self.before)) if member.settled_in(part)}
            hanging = [
                call
                for call in member.calls
                if not (call.over or call.cancelled) and self.parts_of(call) <= settled
            ]
            assert not hanging, f"nobody will ever answer {hanging}"
            answers.update(self._given_up(member, APPLIED, settled))
        self._explain(answers)
        self._compare_local_views()

    def _doubts(self, part: int) -> tuple[dict[str, str], set[str], set[str]]:
        """Return everybody's status, and whose slices may be counted or not, and whose are not."""
        meter, before = self.meters.parts[part], self.before[part]
        now = {name: meter.status(name) for name in self.names}
        unsure = meter.flickered | {
            name
            for name, status in now.items()
            if status == UNSURE or status != before.get(name, status)
        }
        return now, unsure, {name for name, status in now.items() if status == ABSENT} - unsure

    def _explain(self, answers: Mapping[Op, object], *, disturbed: bool = False) -> None:
        doubts = [self._doubts(part) for part in range(len(self.before))]
        alive = {member.name for member in self.members}
        for name, key in self.model.items():
            _, unsure, absent = doubts[self.part_of(name)]
            restless = disturbed or bool(unsure or absent)
            self._loosen_if_full(key, disturbed=restless)
            moves = [op for op in key.open if op.kind in MOVES]
            moved = any(op in answers for op in moves)
            sure = [op for op in moves if has_moved(op, answers.get(op, MAYBE))]
            if sure:
                self.untold.pop(name, None)
            if sure or any(answers.get(op, MAYBE) is MAYBE for op in moves):
                self.movers.pop(name, None)
            if len(moves) == len(sure) == 1:
                self.movers[name] = moves[0].who
            key.explain(answers, unsure, absent)
            self._loosen_if_full(key, disturbed=restless)
            if any(op.kind in MOVES for op in key.open) or self._is_untold(name):
                self.moved[name] = math.inf
            elif moved or math.isinf(self.moved[name]):
                self.moved[name] = self.meters.of(name).steps
            if key.stale:
                meter = self.meters.of(name)
                gone = {each for each in self.names if meter.status(each) == ABSENT} - alive
                key.catch_up((meter.lost & alive) | (key.stale - alive - gone))
            if not self._is_untold(name) and key.suspects.isdisjoint(self._unheard(name)):
                key.clear_up()
            for dead in absent - alive:
                key.drop(dead)
        for part, (now, _, _) in enumerate(doubts):
            self.before[part] = now
            self.meters.parts[part].flickered.clear()

    def _unheard(self, name: str) -> set[str]:
        """Return who may not have heard of the last move of a key."""
        return {m.name for m in self.members if self.moved[name] > m.taps.of(name).heard}

    def _is_untold(self, name: str) -> bool:
        """Whether nobody can hear of the last move, as the store lost it and its mover is not back.

        Whoever watches asks at once, and so before the mover as well as after it.
        """
        return self.untold.get(name) in self.meters.of(name).lost

    def _loosen_if_full(self, key: Key, *, disturbed: bool) -> None:
        """I12: what comes or goes may have to wait until it fits."""
        if disturbed and key is self.model[EXTREME] and key.may_not_fit():
            key.loosen()

    def _answers(self, member: Member) -> Iterable[tuple[Op, object]]:
        """Yield what the calls that are over say, and forget them."""
        over = [call for call in member.calls if call.over and not call.cancelled]
        for call in sorted(over, key=lambda call: call.number):
            member.calls.remove(call)
            answer = self._answer(member, call)
            if not call.ops and answer is APPLIED:
                self.counted(member, call)
            for key, op in call.ops.items():
                yield op, self._said_of(member, call, key, answer)
            if call.block is not None:
                self._entered(member, call.block, answer)

    def _said_of(self, member: Member, call: Call, key: str, answer: object) -> object:
        """Return what the answer of a call means for one key."""
        part = self.part_of(key)
        if call.error is None and member.lax and call.name in READS and part not in call.fresh:
            return NEVER  # without the store's word it is as old as it may be
        if isinstance(answer, dict):
            return answer[key]
        if call.error is not None and len(self.parts_of(call)) > 1:
            done = getattr(call.error, "applied", ())
            if key in done:
                return APPLIED if call.ops[key].condition is None else MAYBE
            failed = {self.part_of(each) for each in call.ops if each not in done}
            if len(failed) > 1:
                return MAYBE  # the error is about one of them, and the others are in its notes
        if answer is OVERFLOW and "_all" in call.name and repr(key) not in str(call.error):
            return NEVER  # all or none
        return answer

    def _entered(self, member: Member, block: Block, answer: object) -> None:
        """The entry of a block is over: who is inside, and who may be without knowing it?"""
        if answer is MAYBE:
            self.exited(member, block)
        elif answer not in (NEVER, LIMIT, OVERFLOW):
            member.blocks.append(block)
            if member.stopping and member.on_exit == "linger":
                self.exited(member, block)

    def _answer(self, member: Member, call: Call) -> object:
        match call.error:
            case None if not call.ops:
                return APPLIED
            case None:
                return plain(call.result)
            case LimitReachedError():
                return LIMIT
            case CounterOverflowError():
                return OVERFLOW if call.name != "remove_all" else MAYBE
            case OutcomeUnknownError() if member.stopping or self._may_be_lost(call):
                return MAYBE
            case StoreUnavailableError() if member.stopping:
                return MAYBE
            case CounterClosedError() if member.stopping:
                return NEVER
            case StoreError() if type(call.error) is StoreError and self._may_be_refused(call):
                return NEVER
            case _:
                raise AssertionError(f"{member}: {call} must not fail so") from call.error

    def _may_be_lost(self, call: Call) -> bool:
        """Whether the store may have lost its record of the call (L4), as its counter sees it.

        What only reads has none.
        """
        parts = self.parts_of(call)
        lost = call.unknown_to & parts or any(self.wiped_at[part] >= call.began for part in parts)
        return bool(lost) and call.name.removesuffix("!") not in READS

    def _may_be_refused(self, call: Call) -> bool:
        """Whether there was a lasting fault on the way to a part that the call is about."""
        return not call.troubled.isdisjoint({None, *self.parts_of(call)})

    def count_now(self, member: Member, key: str, count: int) -> None:
        """Have a lax counter count without waiting."""
        member.count(key, count)
        self.counted(member, Call(wanted("inc", key, count), {}))

    def counted(self, member: Member, call: Call) -> None:
        """A lax counter has counted something, which the store will hear of."""
        after = member.all_counts()
        for key, effect in call.wanted.effects.items():
            doubt = self._may_be_voided(member, key)
            op = self._op(
                member, key, effect, call.block, pending_count=True, after=after, voidable=doubt
            )
            self.model[key].open.append(op)
            member.counts.setdefault(key, []).append(op)

    def _may_be_voided(self, member: Member, key: str) -> bool:
        """Whether a count that begins now may be voided by a move that came before it (L4).

        Its counter does not know that the store lost everything, and that the key has moved since.
        If the first request with the count gets lost on the way, nobody can tell whether it was
        executed before the loss, and there is no caller to be told so.
        """
        part = self.part_of(key)
        unaware = member.name in self.meters.parts[part].lost
        shaky = bool(member.troubled or member.planned)
        return unaware and shaky and self.moved[key] > self.lost_at[part]

    def exited(self, member: Member, block: Block) -> None:
        """The end of a hold is on its way; it comes behind what its counter has counted."""
        if block in member.blocks:
            member.blocks.remove(block)
        after = (*member.all_counts(), *(op for op in self._ops(member) if op.hold == block.hold))
        effect = Effect("exit", block.count)
        op = self._op(member, block.key, effect, block, pending_count=member.lax, after=after)
        self.model[block.key].open.append(op)
        if member.lax:
            member.counts.setdefault(block.key, []).append(op)
        else:
            member.exits.setdefault(block.key, []).append(op)

    def _ops(self, member: Member) -> Iterable[Op]:
        return (op for call in member.calls for op in call.ops.values())

    def _op(
        self, member: Member, key: str, effect: Effect, block: Block | None, **how: object
    ) -> Op:
        how["hold"] = None if block is None else block.hold
        how["doomed"] = member.name in self.model[key].suspects
        return Op(member.name, **vars(effect), **how)  # type: ignore[arg-type]  # fields of `Op`

    def _given_up(
        self, member: Member, counts: str, parts: Collection[int] | None = None
    ) -> Iterable[tuple[Op, object]]:
        """Yield answers for what nobody waits for, in some parts or in all; forget all of it."""
        parts = range(len(self.before)) if parts is None else parts
        for key in filter(lambda key: self.part_of(key) in parts, KEYS):
            for op in (*member.counts.pop(key, ()), *member.exits.pop(key, ())):
                yield op, counts
        for call in list(member.calls):
            here = self.parts_of(call).issubset(parts)
            if not (here or call.over or call.cancelled):
                continue  # it waits for other parts, and will say what came of this one
            for key in [key for key in call.ops if self.part_of(key) in parts]:
                yield call.ops.pop(key), MAYBE
            if here:
                member.calls.remove(call)

    def _compare_local_views(self) -> None:
        """An instance sees what it counted itself, unless a move is news to it (I8)."""
        for member in self.members:
            if not member.lax:
                continue
            for name, key in self.model.items():
                view = member.view(name)
                if view is None or key.vague or key.untold(member.name):
                    continue
                if self.moved[name] <= member.taps.of(name).heard:
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
            await self.host.advance(self.traffic, seconds)
            await self.judge()

        self.run(run)

    def member(self, who: int) -> Member:
        """Return one of the members, whatever their number."""
        return self.members[who % len(self.members)]

    def part_of(self, key: str) -> int:
        """Return the number of the part that a key is in."""
        return place(key, len(self.before))

    def parts_of(self, call: Call) -> set[int]:
        """Return the numbers of the parts that a call is about."""
        if call.name in OF_EVERY_KEY or not call.wanted.effects:
            return set(range(len(self.before)))
        return {self.part_of(key) for key in call.wanted.effects}

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
        want = wanted(kind, key, count)
        block = Block(member.name, key, count) if kind in HOLDS else None
        local = member.lax and kind in LOCAL
        after = member.all_counts()
        ops: dict[str, Op] = {}
        if not local or kind in READS:
            ops = {
                each: self._op(member, each, effect, block, sees_pending=local, after=after)
                for each, effect in want.effects.items()
            }
        call = Call(want, ops, heard=member.answers)
        call.block = block
        parts = enumerate(self.meters.parts)
        call.unknown_to = {part for part, meter in parts if member.name in meter.lost}
        for each, op in ops.items():
            self.model[each].open.append(op)
            if op.kind in MOVES:
                self.moved[each] = math.inf
        member.ask(self.host.nursery, call)
        return call

    def operate(self, *wanted: tuple[int, str, str, int]) -> None:
        """Make calls at the same moment, and wait for them while the network is sound."""
        self.pass_time(TICK)
        calls: list[Call] = []

        def start() -> None:
            for who, kind, key, count in wanted:
                member = self.member(who)
                if key == EXTREME and (kind in HOLDS or (member.lax and kind in LOCAL - READS)):
                    continue  # a count that is refused later would take its neighbours along
                if not self.crowded:
                    calls.append(self.begin(member, kind, key, count))

        self.do(start)
        if any(call.name in LOCAL and not call.over for call in calls):
            self.pass_time(PATIENCE)
        for call in calls:
            outcome = call.result if call.error is None else repr(call.error)
            note(f"# {call} -> {outcome if call.over else '...'}")


def plain(result: object) -> object:
    """Return what a call returned as the model says it; of several keys {key: that}."""
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()}
    if isinstance(result, Change):
        return (tuple(result.previous), tuple(result.current), result.applied)
    return None if result is None else tuple(result)  # type: ignore[arg-type]  # a value
