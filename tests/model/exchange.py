"""Requests and answers, and what the oracle is told of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import compress, zip_longest
from typing import Final

from distkit_actors._instance._session import Phase, Session
from distkit_actors._instance._session_state import Update
from distkit_actors._namespace._registry import State
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    ConditionFailed,
    Entry,
    Kind,
    MustResume,
    Open,
    Opened,
    Previous,
    Rejection,
    Reply,
    Request,
    Result,
    Resume,
)
from distkit_actors._protocol._values import fits
from tests.model.checks import check_due
from tests.model.desks import Desks
from tests.model.freeze import RETENTION, THRESHOLD, UNHEARD, said
from tests.model.oracle import Op, Violation
from tests.model.parts import Answer, Copy, Snapshot, Token, is_replaced, is_write, say
from tests.model.scope import ADDS, CONDITIONS, LARGE

#: Longer than the limit of silence, shorter than the retention.
BLACKOUT: Final = 4 * THRESHOLD

_KINDS = {"add": Kind.ADD, "put": Kind.PUT, "move": Kind.MOVE, "clear": Kind.CLEAR}


class Exchange(Desks):
    """A world in which requests and answers travel."""

    __slots__ = ()

    def send(
        self,
        number: int,
        ops: tuple[Op, ...] | None,
        leave: bool,
        atomic: bool,
        outcome: str,
        budget: int,
    ) -> None:
        """Begin a batch unless ``ops`` is None, and send what is to be sent."""
        actor = self._own(number)
        session = actor.session
        assert session is not None
        if ops is not None:
            self._begin(number, ops, leave=leave, atomic=atomic)
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
        if outcome == "refuse":
            if self._may_withdraw(number, ops, moves=True):
                self._withdraw(number)
            elif actor.desk is not None:
                actor.desk.fail_waiting()
            return
        self._own_store()
        reply = self._execute(number, request, budget, outcome, current=outcome != "lie")
        if outcome == "mute":
            session.lost()
        elif outcome == "lie":
            self._withdraw(number)
        else:
            self._receive(number, reply)

    def _may_withdraw(self, number: int, ops: tuple[Op, ...] | None, *, moves: bool) -> bool:
        """Tell whether a refusal would have an actor give up what it is to send.

        ``moves``: even if that moves epochs, which nothing undoes if it is executed all the same.
        """
        actor = self.actors[number]
        session, desk = actor.session, actor.desk
        assert session is not None
        if session.phase is not Phase.LIVE or session.in_doubt:
            return False  # it is kept, or is no batch
        if moves:
            return True
        batch = session._batch
        moved = [op for op in ops or () if op[0].rstrip("?") in ("move", "clear")]
        asked = [op for op in (desk.asks if desk else ()) if op.kind is Kind.MOVE]
        sent = [e for e in (batch.entries if batch else ()) if e.kind in (Kind.MOVE, Kind.CLEAR)]
        return not (moved or asked or sent)

    def _withdraw(self, number: int) -> None:
        """The store says that it refuses what was sent, and callers hear that nothing changed."""
        actor = self.actors[number]
        assert actor.session is not None
        actor.session.withdraw()
        actor.leaving = actor.token is not None and actor.token.leave
        self._forget_token(number)
        if actor.desk is not None:
            actor.desk.refused()

    def _begin(self, number: int, ops: tuple[Op, ...], *, leave: bool, atomic: bool) -> None:
        """Make operations the outstanding batch; without any it is a beat."""
        actor = self.actors[number]
        session = actor.session
        assert session is not None
        if actor.desk is None:
            begin(session, ops, leave=leave, atomic=atomic)
            if (ops or leave) and not actor.todo and not actor.leaving:
                actor.operations -= 1
        else:
            if ops:
                actor.operations -= 1
                actor.desk.do(ops, atomic=atomic)
            ops, atomic = self.take_along(number, beat=not ops)
        if ops or leave:
            gone = self.oracle.lossy or actor.instance not in self.ns.registry.records
            actor.token = Token(ops, leave, atomic, excused=gone)
            actor.todo, actor.leaving = (), False

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
            request = request._replace(budget=budget)
        registry = self.ns.registry
        holder = registry.records.get(request.instance)
        incarnation = holder.incarnation if holder else 0
        live = holder is not None and holder.state is State.LIVE
        heard = holder is not None and live and holder.deadline > 0
        # Nothing is the holder's own: what is there it is throwing away.
        empty = holder is not None and (holder.reply.again or not (holder.inherited or holder.seq))
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
            inherited = live and request.inherit and not empty
            if reply.incarnation == incarnation:
                pass  # the answer to an earlier copy
            elif request.refuse and heard:
                raise Violation(f"{request.instance} was taken over, and it is alive")
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
        if token is not None and isinstance(reply, Applied) and reply.journal is not None:
            if isinstance(request, Apply) and current and not token.applied:
                self._applied(number, token, request, reply)
            elif isinstance(request, Resume) and token.folded:
                self._asserted(number, token, {claim.key for claim in request.claims})
        return reply

    def _let_the_retention_pass(self) -> int:
        """Make all moves, and all copies under way, older than the retention; all stay alive."""
        now = self.now + RETENTION + 1
        registry = self.ns.registry
        self.ns.clock = max(self.ns.clock, now - 1)
        registry.observed.last = now - 1
        for record in registry.records.values():
            record.heard = UNHEARD
            if record.deadline > 0:
                record.deadline = now + THRESHOLD
        for instance in registry.expiring:
            registry.expiring[instance] = now + RETENTION
        self.mail = []
        holders = {
            instance
            for instance, record in registry.records.items()
            if record.state is State.LIVE or instance in registry.reap_queue
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

    def _applied(self, number: int, token: Token, request: Apply, reply: Applied) -> None:
        """The store says for the first time that a token's operations were executed."""
        oracle, actor = self.oracle, self.actors[number]
        waiting = {key for key, _ in actor.session.withheld} if actor.session else set()
        excused = [
            key in waiting or oracle.may_differ(number, key, actor.instance)
            for _, key, _ in token.ops
        ]
        refused = [result is Rejection.REFUSED for result in reply.results]
        for op in compress(token.ops, refused):
            self._check_refusal(op, actor.instance)
        _check_results(token, reply.results)
        ops = [
            _effect(op) if isinstance(result, Previous) else ("add", op[1], 0)
            for op, result in zip(token.ops, reply.results, strict=True)
        ]
        free = [
            each if isinstance(result, Previous) else {0}
            for each, result in zip(self.free_of_holds(number, ops), reply.results, strict=True)
        ]
        touched = [op[1] for op, each in zip(ops, free, strict=True) if op[2] or each != {0}]
        oracle.doubt(number, actor.instance, touched, self.held(number))
        self.tell_holds(number, request.entries, reply.results)
        before = oracle.run(number, actor.instance, ops, self.scope.keys, len(self.actors), free)
        if token.leave:
            oracle.left(actor.instance)
        answers: list[Answer | None] = []
        for (_, key, _), own, excuse, result in zip(
            ops, before, excused, reply.results, strict=True
        ):
            if result is Rejection.REFUSED:
                answers.append(None)
                continue
            answers.append(said(result))
            if isinstance(result, Rejection):
                continue
            if excuse:
                self.comparisons.exempt += 1
            else:
                self.comparisons.compared += 1
                if key and result.slice != own:
                    raise Violation(f"own slice of {key} was {own}, the answer says {result.slice}")
        if len(answers) == 1 and not isinstance(reply.results[0], Rejection):
            self._check_sum(ops[0], reply.results[0])
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

    def _asserted(self, number: int, token: Token, keys: Collection[str]) -> None:
        """What a batch was folded into is in the store: this is what its callers may hear of."""
        instance, oracle = self.actors[number].instance, self.oracle
        token.answers = tuple(
            before
            if key not in keys
            else None
            if len(token.ops) > 1 or oracle.may_differ(number, key, instance)
            else (0, oracle.value.get((key, instance), 0))
            for (_, key, _), before in zip_longest(token.ops, token.answers[: len(token.ops)])
        )

    def _check_refusal(self, op: Op, instance: str) -> None:
        """What fits is not refused."""
        kind, key, value = op
        own = self._counted(instance).get(key, 0)
        total = sum(self._counted(i).get(key, 0) for i in self.ns.registry.records)
        more = value if kind in ADDS else value - own
        moves = kind in ("move", "move?", "clear")
        if moves or (fits(own + more) and fits(total + more)):
            raise Violation(f"{say([op])} was refused, with {own} in {total}")

    def _check_sum(self, op: Op, answer: Previous | ConditionFailed) -> None:
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
        update = session.receive(reply)
        if isinstance(reply, Applied) and reply.journal:
            epochs = self.ns.registry.epochs
            # What is archived is learned of by claims: of all of it when the return is complete.
            known = session._resumption.since if session._resumption else session.known
            self.oracle.heard(number, {k for k in self.scope.keys if epochs.of(k) > known})
        if isinstance(reply, MustResume) and token is not None:
            if token.leave:
                self._leave_refused(number, session)
                return
            if update.results is None and session.phase is Phase.RESUME and not token.folded:
                self._folded(number, token)
        if session.phase is Phase.FENCED:
            self._fenced(number, update, token)
        elif session.phase is Phase.REFUSED:
            self._refused(number)
        elif session.phase is Phase.LEFT:
            self.oracle.left(actor.instance)
            self._end(number, "left")
        elif update.results is not None and token is not None:
            self._finish(number, token, update.results)
        self.hand_out(number, update)

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
        """A batch of unknown fate becomes part of what is re-asserted (P20, doubtful batch)."""
        actor = self.actors[number]
        assert actor.session is not None
        work = actor.session._resumption
        assert work is not None
        free = self.free_of_holds(number, token.ops)
        for index, (op, result) in enumerate(zip(token.ops, work.results or (), strict=True)):
            if _is_decided_anew(token, index):
                # As good as never executed.
                undo = [pair for pair in token.undo if pair[0] == op[1]]
                self.oracle.undo(actor.instance, undo, free=free[index] == {0})
            elif result is Rejection.REFUSED or op[0] in ("move", "clear") or not is_write(op):
                pass  # if the own slice does not fit, then whatever the store held
            else:
                self.oracle.doubt(number, actor.instance, [op[1]], self.held(number))
                if not token.was_executed(index):
                    done, keys, actors = [_effect(op)], self.scope.keys, len(self.actors)
                    self.oracle.run(number, actor.instance, done, keys, actors, [free[index]])
        self.fold_holds(number, token.ops)
        token.folded = True
        self._disown_copies(number)

    def _fenced(self, number: int, update: Update, token: Token | None) -> None:
        actor = self.actors[number]
        if self.oracle.owner[actor.instance] == number:
            raise Violation(f"{actor.instance}{number} was fenced, but nobody took its id over")
        if token is not None and token.applied and not token.folded:
            for op, result in zip(token.ops, update.results or (), strict=False):
                if result is Rejection.RETRY and is_write(op) and not self.oracle.lossy:
                    raise Violation(f"{say([op])} took effect, its caller is told it did not")
        self._end(number, "fenced")

    def _refused(self, number: int) -> None:
        """A newcomer has found somebody alive."""
        actor = self.actors[number]
        record = self.ns.registry.records.get(actor.instance)
        if record is None or record.state is not State.LIVE or record.deadline <= 0:
            raise Violation(f"{actor.instance}{number} was refused, but nobody alive has its id")
        self._end(number, "refused")

    def _finish(self, number: int, token: Token, results: Iterable[Result]) -> None:
        """The callers are told."""
        actor, oracle = self.actors[number], self.oracle
        todo = []
        for index, (op, result) in enumerate(zip(token.ops, results, strict=True)):
            key = op[1]
            if result is Rejection.RETRY:
                if token.applied and not token.folded:
                    raise Violation(f"{say([op])} took effect and is to be sent again")
                if token.folded and is_write(op) and not _is_decided_anew(token, index):
                    raise Violation(f"{say([op])} is part of the slice and to be sent again")
                todo.append(op)
            elif result is Rejection.UNKNOWN:
                if not token.excused:
                    raise Violation(f"{say([op])}: its outcome was not unknown")
                oracle.unsure(actor.instance, _effect(op), self.scope.keys)
                self.lose_holds(number, index, key)
            elif result is Rejection.REFUSED:
                told = token.applied and token.answers[index] is None
                if not (abs(op[2]) >= LARGE if token.folded else told):
                    raise Violation(f"{say([op])} was not refused")
            elif token.folded and isinstance(result, Previous):
                own = result.slice + op[2] if op[0] in ADDS else op[2]
                expected = token.answers[index]
                if expected is None:
                    self.comparisons.exempt += 1
                elif own != expected[1]:
                    raise Violation(f"the answer says that the own slice of {key} is {own}")
                else:
                    self.comparisons.compared += 1
            elif not token.applied:
                raise Violation(f"{say([op])} is answered but did not take effect")
            elif token.answers[index] != said(result):
                raise Violation(f"{say([op])} is answered {result}, was {token.answers[index]}")
        self._forget_token(number)
        if actor.desk is None:
            actor.todo, actor.atomic = tuple(todo), token.atomic

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
        actor.todo, actor.leaving, actor.desk = (), False, None
        self._forget_token(number)


def begin(
    session: Session, ops: Iterable[Op], *, leave: bool = False, atomic: bool = False
) -> None:
    """Begin a batch, in the words of the package; a beat tries again what did not fit."""
    entries = []
    for kind, key, value in ops:
        condition, of_own = CONDITIONS.get(kind, (None, False))
        effect = _KINDS[_effect((kind, key, value))[0]]
        entries.append(Entry(effect, key, value, condition=condition, of_own=of_own))
    session.begin(entries if entries or leave else session.retries(), leave=leave, atomic=atomic)


def _effect(op: Op) -> Op:
    """Return what an operation does if it is executed."""
    kind, key, value = op
    return ("add" if kind in ADDS else kind.rstrip("?"), key, value)


def _is_decided_anew(token: Token, index: int) -> bool:
    """Tell whether an operation of unknown fate is sent again instead of being folded.

    P20, doubtful batch.
    """
    kind = token.ops[index][0]
    if kind == "required":
        return not is_replaced(token.ops, index)
    return kind in ("add?", "put?") or (token.atomic and kind in ("add", "put"))


def _check_results(token: Token, results: Sequence[Result]) -> None:
    """Nothing took effect against its condition, or in half a batch."""
    for op, result in zip(token.ops, results, strict=True):
        if op[0] in CONDITIONS and not isinstance(result, Rejection):
            condition, of_own = CONDITIONS[op[0]]
            holds = condition.holds(result.slice if of_own else result.cumulative)
            if holds is not isinstance(result, Previous):
                raise Violation(f"{say([op])} was answered {result}")
        elif isinstance(result, ConditionFailed):
            raise Violation(f"{say([op])} has no condition, and was answered {result}")
    refused = Rejection.REFUSED in results
    for result in results:
        wrong = token.atomic and refused and result not in (Rejection.REFUSED, Rejection.UNDONE)
        if wrong or (result is Rejection.UNDONE and not (token.atomic and refused)):
            raise Violation(f"a batch of all or none was answered {results}")
