"""A store, a few instances, and everything that may happen between them.

The store is the product's `Namespace`, the instances are its `Session` objects. A transition
is one operation or retry with its outcome (answered; request lost; answer lost), one late copy
that arrives, or one fault. Beginning an operation is no transition of its own: what is sent
depends on its sender alone.

Time is the rank of the stamps, so that it never moves by itself: who is overdue, which record
has expired and which moves are old are faults to be chosen like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

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
from distkit_actors._core._namespace import Namespace
from distkit_actors._core._registry import Registry, State
from distkit_actors._core._session import News, Phase, Session
from tests.model.freeze import (
    LONG_AGO,
    PACE,
    RETENTION,
    THRESHOLD,
    Freeze,
    Thaw,
    copy_namespace,
    copy_session,
)
from tests.model.oracle import Op, Oracle, Tally, Violation

#: Slices that one step may take away where nothing is to be left half done.
PLENTY: Final = 50
#: Longer than the limit of silence, shorter than the retention.
BLACKOUT: Final = 4 * THRESHOLD
#: One operation or beat of each surviving instance per round, while the world settles.
ROUNDS: Final = 4

_KINDS = {"add": Kind.ADD, "put": Kind.PUT, "move": Kind.MOVE, "clear": Kind.CLEAR}


@dataclass(frozen=True)
class Scope:
    """What may happen in one exploration."""

    name: str
    menu: tuple[str, ...] = ("inc a",)
    """Operations to choose from; "+" joins those that go in one batch, "A: " is for A alone."""
    instances: int = 2
    operations: int = 1
    """For each actor."""
    faults: dict[str, int] = field(default_factory=dict)
    """How often each may happen."""
    total: int = 3
    """How many faults together."""
    keys: tuple[str, ...] = ("a",)
    budgets: tuple[int, ...] = (0, PLENTY)
    """How many slices of the dead one step may take away, where there are any."""
    lazy: bool = False
    """Signs of life are recent, so that steps do not write new ones down."""
    still: bool = False
    """The store's clock stands still, so that stamps run ahead of it."""
    inherit: tuple[bool, ...] = (False,)
    actors: int = 3
    """Most actors, those that took an id over included."""
    closed: bool = False
    """Actors begin before they have opened, else when all have."""
    beats: bool = True
    """Heartbeats may come at any time, else only at the end."""


def parse(item: str, actor: int) -> tuple[Op, ...]:
    """Return the operations of one item of a menu; each actor has values of its own."""
    ops = []
    weight = (1, 10, 100, 1000)[actor]
    for word in item.split("+"):
        name, _, key = word.partition(" ")
        op: Op
        match name:
            case "inc":
                op = ("add", key, weight)
            case "dec":
                op = ("add", key, -weight)
            case "get":
                op = ("add", key, 0)
            case "set":
                op = ("move", key, 7 * weight)
            case "delete":
                op = ("move", key, 0)
            case "put":
                op = ("put", key, 3 * weight)
            case "drop":
                op = ("put", key, 0)
            case "clear":
                op = ("clear", "", 0)
            case _:
                raise ValueError(item)
        ops.append(op)
    return tuple(ops)


@dataclass(slots=True)
class Token:
    """The operations that an actor has begun, and what is known of them."""

    ops: tuple[Op, ...] = ()
    leave: bool = False
    applied: bool = False
    folded: bool = False
    excused: bool = False  # the store lost its record, so their fate may be unknown
    answers: tuple[tuple[int, int] | None, ...] = ()
    """(Cumulative, slice) before each, when applied; if folded (0, slice after), where known."""
    undo: tuple[tuple[str, int], ...] = ()  # own slices before, as far as they matter still

    def frozen(self) -> tuple[object, ...]:
        """Return all of it as one value."""
        return (
            self.ops,
            self.leave,
            self.applied,
            self.folded,
            self.excused,
            self.answers,
            self.undo,
        )


@dataclass(slots=True)
class Actor:
    """One process, or what is left of it."""

    instance: str
    session: Session | None
    operations: int
    status: str = "running"
    todo: tuple[Op, ...] = ()  # to be sent again before anything else
    leaving: bool = False
    token: Token | None = None


@dataclass(slots=True)
class Copy:
    """A request that may still arrive."""

    actor: int
    request: Request
    current: bool  # it carries the token that its actor still waits for
    old: bool = False  # sent before the record of its instance began to expire


@dataclass(slots=True)
class Snapshot:
    """What a rollback goes back to."""

    ns: Namespace
    applied: frozenset[int] = frozenset()  # actors whose token was applied since
    moved: frozenset[str] = frozenset()  # keys whose epoch was moved since


Action: TypeAlias = tuple[str, Callable[["World"], None]]


class World:
    """One state of it all."""

    __slots__ = (
        "actors",
        "faults",
        "mail",
        "now",
        "ns",
        "oracle",
        "peak",
        "scope",
        "snapshot",
        "tally",
        "total",
    )

    ns: Namespace
    actors: list[Actor]
    mail: list[Copy]
    snapshot: Snapshot | None
    oracle: Oracle
    faults: dict[str, int]
    total: int
    now: int
    peak: int
    scope: Scope
    tally: Tally

    @classmethod
    def begin(cls, scope: Scope, tally: Tally) -> World:
        """Return the first state."""
        new = cls()
        new.scope, new.tally = scope, tally
        new.ns, new.actors, new.mail, new.snapshot = Namespace(), [], [], None
        new.oracle = Oracle()
        new.faults, new.total, new.now = dict(scope.faults), scope.total, 1
        new.peak = 1
        for number in range(scope.instances):
            new._add_actor("ABC"[number], inherit=False)
        if not scope.closed:
            for number in range(scope.instances):
                new._drive(number)
        return new

    def copy(self) -> World:
        """Return a copy that shares what the next action replaces before it changes it."""
        new = World()
        new.ns, new.actors, new.mail = self.ns, self.actors.copy(), self.mail
        new.snapshot, new.oracle, new.faults = self.snapshot, self.oracle, self.faults
        new.total, new.now, new.peak = self.total, self.now, self.peak
        new.scope, new.tally = self.scope, self.tally
        return new

    # ----------------------------------------------------------------- freezing

    def freeze(self) -> bytes:
        """Return the whole state."""
        out = self._freeze_core()
        out.plain += (len(self.mail), self.total, *self.faults.values())
        for copy in self.mail:
            out.plain += (copy.actor, copy.current, copy.old)
            out.request(copy.request)
        for actor in self.actors:
            out.plain.append(actor.operations)
        if self.snapshot is None:
            out.plain.append(False)
        else:
            out.plain += (True, sorted(self.snapshot.applied), sorted(self.snapshot.moved))
            out.namespace(self.snapshot.ns, still=self.scope.still)
        return out.key()

    def freeze_core(self) -> bytes:
        """Return what matters at the end of the history."""
        return self._freeze_core().key()

    def _freeze_core(self) -> Freeze:
        out = Freeze()
        out.stamps.append(self.now if self.scope.still else 0)
        out.namespace(self.ns, still=self.scope.still)
        out.plain += (self.oracle.freeze(), len(self.actors))
        for actor in self.actors:
            out.plain += (
                actor.instance,
                actor.status,
                actor.todo,
                actor.leaving,
                None if actor.token is None else actor.token.frozen(),
            )
            if actor.session is not None:
                out.session(actor.session)
        return out

    @classmethod
    def thaw(cls, key: bytes, scope: Scope, tally: Tally) -> World:
        """Undo `freeze`."""
        new = cls()
        new.scope, new.tally = scope, tally
        source = Thaw(key)
        plain = source.plain
        now = next(source.stamps)
        new.peak = source.latest
        new.now = now if scope.still else source.latest + 1
        new.ns = source.namespace(lazy=scope.lazy)
        new.oracle = Oracle.thaw(next(plain))
        new.actors = []
        for _ in range(next(plain)):
            instance, status, todo, leaving = next(plain), next(plain), next(plain), next(plain)
            token = next(plain)
            session = source.session() if status == "running" else None
            new.actors.append(
                Actor(
                    instance, session, 0, status, todo, leaving, None if token is None else Token(*token)
                )
            )
        copies = next(plain)
        new.total = next(plain)
        new.faults = {kind: next(plain) for kind in scope.faults}
        new.mail = []
        for _ in range(copies):
            actor, current, old = next(plain), next(plain), next(plain)
            new.mail.append(Copy(actor, source.request(), current, old))
        for each in new.actors:
            each.operations = next(plain)
        new.snapshot = None
        if next(plain):
            applied, moved = frozenset(next(plain)), frozenset(next(plain))
            new.snapshot = Snapshot(source.namespace(lazy=scope.lazy), applied, moved)
        return new

    # ------------------------------------------------------------------ actions

    def successors(self) -> Iterator[tuple[str, World]]:
        """Give everything that can happen next."""
        for label, action in self._actions():
            new = self.copy()
            try:
                action(new)
                new.check()
            except AssertionError as error:
                error.add_note(label)
                raise
            yield label, new

    def _actions(self) -> Iterator[Action]:
        for number, actor in enumerate(self.actors):
            if actor.session is not None:
                yield from self._sends(number, actor.session)
        if self.total <= 0:
            return
        for index, copy in enumerate(self.mail):
            if self._may("late"):
                what = f"a late copy arrives: {_brief(copy.request)}"
                for budget in self._budgets(copy.request):
                    yield (
                        f"{what}{_budgeted(budget)}",
                        lambda w, i=index, b=budget: w.arrive(i, b),
                    )
        yield from self._store_faults()
        yield from self._process_faults()

    def _sends(self, number: int, session: Session) -> Iterator[Action]:
        actor = self.actors[number]
        choices: list[tuple[str, tuple[Op, ...] | None, bool]] = []
        if not session.idle:
            choices.append((f"{actor.instance}{number} sends again", None, False))
        else:
            who = f"{actor.instance}{number}"
            if actor.leaving:
                choices.append((f"{who} leaves again", (), True))
            elif actor.todo:
                choices.append((f"{who} again {_say(actor.todo)}", actor.todo, False))
            elif actor.operations:
                for line in self.scope.menu:
                    only, _, item = line.rpartition(": ")
                    if only not in ("", actor.instance):
                        continue
                    if item == "leave":
                        choices.append((f"{who} leaves", (), True))
                    else:
                        choices.append((f"{who} {item}", parse(item, number), False))
            if self.scope.beats:
                choices.append((f"{who} beats", (), False))
        for what, ops, leave in choices:
            for budget in self._budgets_of(number, ops):
                said = what + _budgeted(budget)
                yield (
                    said,
                    lambda w, o=ops, v=leave, b=budget: w.send(number, o, v, "ok", b),
                )
                if self._may("mute"):
                    yield (
                        f"{said}, the answer is lost",
                        lambda w, o=ops, v=leave, b=budget: w.send(number, o, v, "mute", b),
                    )
                if self._may("blackout") and budget:
                    yield (
                        f"blackout of everybody, then {said}",
                        lambda w, o=ops, v=leave, b=budget: w.send(number, o, v, "blackout", b),
                    )
                if self._may("collect") and self.ns.registry.epochs.moved:
                    yield (
                        f"the retention passes, then {said}",
                        lambda w, o=ops, v=leave, b=budget: w.send(number, o, v, "collect", b),
                    )
            if self._may("drop"):
                yield (
                    f"{what}, the request is held up",
                    lambda w, o=ops, v=leave: w.send(number, o, v, "drop", 0),
                )

    def _may(self, fault: str) -> bool:
        return self.total > 0 and self.faults.get(fault, 0) > 0

    def _spend(self, fault: str) -> None:
        self.faults = self.faults | {fault: self.faults[fault] - 1}
        self.total -= 1
        if self.mail and not self._may("late"):
            self.mail = []

    def _budgets_of(self, number: int, ops: tuple[Op, ...] | None) -> tuple[int, ...]:
        session = self.actors[number].session
        if ops is None and session is not None:
            request = session.request()
            return self._budgets(request) if request is not None else (0,)
        return self._budgets_for(self.actors[number].instance)

    def _budgets(self, request: Request) -> tuple[int, ...]:
        return self._budgets_for(request.instance) if isinstance(request, Apply) else (0,)

    def _budgets_for(self, caller: str) -> tuple[int, ...]:
        registry = self.ns.registry
        overdue = any(
            record.state is State.LIVE and record.deadline <= 0 and instance != caller
            for instance, record in registry.records.items()
        )
        if not overdue and not registry.bodies:
            return self.scope.budgets[-1:]
        return self.scope.budgets

    def _store_faults(self) -> Iterator[Action]:
        registry = self.ns.registry
        running = {a.instance for a in self.actors if a.session is not None}
        for instance, record in registry.records.items():
            if record.state is State.LIVE and record.deadline > 0:
                if instance not in running:
                    yield f"{instance}'s time is up", lambda w, i=instance: w.overdue(i, "")
                elif self._may("reap"):
                    yield f"{instance} is not heard", lambda w, i=instance: w.overdue(i, "reap")
        if self._may("expire"):
            for instance in registry.expiring:
                yield f"the record of {instance} expires", lambda w, i=instance: w.expire(i)
        if self._may("wipe") and self.ns.born:
            yield "the store is wiped", World.wipe
        if self._may("rollback"):
            if self.snapshot is None:
                yield "(the store is saved)", World.save
            else:
                yield "the store goes back to what was saved", World.roll_back

    def _process_faults(self) -> Iterator[Action]:
        for number, actor in enumerate(self.actors):
            if actor.session is None:
                continue
            if self._may("kill"):
                yield f"{actor.instance}{number} is killed", lambda w, n=number: w.kill(n)
        if self._may("takeover") and len(self.actors) < self.scope.actors:
            for instance in sorted({a.instance for a in self.actors}):
                for inherit in self.scope.inherit:
                    yield (
                        f"{instance}{len(self.actors)} starts{' and inherits' if inherit else ''}",
                        lambda w, i=instance, h=inherit: w.take_over(i, h),
                    )

    # ------------------------------------------------- actions: sending and arriving

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

    def _own(self, number: int) -> Actor:
        """Make an actor this world's own before it is changed."""
        old = self.actors[number]
        actor = self.actors[number] = Actor(
            old.instance,
            None if old.session is None else copy_session(old.session),
            old.operations,
            old.status,
            old.todo,
            old.leaving,
            None if old.token is None else replace(old.token),
        )
        return actor

    def _own_store(self) -> None:
        self.ns = copy_namespace(self.ns)
        self.oracle = self.oracle.copy()

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
        _check_due(registry, now)
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
            if reply.incarnation != incarnation:
                inherited = live and request.inherit
                if reply.inherited != inherited:
                    raise Violation(f"{request.instance} inherits: {reply.inherited}")
                found = self._counted(request.instance)
                self.oracle.opened(number, request.instance, inherited=inherited, found=found)
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
        excused = [oracle.may_differ(number, key, actor.instance) for _, key, _ in token.ops]
        before = oracle.run(
            number, actor.instance, token.ops, self.scope.keys, len(self.actors)
        )
        if token.leave:
            oracle.left(actor.instance)
        answers = []
        for (_, key, _), own, excuse, result in zip(
            token.ops, before, excused, reply.results, strict=True
        ):
            if not isinstance(result, Before):
                raise Violation(f"{key} was answered {result}")
            answers.append((result.cumulative, result.slice))
            if excuse:
                self.tally.exempt += 1
            else:
                self.tally.compared += 1
                if key and result.slice != own:
                    raise Violation(f"own slice of {key} was {own}, the answer says {result.slice}")
        if len(token.ops) == 1:
            self._check_sum(token.ops[0], answers[0])
        token.applied, token.answers = True, tuple(answers)
        moved: set[str] = set()
        undo: dict[str, int] = {}
        for (kind, key, _), own in zip(token.ops, before, strict=True):
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

    def _counted(self, instance: str) -> dict[str, int]:
        registry = self.ns.registry
        record = registry.records.get(instance)
        if record is None:
            return {}
        return {
            key: piece.value
            for key, piece in record.slices.items()
            if piece.stamp >= registry.epochs.of(key)
        }

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
        counts = tuple(op for op in token.ops if op[0] in ("add", "put") and _is_write(op))
        if token.applied:
            self.oracle.doubt(number, actor.instance, [key for _, key, _ in counts])
        else:
            self.oracle.run(number, actor.instance, counts, self.scope.keys, len(self.actors))
        token.folded = True
        self._disown_copies(number)

    def _fenced(self, number: int, news: News, token: Token | None) -> None:
        actor = self.actors[number]
        newer = range(number + 1, len(self.actors))
        if not any(self.actors[other].instance == actor.instance for other in newer):
            raise Violation(f"{actor.instance}{number} was fenced, but nobody newer has its id")
        if token is not None and token.applied and not token.folded:
            for op, result in zip(token.ops, news.results or (), strict=False):
                if result is Verdict.RETRY and _is_write(op) and not self.oracle.lossy:
                    raise Violation(f"{_say([op])} took effect, its caller is told it did not")
        self._end(number, "fenced")

    def _finish(self, number: int, token: Token, results: Iterable[Result]) -> None:
        """The callers are told."""
        actor, oracle = self.actors[number], self.oracle
        todo = []
        for index, (op, result) in enumerate(zip(token.ops, results, strict=True)):
            key = op[1]
            if result is Verdict.RETRY:
                if token.applied and not token.folded:
                    raise Violation(f"{_say([op])} took effect and is to be sent again")
                if token.folded and _is_write(op):
                    raise Violation(f"{_say([op])} is part of the slice and to be sent again")
                todo.append(op)
            elif result is Verdict.UNKNOWN:
                if not token.excused:
                    raise Violation(f"{_say([op])}: its outcome was not unknown")
                oracle.unsure(actor.instance, op, self.scope.keys)
            elif not isinstance(result, Before):
                raise Violation(f"{_say([op])} was answered {result}")
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
                raise Violation(f"{_say([op])} is answered but did not take effect")
            elif token.answers[index] != tuple(result):
                raise Violation(f"{_say([op])} is answered {result}, was {token.answers[index]}")
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

    # --------------------------------------------------------------- actions: faults

    def overdue(self, instance: str, fault: str) -> None:
        """Others go on for longer than the threshold."""
        if fault:
            self._spend(fault)
        self._own_store()
        record = self.ns.registry.records[instance]
        record.beat = LONG_AGO
        record.deadline = self.ns.registry.due = 0

    def expire(self, instance: str) -> None:
        """The retention of a record passes, and with it that of what was sent before."""
        self._spend("expire")
        self._own_store()
        registry = self.ns.registry
        registry.expiring[instance] = 0
        others = {i: at for i, at in registry.expiring.items() if i != instance}
        registry.expiring = {instance: 0}
        registry.expire(1)
        registry.expiring.update(others)
        self.mail = [c for c in self.mail if not (c.old and c.request.instance == instance)]
        self._excuse(lambda actor: actor.instance == instance)

    def _excuse(self, whom: Callable[[Actor], bool]) -> None:
        for number, actor in enumerate(self.actors):
            if actor.token is not None and not actor.token.excused and whom(actor):
                self._own(number).token = replace(actor.token, excused=True)

    def wipe(self) -> None:
        """Everything in the store is gone, what is under way is not."""
        self._spend("wipe")
        self.ns = Namespace()
        self.now = self._latest() + 1
        self.oracle = self.oracle.copy()
        self._lose(self.oracle.movers)
        if self.snapshot:
            self.snapshot = None

    def _lose(self, moved: Iterable[str]) -> None:
        """Tell the oracle that the store lost data, the moves of some keys among them."""
        self.oracle.lost(moved)
        self._excuse(lambda _: True)
        for number, actor in enumerate(self.actors):
            if actor.token is not None and actor.token.folded:
                # What was folded into a slice will be counted by the next store only.
                self.oracle.doubt(number, actor.instance, [key for _, key, _ in actor.token.ops])

    def save(self) -> None:
        """Choose what a rollback will go back to."""
        self.snapshot = Snapshot(self.ns)

    def roll_back(self) -> None:
        """The store goes back; no request outlives it."""
        self._spend("rollback")
        saved = self.snapshot
        assert saved is not None
        self.now = self._latest() + 1
        self.ns, self.snapshot, self.mail = saved.ns, None, []
        self.oracle = self.oracle.copy()
        self._lose(saved.moved)
        for number in saved.applied:
            actor = self._own(number)
            token = actor.token
            if token is None or token.folded:
                continue
            self.oracle.undo(actor.instance, token.undo)
            for op in token.ops:
                if op[0] in ("move", "clear"):
                    self.oracle.unsure(actor.instance, op, self.scope.keys)
            token.applied, token.answers, token.undo = False, (), ()

    def _latest(self) -> int:
        """The newest stamp that anybody may know."""
        return max(self.peak, self.ns.clock, self.now)

    def kill(self, number: int) -> None:
        """A process dies; what it sent may still arrive."""
        self._spend("kill")
        token = self.actors[number].token
        actor = self._own(number)
        actor.session, actor.status, actor.operations = None, "killed", 0
        actor.todo, actor.leaving = (), False
        if not any(copy.actor == number and copy.current for copy in self.mail):
            if token is None or not (self.snapshot and number in self.snapshot.applied):
                actor.token = None

    def take_over(self, instance: str, inherit: bool) -> None:
        """Somebody starts with an id that is in use, or was."""
        self._spend("takeover")
        self._add_actor(instance, inherit=inherit)

    def _add_actor(self, instance: str, *, inherit: bool) -> None:
        nonce = f"n{len(self.actors)}"
        session = Session(instance, nonce, PACE, inherit=inherit)
        self.actors.append(Actor(instance, session, self.scope.operations))

    # ------------------------------------------------------------------- checking

    def check(self) -> None:
        """Check what must hold in every state."""
        check_store(self.ns)
        if self.oracle.lossy:
            if not self._try_healed():
                return
        records = self.ns.registry.records
        for number, actor in enumerate(self.actors):
            s = actor.session
            if s is None or s.phase is not Phase.LIVE or self.oracle.owner[s.instance] != number:
                continue
            record = records.get(s.instance)
            if (
                record is not None
                and record.state is State.LIVE
                and record.incarnation == s.incarnation
                and not (actor.token and actor.token.leave and actor.token.applied)
            ):
                counted = self._counted(s.instance)
                self.oracle.compare(s.instance, counted, self.scope.keys, self.tally)

    def _try_healed(self) -> bool:
        registry = self.ns.registry
        if registry.bodies:
            return False
        alive: dict[str, tuple[int, dict[str, int]]] = {}
        for number, actor in enumerate(self.actors):
            s = actor.session
            if s is None:
                continue
            record = registry.records.get(s.instance)
            if not (
                s.idle
                and record is not None
                and record.state is State.LIVE
                and record.incarnation == s.incarnation
                and record.seq == s.seq
                and record.slices == s.slices
                and s.known >= registry.epochs.latest
            ):
                return False
            alive[s.instance] = (number, {key: piece.value for key, piece in s.slices.items()})
        if any(i not in alive and r.slices for i, r in registry.records.items()):
            return False
        self.oracle = self.oracle.copy()
        self.oracle.healed(alive)
        return True

    # ------------------------------------------------------------------- settling

    def settle(self, order: Iterable[int]) -> list[str]:
        """End the history here: the dead are reaped, the others beat until nothing changes."""
        log: list[str] = []
        order = list(order)
        self._own_store()
        for number in order:
            self._own(number)
        running = {a.instance for a in self.actors if a.session is not None}
        seen = b""
        for _ in range(ROUNDS):
            for instance, record in self.ns.registry.records.items():
                if instance not in running and record.state is State.LIVE:
                    record.beat = LONG_AGO
                    record.deadline = self.ns.registry.due = 0
            for number in order:
                actor = self.actors[number]
                if actor.session is not None and actor.session.idle:
                    log.append(f"{actor.instance}{number} beats")
                    begin(actor.session, ())
                self._drive(number, log)
            key = self.freeze_core()
            if key == seen:
                break
            seen = key
        else:
            raise Violation("the world does not come to rest:" + "".join(f"\n    {x}" for x in log))
        self._check_end()
        return log

    def _drive(self, number: int, log: list[str] | None = None) -> None:
        """Send until there is nothing more to send."""
        for _ in range(12):
            actor = self.actors[number]
            if actor.session is None:
                return
            request = actor.session.request()
            if request is None:
                return
            reply = self._execute(number, request, PLENTY, "ok", current=True)
            if log is not None:
                log.append(f"{actor.instance}{number}: {_brief(request)} -> {_brief(reply)}")
            check_store(self.ns)
            self._receive(number, reply)
        raise Violation(f"{self.actors[number].instance}{number} sends for ever")

    def _check_end(self) -> None:
        registry = self.ns.registry
        alive: dict[str, tuple[int, dict[str, int]]] = {}
        for number, actor in enumerate(self.actors):
            s = actor.session
            if s is None:
                continue
            if not s.idle:
                raise Violation(f"{actor.instance}{number} is stuck in {s.phase}")
            if s.instance in alive:
                raise Violation(f"two actors go on as {s.instance}")
            record = registry.records.get(s.instance)
            if record is None or record.state is not State.LIVE:
                raise Violation(f"{s.instance} beats and is not alive")
            if record.slices != s.slices or s.withheld:
                raise Violation(f"{s.instance} has {s.slices}, the store {record.slices}")
            alive[s.instance] = (number, {key: piece.value for key, piece in s.slices.items()})
        if not alive:
            return
        for instance, record in registry.records.items():
            if instance not in alive and (record.slices or instance in registry.bodies):
                raise Violation(f"the body of {instance} was not reaped: {record.slices}")
        self.oracle.finish(alive, self.scope.keys, self.tally)


def begin(session: Session, ops: Iterable[Op], *, leave: bool = False) -> None:
    """Begin a batch, in the words of the package."""
    session.begin([Entry(_KINDS[kind], key, value) for kind, key, value in ops], leave=leave)


def check_store(ns: Namespace) -> None:
    """Check what must hold in every state of a store."""
    registry, epochs = ns.registry, ns.registry.epochs
    sums: dict[str, int] = {}
    for instance, record in registry.records.items():
        for key, (value, stamp) in record.slices.items():
            if not value:
                raise Violation(f"{instance} stores a 0 for {key}")
            if stamp > ns.clock:
                raise Violation(f"a stamp of {instance} for {key} is ahead of the clock")
            if stamp >= epochs.of(key):
                sums[key] = sums.get(key, 0) + value
        body = instance in registry.bodies
        if body and record.state is State.LIVE:
            raise Violation(f"{instance} is a body and alive")
        if record.slices and record.state is not State.LIVE and not body:
            raise Violation(f"{instance} is dead with slices that nobody will reap")
        if instance in registry.expiring and (record.slices or record.state is State.LIVE):
            raise Violation(f"the record of {instance} is to expire")
    if {key: total for key, total in sums.items() if total} != registry.sums:
        raise Violation(f"sums are {registry.sums}, the slices make {sums}")
    stamps = list(epochs.moved.values())
    if stamps != sorted(stamps) or max(stamps, default=0) > epochs.latest:
        raise Violation(f"the journal is out of order: {epochs.moved}")
    if any(epochs.late[key] > epochs.moved.get(key, 0) for key in epochs.late):
        raise Violation("a late epoch is younger than its journal stamp")
    if max(epochs.cleared, epochs.latest, epochs.floor) > ns.clock:
        raise Violation("the journal is ahead of the clock")
    if any(stamp <= epochs.floor for stamp in stamps):
        raise Violation("a move is in the journal that was forgotten")


def _check_due(registry: Registry, now: int) -> None:
    if registry.bodies and registry.due > now:
        raise Violation("bodies would not be reaped")
    for instance, record in registry.records.items():
        if record.state is State.LIVE and registry.due > record.deadline:
            raise Violation(f"nobody would notice the death of {instance}")


def _is_write(op: Op) -> bool:
    return op[0] != "add" or op[2] != 0


def _say(ops: Iterable[Op]) -> str:
    return " + ".join(f"{kind} {key} {value}".replace("  0", "") for kind, key, value in ops)


def _budgeted(budget: int) -> str:
    return "" if budget >= PLENTY else f" [reaps {budget}]"


def _brief(message: Request | Reply) -> str:
    text = str(message)
    return text.replace(f", pace={PACE}", "").replace("Kind.", "")
