"""Requests and answers, and what the oracle is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import compress
from typing import Final

from distkit_actors._core._messages import (
    Apply,
    Before,
    Done,
    Entry,
    Kind,
    MustResume,
    Open,
    Opened,
    Reply,
    Request,
    Result,
    Resume,
    Verdict,
)
from distkit_actors._core._registry import State
from distkit_actors._core._session import News, Phase, Session
from distkit_actors._core._values import fits
from tests.model.checks import check_due
from tests.model.freeze import LONG_AGO, RETENTION, THRESHOLD
from tests.model.oracle import Op, Violation
from tests.model.parts import Copy, Snapshot, Token, is_write, say
from tests.model.state import WorldState

#: Longer than the limit of silence, shorter than the retention.
BLACKOUT: Final = 4 * THRESHOLD

_KINDS = {"add": Kind.ADD, "put": Kind.PUT, "move": Kind.MOVE, "clear": Kind.CLEAR}


class Exchange(WorldState):
    """A world in which requests and answers travel."""

    __slots__ = ()

    def send(
        self, number: int, ops: tuple[Op, ...] | None, leave: bool, outcome: str, budget: int
    ) -> None:
        """Begin a batch unless ``ops`` is None, and send what is to be sent."""
        actor = self._own(number)
        session = actor.session
        assert session is not None
        if ops is not None:
            begin(session, ops, leave=leave)
            if ops or leave:
                gone = self.oracle.lossy or actor.instance not in self.ns.registry.records
                actor.token = Token(ops, leave, excused=gone)
                if not actor.todo and not actor.leaving:
                    actor.operations -= 1
                actor.todo, actor.leaving = (), False
        request = session.request()
        if request is None:
            raise Violation(f"nothing to send in {session.phase}")
        if outcome != "ok":
            self._spend(outcome)
        if outcome == "drop":
            session.lost()
            if self._may("late"):
                self.mail = [*self.mail, Copy(number, request, current=actor.token is not None)]
            return
        self._own_store()
        reply = self._execute(number, request, budget, outcome, current=True)
        if outcome == "mute":
            session.lost()
        else:
            self._receive(number, reply)

    def arrive(self, index: int, budget: int) -> None:
        """A copy that was held up arrives after all; nobody listens to the answer."""
        copy = self.mail[index]
        self.mail = self.mail[:index] + self.mail[index + 1 :]
        self._spend("late")
        self._own_store()
        self._own(copy.actor)
        self._execute(copy.actor, copy.request, budget, "late", current=copy.current)

    def _execute(
        self, number: int, request: Request, budget: int, outcome: str, *, current: bool
    ) -> Reply:
        if isinstance(request, Apply) and budget:
            request = Apply(
                request.instance,
                request.incarnation,
                request.seq,
                request.known,
                request.pace,
                request.entries,
                request.leave,
                budget,
            )
        registry = self.ns.registry
        holder = registry.records.get(request.instance)
        incarnation = holder.incarnation if holder else 0
        live = holder is not None and holder.state is State.LIVE
        expiring = set(registry.expiring) if self.mail else set()
        if not self.scope.still:
            self.now += 1
        now = self.now
        if outcome == "collect":
            now = self._let_the_retention_pass()
        elif outcome == "blackout":
            now += BLACKOUT
        living = {i for i, r in registry.records.items() if r.state is State.LIVE}
        reply = self.ns.execute(request, now)
        check_due(registry, now)
        if outcome == "collect":
            self.now = now
            registry.due = min(registry.due, THRESHOLD)
            for record in registry.records.values():
                record.deadline = 0 if record.deadline <= 0 else THRESHOLD
        elif outcome == "blackout":
            self._after_blackout(living, now)
        for copy in self.mail:
            if copy.request.instance in registry.expiring.keys() - expiring:
                self.mail = [
                    replace(c, old=True) if c.request.instance == copy.request.instance else c
                    for c in self.mail
                ]
                break
        if isinstance(request, Open) and isinstance(reply, Opened):
            inherited = live and request.inherit
            if reply.incarnation == incarnation:
                pass  # the answer to an earlier copy
            elif reply.inherited != inherited:
                raise Violation(f"{request.instance} inherits: {reply.inherited}")
            else:
                found = self._counted(request.instance)
                withheld = [
                    key
                    for actor in self.actors
                    if actor.session is not None and actor.instance == request.instance
                    for key, _ in actor.session.withheld
                ]
                self.oracle.opened(
                    number,
                    request.instance,
                    inherited=inherited,
                    found=found,
                    withheld=withheld,
                )
        token = self.actors[number].token
        if token is not None and isinstance(reply, Done) and reply.journal is not None:
            if isinstance(request, Apply) and current and not token.applied:
                self._applied(number, token, reply)
            elif isinstance(request, Resume) and token.folded:
                self._asserted(number, token)
        return reply

    def _let_the_retention_pass(self) -> int:
        """Make all moves, and all copies under way, older than the retention; all stay alive."""
        now = self.now + RETENTION + 1
        registry = self.ns.registry
        self.ns.clock = max(self.ns.clock, now - 1)
        for record in registry.records.values():
            record.beat = LONG_AGO
            if record.deadline > 0:
                record.deadline = now + THRESHOLD
        for instance in registry.expiring:
            registry.expiring[instance] = now + RETENTION
        self.mail = []
        holders = {
            instance
            for instance, record in registry.records.items()
            if record.state is State.LIVE or instance in registry.bodies
        }
        self.oracle.collected(
            {
                number: actor.instance
                for number, actor in enumerate(self.actors)
                if actor.session is not None and actor.instance not in holders
            }
        )
        return now

    def _after_blackout(self, living: set[str], now: int) -> None:
        registry = self.ns.registry
        for instance, record in registry.records.items():
            if instance in living and record.state is State.DEAD:
                raise Violation(f"{instance} was declared dead right after a blackout")
            record.deadline = THRESHOLD
            registry.due = min(registry.due, THRESHOLD)
        for instance, at in registry.expiring.items():
            registry.expiring[instance] = max(at, now + 1)
        self.now = now

    # --------------------------------------------------------- what the oracle is told

    def _applied(self, number: int, token: Token, reply: Done) -> None:
        """The store says for the first time that a token's operations were executed."""
        oracle, actor = self.oracle, self.actors[number]
        waiting = {key for key, _ in actor.session.withheld} if actor.session else set()
        excused = [
            key in waiting or oracle.may_differ(number, key, actor.instance)
            for _, key, _ in token.ops
        ]
        refused = [result is Verdict.REFUSED for result in reply.results]
        for op in compress(token.ops, refused):
            self._check_refusal(op, actor.instance)
        ops = [("add", op[1], 0) if no else op for op, no in zip(token.ops, refused, strict=True)]
        before = oracle.run(number, actor.instance, ops, self.scope.keys, len(self.actors))
        if token.leave:
            oracle.left(actor.instance)
        answers: list[tuple[int, int] | None] = []
        for (_, key, _), own, excuse, result in zip(
            ops, before, excused, reply.results, strict=True
        ):
            if result is Verdict.REFUSED:
                answers.append(None)
                continue
            if not isinstance(result, Before):
                raise Violation(f"{key} was answered {result}")
            answers.append((result.cumulative, result.slice))
            if excuse:
                self.tally.exempt += 1
            else:
                self.tally.compared += 1
                if key and result.slice != own:
                    raise Violation(f"own slice of {key} was {own}, the answer says {result.slice}")
        if len(answers) == 1 and answers[0] is not None:
            self._check_sum(token.ops[0], answers[0])
        token.applied, token.answers = True, tuple(answers)
        moved: set[str] = set()
        undo: dict[str, int] = {}
        for (kind, key, _), own in zip(ops, before, strict=True):
            if kind in ("move", "clear"):
                moved.update([key] if key else self.scope.keys)
            elif key not in undo:
                undo[key] = own
        token.undo = tuple((k, v) for k, v in undo.items() if k not in moved)
        if moved:
            for other, each in enumerate(self.actors):
                if other != number and each.token is not None and each.token.undo:
                    kept = tuple(pair for pair in each.token.undo if pair[0] not in moved)
                    self._own(other).token = replace(each.token, undo=kept)
        if self.snapshot:
            self.snapshot = Snapshot(
                self.snapshot.ns, self.snapshot.applied | {number}, self.snapshot.moved | moved
            )

    def _asserted(self, number: int, token: Token) -> None:
        """What a batch was folded into is in the store: this is what its callers may hear of."""
        instance, oracle = self.actors[number].instance, self.oracle
        token.answers = tuple(
            None
            if len(token.ops) > 1 or oracle.may_differ(number, key, instance)
            else (0, oracle.value.get((key, instance), 0))
            for _, key, _ in token.ops
        )

    def _check_refusal(self, op: Op, instance: str) -> None:
        """What fits is not refused."""
        kind, key, value = op
        own = self._counted(instance).get(key, 0)
        total = sum(self._counted(i).get(key, 0) for i in self.ns.registry.records)
        more = value if kind == "add" else value - own
        if kind not in ("add", "put") or (fits(own + more) and fits(total + more)):
            raise Violation(f"{say([op])} was refused, with {own} in {total}")

    def _check_sum(self, op: Op, answer: tuple[int, int]) -> None:
        """The cumulative after the step is what the caller will be told."""
        kind, key, value = op
        cumulative, own = answer
        total = sum(self._counted(i).get(key, 0) for i in self.ns.registry.records)
        match kind:
            case "add":
                told = cumulative + value
            case "put":
                told = cumulative - own + value
            case "move":
                told = value
            case _:
                return
        if told != total:
            raise Violation(f"the answer for {key} says {told}, the slices make {total}")

    # ------------------------------------------------------------------ an answer arrives

    def _receive(self, number: int, reply: Reply) -> None:
        actor = self.actors[number]
        session, token = actor.session, actor.token
        assert session is not None
        news = session.receive(reply)
        if isinstance(reply, Done) and reply.journal:
            self.oracle.heard(number)
        if isinstance(reply, MustResume) and token is not None:
            if token.leave:
                self._leave_refused(number, session)
                return
            if news.results is None and session.phase is Phase.RESUME and not token.folded:
                self._folded(number, token)
        if session.phase is Phase.FENCED:
            self._fenced(number, news, token)
        elif session.phase is Phase.LEFT:
            self.oracle.left(actor.instance)
            self._end(number, "left")
        elif news.results is not None and token is not None:
            self._finish(number, token, news.results)

    def _leave_refused(self, number: int, session: Session) -> None:
        actor = self.actors[number]
        if self.oracle.owner[actor.instance] == number:
            self.oracle.left(actor.instance)
        if session.phase is Phase.LEFT:
            self._end(number, "left")
        else:
            self._forget_token(number)
            actor.leaving = True

    def _folded(self, number: int, token: Token) -> None:
        """A batch of unknown fate becomes part of what is re-asserted (P20)."""
        actor = self.actors[number]
        counts = tuple(op for op in token.ops if op[0] in ("add", "put") and is_write(op))
        if token.applied:
            self.oracle.doubt(number, actor.instance, [key for _, key, _ in counts])
        else:
            self.oracle.run(number, actor.instance, counts, self.scope.keys, len(self.actors))
        token.folded = True
        self._disown_copies(number)

    def _fenced(self, number: int, news: News, token: Token | None) -> None:
        actor = self.actors[number]
        if self.oracle.owner[actor.instance] == number:
            raise Violation(f"{actor.instance}{number} was fenced, but nobody took its id over")
        if token is not None and token.applied and not token.folded:
            for op, result in zip(token.ops, news.results or (), strict=False):
                if result is Verdict.RETRY and is_write(op) and not self.oracle.lossy:
                    raise Violation(f"{say([op])} took effect, its caller is told it did not")
        self._end(number, "fenced")

    def _finish(self, number: int, token: Token, results: Iterable[Result]) -> None:
        """The callers are told."""
        actor, oracle = self.actors[number], self.oracle
        todo = []
        for index, (op, result) in enumerate(zip(token.ops, results, strict=True)):
            key = op[1]
            if result is Verdict.RETRY:
                if token.applied and not token.folded:
                    raise Violation(f"{say([op])} took effect and is to be sent again")
                if token.folded and is_write(op):
                    raise Violation(f"{say([op])} is part of the slice and to be sent again")
                todo.append(op)
            elif result is Verdict.UNKNOWN:
                if not token.excused:
                    raise Violation(f"{say([op])}: its outcome was not unknown")
                oracle.unsure(actor.instance, op, self.scope.keys)
            elif result is Verdict.REFUSED:
                if token.folded or not token.applied or token.answers[index] is not None:
                    raise Violation(f"{say([op])} was not refused")
            elif not isinstance(result, Before):
                raise Violation(f"{say([op])} was answered {result}")
            elif token.folded:
                own = result.slice + op[2] if op[0] == "add" else op[2]
                expected = token.answers[index]
                if expected is None:
                    self.tally.exempt += 1
                elif own != expected[1]:
                    raise Violation(f"the answer says that the own slice of {key} is {own}")
                else:
                    self.tally.compared += 1
            elif not token.applied:
                raise Violation(f"{say([op])} is answered but did not take effect")
            elif token.answers[index] != tuple(result):
                raise Violation(f"{say([op])} is answered {result}, was {token.answers[index]}")
        self._forget_token(number)
        actor.todo = tuple(todo)

    def _forget_token(self, number: int) -> None:
        self.actors[number].token = None
        self._disown_copies(number)
        if self.snapshot:
            applied = self.snapshot.applied - {number}
            self.snapshot = Snapshot(self.snapshot.ns, applied, self.snapshot.moved)

    def _disown_copies(self, number: int) -> None:
        """Copies of what an actor no longer waits for must not be executed any more."""
        if any(copy.actor == number and copy.current for copy in self.mail):
            self.mail = [replace(c, current=c.current and c.actor != number) for c in self.mail]

    def _end(self, number: int, status: str) -> None:
        actor = self.actors[number]
        actor.session, actor.status, actor.operations = None, status, 0
        actor.todo, actor.leaving = (), False
        self._forget_token(number)


def begin(session: Session, ops: Iterable[Op], *, leave: bool = False) -> None:
    """Begin a batch, in the words of the package; a beat tries again what did not fit."""
    entries = [Entry(_KINDS[kind], key, value) for kind, key, value in ops]
    session.begin(entries if entries or leave else session.retries(), leave=leave)
