"""Actors with a desk: what goes from there into a batch, and what the oracle says of their holds.

A hold's addition counts from the step that executes it until the key's epoch moves or its end is
executed. Whoever takes back what does not count any more leaves a negative slice, whoever
forgets to take back what counts leaves it for ever: neither may happen, whatever the network
and the store do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from distkit_actors._actor._operations import Operation
from distkit_actors._instance._session_state import Update
from distkit_actors._protocol._messages import Entry, Kind, Previous, Result
from tests.model.desk import Desk, Held, op_of
from tests.model.oracle import Op, Violation, sums
from tests.model.parts import is_replaced
from tests.model.scope import ADDS
from tests.model.state import WorldState


class Desks(WorldState):
    """A world in which some instances are more than their sessions."""

    __slots__ = ()

    def desk(self, number: int) -> Desk:
        """Return the desk of an actor that has one."""
        desk = self.actors[number].desk
        assert desk is not None
        return desk

    # ------------------------------------------------------------------- callers

    def count(self, number: int, ops: tuple[Op, ...]) -> None:
        """A lax counter counts, whatever is under way."""
        actor = self._own(number)
        actor.operations -= 1
        self.desk(number).do(ops, atomic=False)

    def let_go(self, number: int, index: int) -> None:
        """Somebody leaves the block of a hold."""
        self._own(number)
        desk = self.desk(number)
        desk.let_go(desk.holds[index])

    def give_up(self, number: int, index: int) -> None:
        """Somebody is cancelled who waits for an answer."""
        self._own(number)
        desk = self.desk(number)
        desk.give_up(desk.asks[index])

    def let_all_go(self, number: int) -> None:
        """Everybody leaves their blocks."""
        desk = self.actors[number].desk
        if desk is not None:
            for hold in list(desk.holds):
                if hold.entered and not hold.released:
                    desk.let_go(hold)

    # --------------------------------------------------------------- what is sent

    def take_along(self, number: int, *, beat: bool) -> tuple[tuple[Op, ...], bool]:
        """Begin a batch of what waits; return it in the words of the oracle."""
        actor = self.actors[number]
        desk, session = self.desk(number), actor.session
        assert session is not None
        entries, atomic = desk.collect(beat=beat)
        session.begin(entries or ([] if atomic else session.retries()), atomic=atomic)
        return tuple(map(op_of, entries)), atomic

    # ------------------------------------------------------- what the oracle is told

    def held(self, number: int) -> dict[str, int]:
        """Return how much of an instance's slices is held, for certain."""
        desk, held = self.actors[number].desk, dict[str, int]()
        for hold in () if desk is None else desk.holds:
            if hold.counts:
                held[hold.key] = held.get(hold.key, 0) + hold.count
        return held

    def may_hold(self, number: int) -> dict[str, list[int]]:
        """Return what may be held, each by itself."""
        desk, held = self.actors[number].desk, dict[str, list[int]]()
        for hold in () if desk is None else desk.holds:
            held.setdefault(hold.key, []).append(hold.count)
        return held

    def free_of_holds(self, number: int, ops: Sequence[Op]) -> list[set[int]]:
        """Return what each operation under way may add, or put, apart from what is held."""
        desk = self.actors[number].desk
        free = []
        for index, (kind, key, value) in enumerate(ops):
            if desk is None or kind in ("move", "clear"):
                free.append({value})
            elif kind == "put":
                # Whoever holds takes it from what is put.
                over = desk.replaced(key)
                later = [h.count for h in desk.holds if h.key == key and h not in over]
                free.append({value - some for some in sums(later)})
            else:
                fresh, back = desk.in_entry(index)
                ends = sum(hold.count for hold in back)
                free.append({value - sum(hold.count for hold in fresh) + ends})
        return free

    def tell_holds(self, number: int, entries: Sequence[Entry], results: Iterable[Result]) -> None:
        """Note which additions have been made and taken back by the step that was executed."""
        actor, desk = self.actors[number], self.actors[number].desk
        for index, (entry, result) in enumerate(zip(entries, results, strict=True)):
            if not isinstance(result, Previous):
                continue
            if desk is not None:
                unsure = self.oracle.may_differ(number, entry.key, actor.instance)
                fresh, back = desk.in_entry(index)
                for hold in fresh:
                    hold.counts = None if unsure else True
                for hold in back:
                    if hold.counts is False and not unsure:
                        raise Violation(f"{hold.count} of {entry.key} is taken back, and was void")
                    hold.counts = False
                if entry.kind is Kind.PUT:
                    for hold in desk.replaced(entry.key):
                        hold.counts = False
            if entry.kind in (Kind.MOVE, Kind.CLEAR):
                self._void_holds(entry.key, by=number)

    def _void_holds(self, key: str, *, by: int) -> None:
        """The epoch of a key, or of all, has moved: nobody has anything to take back."""
        for number, actor in enumerate(self.actors):
            if actor.desk is not None and any(h.counts is not False for h in actor.desk.holds):
                if number != by:
                    self._own(number)
                for hold in self.desk(number).holds:
                    if key in ("", hold.key):
                        hold.counts = False

    def fold_holds(self, number: int, ops: Sequence[Op]) -> None:
        """A batch has become part of what is re-asserted, but for what the store must decide."""
        desk, token = self.actors[number].desk, self.actors[number].token
        if desk is None or token is None:
            return
        unmoved = {key for key, _ in token.undo}
        for index, (kind, key, value) in enumerate(ops):
            fresh, back = desk.in_entry(index)
            nothing = not is_replaced(ops, index) and (
                kind == "required" or (kind in ADDS and value == 0)
            )  # as far as anybody can see
            for hold in fresh:
                if nothing or kind.endswith("?") or token.atomic:
                    hold.counts = False  # it is executed once more, or not at all
                elif not token.was_executed(index):
                    hold.counts = True
            for hold in desk.replaced(key) if kind == "put" else ():
                hold.counts = False
            for hold in back:
                if not nothing:
                    hold.counts = False
                elif key in unmoved and token.was_executed(index):
                    hold.counts = True

    def lose_holds(self, number: int, index: int, key: str) -> None:
        """Nobody can say what an addition came to: it is void, or waits with its slice."""
        actor = self.actors[number]
        session, desk = actor.session, actor.desk
        assert session is not None
        if desk is None:
            return
        waits = key in session.slices or any(key == other for other, _ in session.withheld)
        for hold in desk.in_entry(index)[0]:
            hold.counts = None if waits else False

    def hand_out(self, number: int, update: Update) -> None:
        """Let a desk see to what an answer says, and compare with the oracle."""
        actor = self.actors[number]
        desk = actor.desk
        if desk is None or actor.session is None:
            return
        desk.settle(update)
        for hold in desk.holds:
            excused = self.oracle.may_differ(number, hold.key, actor.instance)
            if hold.void and hold.counts is True and not excused:
                raise Violation(f"{hold.count} of {hold.key} still counts, and is taken for void")

    def check_holds(self, number: int) -> None:
        """At the end nobody holds anything."""
        actor = self.actors[number]
        if actor.desk is None:
            return
        for hold in actor.desk.holds:
            excused = self.oracle.may_differ(number, hold.key, actor.instance)
            if hold.counts is True and not excused:
                raise Violation(f"{actor.instance} holds {hold.count} of {hold.key} for ever")
        if actor.desk.has_work:
            raise Violation(f"{actor.instance} has something to send for ever")
        if actor.desk.asks:
            raise Violation(f"{actor.desk.asks} wait for ever")


def waiting_for_hold(desk: Desk) -> Iterable[tuple[int, Operation]]:
    """Give those who wait to enter a hold, as `Desk.asks` counts them."""
    for index, operation in enumerate(desk.asks):
        if isinstance(operation.hold, Held):
            yield index, operation
