"""A store, a few instances, and everything that may happen between them.

The store is the product's `Namespace`, the instances are its `Session` objects. A transition
is one operation or retry with its outcome (answered; request lost; answer lost), one late copy
that arrives, or one fault. Beginning an operation is no transition of its own: what is sent
depends on its sender alone.

Time is the rank of the stamps, so that it never moves by itself: who is overdue, which record
has expired and which moves are old are faults to be chosen like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Self, TypeAlias

from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import State
from distkit_actors._protocol._messages import Apply, Reply, Request
from distkit_actors._protocol._values import fits
from tests.model.checks import check_store
from tests.model.conceivable import conceivable
from tests.model.desk import is_local
from tests.model.desks import waiting_for_hold
from tests.model.faults import Faults
from tests.model.freeze import LONG_AGO, UNHEARD, digest
from tests.model.oracle import Comparisons, Op, Oracle, Violation
from tests.model.parts import Actor, brief, say
from tests.model.scope import PLENTY, Scope, menu_of, parse

#: One beat of each surviving instance per round, while the world settles.
ROUNDS: Final = 8

#: What may become of a request besides its being answered or held up.
_MISHAPS: Final = {
    "mute": "{}, the answer is lost",
    "blackout": "blackout of everybody, then {}",
    "collect": "the retention passes, then {}",
    "refuse": "{}, which is refused",
    "lie": "{}, which is done, and the answer says that it is refused",
}

Action: TypeAlias = tuple[str, Callable[["World"], None]]
#: States from which all goes well at the end, and how many values are compared then.
Settled: TypeAlias = dict[bytes, Comparisons]
#: Who has sent what, and what it was answered.
_Sent: TypeAlias = tuple[str, Request, Reply]


class World(Faults):
    """One state of it all, what may come next, and how it ends."""

    __slots__ = ()

    @classmethod
    def begin(cls, scope: Scope, comparisons: Comparisons) -> Self:
        """Return the first state."""
        new = cls()
        new.scope, new.comparisons = scope, comparisons
        new.ns, new.actors, new.mail, new.snapshot = Namespace(), [], [], None
        new.oracle = Oracle()
        new.faults, new.total, new.now = dict(scope.faults), scope.total, 1
        new.peak = 1
        for number in range(scope.instances):
            new._add_actor("ABC"[number], inherit=False)
        if not scope.closed:
            for number in range(scope.instances):
                new._drive(number, [])
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
                yield from self._calls(number, actor)
        if self.total <= 0:
            return
        for index, copy in enumerate(self.mail):
            if self._may("late"):
                what = f"a late copy arrives: {brief(copy.request)}"
                for budget in self._budgets(copy.request):
                    yield (
                        what + _budgeted(budget),
                        partial(World.arrive, index=index, budget=budget),
                    )
        yield from self._store_faults()
        yield from self._process_faults()

    def _sends(self, number: int, session: Session) -> Iterator[Action]:
        actor = self.actors[number]
        choices: list[tuple[str, tuple[Op, ...] | None, bool, bool]] = []
        if not session.idle:
            choices.append((f"{actor.instance}{number} sends again", None, False, False))
        else:
            who = f"{actor.instance}{number}"
            if actor.leaving:
                choices.append((f"{who} leaves again", (), True, False))
            elif actor.todo:
                again = f"{who} again {say(actor.todo)}"
                choices.append((again, actor.todo, False, actor.atomic))
            elif actor.operations:
                for item in self._menu(actor):
                    if item == "leave":
                        choices.append((f"{who} leaves", (), True, False))
                    else:
                        ops = parse(item, number)
                        choices.append((f"{who} {item}", ops, False, "&" in item))
            if self.scope.beats or (actor.desk is not None and actor.desk.has_work):
                choices.append((f"{who} beats", (), False, False))
        for what, ops, leave, atomic in choices:
            send = partial(World.send, number=number, ops=ops, leave=leave, atomic=atomic)
            for budget in self._budgets_of(number, ops):
                said = what + _budgeted(budget)
                yield said, partial(send, outcome="ok", budget=budget)
                for fault, text in _MISHAPS.items():
                    if self._may(fault) and self._possible(fault, number, ops, budget):
                        yield text.format(said), partial(send, outcome=fault, budget=budget)
            if self._may("drop"):
                said = f"{what}, the request is held up"
                yield said, partial(send, outcome="drop", budget=0)

    def _menu(self, actor: Actor) -> Sequence[str]:
        turn = self.scope.operations - actor.operations if self.scope.in_turn else None
        return menu_of(self.scope.menu, actor.instance, turn)

    def _calls(self, number: int, actor: Actor) -> Iterator[Action]:
        """Give what callers do besides beginning operations that are sent at once."""
        desk, who = actor.desk, f"{actor.instance}{number}"
        if desk is None or actor.session is None:
            return
        for index, hold in enumerate(desk.holds):
            if hold.entered and not hold.released:
                yield f"{who} leaves a block", partial(World.let_go, number=number, index=index)
        for index, _ in waiting_for_hold(desk):
            yield f"{who}: a caller goes", partial(World.give_up, number=number, index=index)
        if desk.buffer is not None and actor.operations and not actor.session.idle:
            for item in self._menu(actor):
                ops = parse(item, number)
                if all(map(is_local, ops)) and "&" not in item:
                    yield f"{who} {item} in memory", partial(World.count, number=number, ops=ops)

    def _possible(self, fault: str, number: int, ops: tuple[Op, ...] | None, budget: int) -> bool:
        if fault in ("refuse", "lie"):
            desk = self.actors[number].desk
            waits = fault == "refuse" and desk is not None and desk.dispatch.waiting
            return waits or self._may_withdraw(number, ops, moves=fault == "refuse")
        if fault == "blackout":
            return budget > 0
        return fault != "collect" or self._may_forget()

    def _may_forget(self) -> bool:
        epochs = self.ns.registry.epochs
        return bool(epochs.moved or epochs.archive)

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
        if not overdue and not registry.reap_queue:
            return self.scope.budgets[-1:]
        return self.scope.budgets

    def _store_faults(self) -> Iterator[Action]:
        registry = self.ns.registry
        running = {a.instance for a in self.actors if a.session is not None}
        for instance, record in registry.records.items():
            if record.state is State.LIVE and record.deadline > 0:
                if instance not in running:
                    yield (
                        f"{instance}'s time is up",
                        partial(World.overdue, instance=instance, fault=""),
                    )
                elif self._may("reap"):
                    yield (
                        f"{instance} is not heard",
                        partial(World.overdue, instance=instance, fault="reap"),
                    )
        if self._may("expire"):
            for instance in registry.expiring:
                yield f"the record of {instance} expires", partial(World.expire, instance=instance)
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
                yield f"{actor.instance}{number} is killed", partial(World.kill, number=number)
        if self._may("takeover") and len(self.actors) < self.scope.actors:
            for instance in sorted({a.instance for a in self.actors}):
                for inherit in self.scope.inherit:
                    yield (
                        f"{instance}{len(self.actors)} starts{' and inherits' if inherit else ''}",
                        partial(World.take_over, instance=instance, inherit=inherit),
                    )

    # ------------------------------------------------------------------- checking

    def check(self) -> None:
        """Check what must hold in every state."""
        check_store(self.ns)
        if self.oracle.lossy and not self._try_healed():
            return
        records = self.ns.registry.records
        for number, actor in enumerate(self.actors):
            s = actor.session
            if s is None or s.phase is not Phase.LIVE or self.oracle.owner[s.instance] != number:
                continue
            record = records.get(s.instance)
            if record is not None and record.seq > s.seq and (s.idle or record.seq != s.used):
                continue  # it holds what was withdrawn, until the next word from its owner
            if (
                record is not None
                and record.state is State.LIVE
                and record.incarnation == s.incarnation
                and not (actor.token and actor.token.leave and actor.token.applied)
            ):
                waiting = {key for key, _ in s.withheld}
                keys = [key for key in self.scope.keys if key not in waiting]
                counted, held = self._counted(s.instance), self.may_hold(number)
                self.oracle.compare(
                    s.instance, counted, keys, self.comparisons, held, self._conceivable
                )

    def _try_healed(self) -> bool:
        registry = self.ns.registry
        if registry.reap_queue:
            return False
        alive: dict[str, tuple[int, dict[str, int]]] = {}
        held: dict[str, dict[str, list[int]]] = {}
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
            slices = {key: own.value for key, own in s.slices.items()}
            add_withheld(slices, s)
            alive[s.instance] = (number, slices)
            held[s.instance] = self.may_hold(number)
        if any(i not in alive and r.slices for i, r in registry.records.items()):
            return False
        self.oracle = self.oracle.copy()
        self.oracle.healed(alive, held)
        return True

    # ------------------------------------------------------------------- settling

    def settle(self, order: Sequence[int], settled: Settled) -> None:
        """End the history here: the dead are reaped, the others beat until nothing changes.

        From what is among the ``settled`` it has been seen before how all goes on from there.
        """
        log: list[_Sent] = []
        passed: list[bytes] = []
        self._own_store()
        for number in order:
            self._own(number)
        seen = b""
        for _ in range(ROUNDS):
            for blackouts in self.ns.registry.observed.by_periods.values():
                blackouts.ended = LONG_AGO  # and nobody was late: time has passed
            running = {a.instance for a in self.actors if a.session is not None}
            for instance, record in self.ns.registry.records.items():
                if instance not in running and record.state is State.LIVE:
                    record.heard = UNHEARD
                    record.deadline = self.ns.registry.due = 0
            for number in order:
                actor = self.actors[number]
                self.let_all_go(number)
                if actor.session is not None and actor.session.idle:
                    self._begin(number, (), leave=False, atomic=False)
                self._drive(number, log)
            key = digest(self.freeze_core())
            if key == seen:
                break
            if key in settled:
                done = settled[key]
                self.comparisons.compared += done.compared
                self.comparisons.exempt += done.exempt
                settled.update(dict.fromkeys(passed, done))
                return
            passed.append(key)
            seen = key
        else:
            said = (f"\n    {who}: {brief(ask)} -> {brief(reply)}" for who, ask, reply in log)
            raise Violation(f"the world does not come to rest:{''.join(said)}")
        before = replace(self.comparisons)
        self._check_end()
        compared = self.comparisons.compared - before.compared
        done = Comparisons(compared, self.comparisons.exempt - before.exempt)
        settled.update(dict.fromkeys(passed, done))

    def _drive(self, number: int, log: list[_Sent]) -> None:
        """Send until there is nothing more to send, and note it in ``log``."""
        for _ in range(12):
            actor = self.actors[number]
            if actor.session is None:
                return
            request = actor.session.request()
            if request is None:
                return
            reply = self._execute(number, request, PLENTY, "ok", current=True)
            log.append((f"{actor.instance}{number}", request, reply))
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
            if record.slices != s.slices:
                raise Violation(f"{s.instance} has {s.slices}, the store {record.slices}")
            for key, own in s.withheld:
                if fits(registry.total(key) + own.value):
                    raise Violation(f"{own.value} of {s.instance} fits and is not in the store")
            self.check_holds(number)
            slices = {key: own.value for key, own in s.slices.items()}
            add_withheld(slices, s)
            alive[s.instance] = (number, slices)
        if not alive:
            return
        for instance, record in registry.records.items():
            if instance in alive:
                continue
            for key, own in record.slices.items():
                counts = own.stamp >= registry.epochs.of(key)
                if not counts or fits(registry.total(key) - own.value):
                    raise Violation(f"{own.value} of {instance}, which is dead, was not reaped")
            if instance in registry.reap_queue and not record.slices:
                raise Violation(f"the body of {instance} was not released")
        self.oracle.finish(alive, self.scope.keys, self.comparisons, self._conceivable)

    def _conceivable(self, instance: str, key: str) -> frozenset[int]:
        actors = tuple(n for n, actor in enumerate(self.actors) if actor.instance == instance)
        return conceivable(self.scope, instance, actors, key)


def add_withheld(slices: dict[str, int], session: Session) -> None:
    """Add what an instance has and the store cannot take for now (I12)."""
    for key, own in session.withheld:
        slices[key] = slices.get(key, 0) + own.value


def _budgeted(budget: int) -> str:
    return "" if budget >= PLENTY else f" [reaps {budget}]"
