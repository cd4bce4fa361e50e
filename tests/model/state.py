"""One state of the world: what belongs to it, copied and frozen."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from distkit_actors._instance._session import Session
from distkit_actors._namespace._namespace import Namespace
from tests.model.desk import Desk
from tests.model.freeze import PERIODS, Freeze, Thaw, copy_namespace, copy_session
from tests.model.oracle import Comparisons, Oracle
from tests.model.parts import Actor, Copy, Snapshot, Token
from tests.model.scope import Scope


class WorldState:
    """One state of it all: what is kept of it, and how."""

    __slots__ = (
        "actors",
        "comparisons",
        "faults",
        "mail",
        "now",
        "ns",
        "oracle",
        "peak",
        "scope",
        "snapshot",
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
    comparisons: Comparisons

    def copy(self) -> Self:
        """Return a copy that shares what the next action replaces before it changes it."""
        new = self.__class__()
        new.ns, new.actors, new.mail = self.ns, self.actors.copy(), self.mail
        new.snapshot, new.oracle, new.faults = self.snapshot, self.oracle, self.faults
        new.total, new.now, new.peak = self.total, self.now, self.peak
        new.scope, new.comparisons = self.scope, self.comparisons
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
                actor.atomic,
                actor.leaving,
                None if actor.token is None else actor.token.frozen(),
                actor.desk is not None,
            )
            if actor.session is not None:
                out.session(actor.session)
            if actor.desk is not None:
                actor.desk.write(out)
        return out

    @classmethod
    def thaw(cls, key: bytes, scope: Scope, comparisons: Comparisons) -> Self:
        """Undo `freeze`."""
        new = cls()
        new.scope, new.comparisons = scope, comparisons
        source = Thaw(key)
        plain = source.plain
        now = next(source.stamps)
        new.peak = source.latest
        new.now = now if scope.still else source.latest + 1
        new.ns = source.namespace(new.now, lazy=scope.lazy)
        new.oracle = Oracle.thaw(next(plain))
        new.actors = []
        for _ in range(next(plain)):
            instance, status, todo, atomic = next(plain), next(plain), next(plain), next(plain)
            leaving, token, has_desk = next(plain), next(plain), next(plain)
            session = source.session() if status == "running" else None
            actor = Actor(instance, session, 0, status, todo, atomic, leaving)
            actor.token = None if token is None else Token(*token)
            if has_desk and session is not None:
                actor.desk = Desk.read(source, session)
            new.actors.append(actor)
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
            new.snapshot = Snapshot(source.namespace(new.now, lazy=scope.lazy), applied, moved)
        return new

    # ------------------------------------------------------------------ changing

    def _own(self, number: int) -> Actor:
        """Make an actor this world's own before it is changed."""
        old = self.actors[number]
        session = None if old.session is None else copy_session(old.session)
        token = None if old.token is None else replace(old.token)
        desk = None if old.desk is None or session is None else old.desk.copy(session)
        actor = self.actors[number] = replace(old, session=session, token=token, desk=desk)
        return actor

    def _own_store(self) -> None:
        self.ns = copy_namespace(self.ns)
        self.oracle = self.oracle.copy()

    def _may(self, fault: str) -> bool:
        return self.total > 0 and self.faults.get(fault, 0) > 0

    def _spend(self, fault: str) -> None:
        self.faults = self.faults | {fault: self.faults[fault] - 1}
        self.total -= 1
        if self.mail and not self._may("late"):
            self.mail = []

    def _add_actor(self, instance: str, *, inherit: bool, refuse: bool = False) -> None:
        nonce = f"n{len(self.actors)}"
        session = Session(instance, nonce, PERIODS, inherit=inherit, refuse=refuse)
        actor = Actor(instance, session, self.scope.operations)
        kind = (*self.scope.desks, *"---")["ABC".index(instance)]
        if kind != "-":
            actor.desk = Desk(session, lax=kind == "l")
        self.actors.append(actor)

    def _counted(self, instance: str) -> dict[str, int]:
        registry = self.ns.registry
        record = registry.records.get(instance)
        if record is None:
            return {}
        return {
            key: own.value
            for key, own in record.slices.items()
            if own.stamp >= registry.epochs.of(key)
        }
