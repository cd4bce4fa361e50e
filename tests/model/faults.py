"""What may happen to the store and to processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from distkit_actors._namespace._namespace import Namespace
from tests.model.exchange import Exchange
from tests.model.freeze import UNHEARD
from tests.model.parts import Actor, Snapshot


class Faults(Exchange):
    """A world in which things go wrong."""

    __slots__ = ()

    def overdue(self, instance: str, fault: str) -> None:
        """Others go on for longer than the threshold."""
        if fault:
            self._spend(fault)
        self._own_store()
        record = self.ns.registry.records[instance]
        record.heard = UNHEARD
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
                keys = [key for _, key, _ in actor.token.ops]
                self.oracle.doubt(number, actor.instance, keys, self.held(number))

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
        actor = self._own(number)
        actor.session, actor.status, actor.operations = None, "killed", 0
        actor.todo, actor.leaving, actor.desk = (), False, None
        undone = self.snapshot is not None and number in self.snapshot.applied
        if not undone and not any(copy.actor == number and copy.current for copy in self.mail):
            actor.token = None

    def take_over(self, instance: str, inherit: bool) -> None:
        """Somebody starts with an id that is in use, or was."""
        self._spend("takeover")
        self._add_actor(instance, inherit=inherit, refuse=self.scope.refuse)
