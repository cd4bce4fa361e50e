"""One state of the world: what belongs to it, copied and frozen."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

from distkit_actors._core._namespace import Namespace
from distkit_actors._core._session import Session
from tests.model.freeze import PACE, Freeze, Thaw, copy_namespace, copy_session
from tests.model.oracle import Oracle, Tally
from tests.model.parts import Actor, Copy, Snapshot, Token
from tests.model.scope import Scope


class WorldState:
    """One state of it all: what is kept of it, and how."""

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

    def copy(self) -> Self:
        """Return a copy that shares what the next action replaces before it changes it."""
        new = self.__class__()
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
    def thaw(cls, key: bytes, scope: Scope, tally: Tally) -> Self:
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
                    instance,
                    session,
                    0,
                    status,
                    todo,
                    leaving,
                    None if token is None else Token(*token),
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

    # ------------------------------------------------------------------ changing

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

    def _may(self, fault: str) -> bool:
        return self.total > 0 and self.faults.get(fault, 0) > 0

    def _spend(self, fault: str) -> None:
        self.faults = self.faults | {fault: self.faults[fault] - 1}
        self.total -= 1
        if self.mail and not self._may("late"):
            self.mail = []

    def _add_actor(self, instance: str, *, inherit: bool) -> None:
        nonce = f"n{len(self.actors)}"
        session = Session(instance, nonce, PACE, inherit=inherit)
        self.actors.append(Actor(instance, session, self.scope.operations))

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
