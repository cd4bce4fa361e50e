"""What the counters must hold, worked out one operation at a time.

Obviously right rather than fast, and without a line of the package's: a table of slices, to
which each operation is applied once, at the step in which the store first says that it was
executed. The rest of the file is about the documented limits L1 … L4: double failures after
which a key of an instance may hold something else. Each is recognised from what happened, never
from what the package says, and each excuses single slices only. (L5 is only about how
many heartbeats healing takes.)

L1 excuses no more than it says: counts made since the loss may be missing, and nothing may be there
besides. So such a slice has a set of values that it may have *apart from what is held*; whatever
becomes of holds, once they have ended it must be one of these (I13).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

#: What to do (add, put, move, clear), key, value.
Op: TypeAlias = tuple[str, str, int]
#: Everything the oracle knows, hashable.
Frozen: TypeAlias = tuple[object, ...]

#: What a slice of an instance may be, whatever is excused: (instance, key).
Conceivable: TypeAlias = Callable[[str, str], frozenset[int]]

#: In `Oracle.excused`: the slices of all instances.
EVERYONE = "*"


class Violation(AssertionError):  # noqa: N818  # it is no error, it is what is looked for
    """The package did what it must not do."""


@dataclass(slots=True)
class Comparisons:
    """How many values were compared with the oracle's, and how many were excused."""

    compared: int = 0
    exempt: int = 0

    @property
    def share(self) -> float:
        """Percentage of the comparisons that were excused."""
        return 100 * self.exempt / max(1, self.compared + self.exempt)


class Oracle:
    """The truth about one namespace."""

    __slots__ = (
        "excused",
        "lossy",
        "lost_moves",
        "movers",
        "old",
        "owner",
        "partly",
        "suspect",
        "unheard",
        "value",
    )

    def __init__(self) -> None:
        self.value: dict[tuple[str, str], int] = {}  # {(key, instance): slice}, no zeros
        self.owner: dict[str, int] = {}  # {instance: actor that holds the id}
        self.movers: dict[str, tuple[int, bool]] = {}  # {key: who moved it last, by a clear?}
        self.old: set[str] = set()  # keys whose last move is older than the retention
        self.unheard: set[tuple[str, int]] = set()  # (key, actor that does not know its move)
        self.suspect: set[tuple[str, int]] = set()  # the same, and the store lost the move
        self.lost_moves: set[str] = set()  # keys whose last move the store lost
        self.excused: set[tuple[str, str]] = set()  # (key, instance or EVERYONE)
        # {(key, instance): all it may be without what is held}: counts may be missing (L1)
        self.partly: dict[tuple[str, str], frozenset[int]] = {}
        self.lossy = False  # the store lost data, and not everybody has re-asserted yet

    def copy(self) -> Oracle:
        """Return an independent copy."""
        new = Oracle.__new__(Oracle)
        new.value = self.value.copy()
        new.owner = self.owner.copy()
        new.movers = self.movers.copy()
        new.old = self.old.copy()
        new.unheard = self.unheard.copy()
        new.suspect = self.suspect.copy()
        new.lost_moves = self.lost_moves.copy()
        new.excused = self.excused.copy()
        new.partly = self.partly.copy()
        new.lossy = self.lossy
        return new

    def freeze(self) -> Frozen:
        """Return all of it as one hashable value."""
        return (
            self.lossy,
            tuple(sorted(self.value.items())),
            tuple(sorted(self.owner.items())),
            tuple(sorted(self.movers.items())),
            tuple(sorted(self.old)),
            tuple(sorted(self.unheard)),
            tuple(sorted(self.suspect)),
            tuple(sorted(self.lost_moves)),
            tuple(sorted(self.excused)),
            tuple((pair, tuple(sorted(self.partly[pair]))) for pair in sorted(self.partly)),
        )

    @classmethod
    def thaw(cls, frozen: Frozen) -> Oracle:
        """Undo `freeze`."""
        new = cls()
        lossy, value, owner, movers, old, unheard, suspect, lost, excused, partly = frozen
        new.lossy = bool(lossy)
        new.value = dict(value)  # type: ignore[call-overload]  # see freeze
        new.owner = dict(owner)  # type: ignore[call-overload]
        new.movers = dict(movers)  # type: ignore[call-overload]
        new.old = set(old)  # type: ignore[call-overload]
        new.unheard = set(unheard)  # type: ignore[call-overload]
        new.suspect = set(suspect)  # type: ignore[call-overload]
        new.lost_moves = set(lost)  # type: ignore[call-overload]
        new.excused = set(excused)  # type: ignore[call-overload]
        new.partly = {pair: frozenset(v) for pair, v in partly}  # type: ignore[attr-defined]
        return new

    # ------------------------------------------------------------- what took effect

    def run(
        self,
        actor: int,
        instance: str,
        ops: Sequence[Op],
        keys: Iterable[str],
        actors: int,
        free: Sequence[Collection[int]] = (),
    ) -> list[int]:
        """Apply operations in order; return the own slice before each.

        ``free``: what each may add, or put, apart from what is held; if not given, all of it.
        """
        before = []
        for index, (kind, key, value) in enumerate(ops):
            own = self.value.get((key, instance), 0)
            before.append(own)
            if kind == "clear":
                for each in keys:
                    self._move(actor, instance, each, 0, actors, by_clear=True)
            elif kind == "move":
                self._move(actor, instance, key, value, actors, by_clear=False)
            elif kind == "put" or value or (free and set(free[index]) != {0}):
                self.doubt(actor, instance, [key])
                # What an actor does that somebody replaced is void with the next word of the other.
                if self.owner[instance] == actor:
                    put = kind == "put"
                    self._write(instance, key, value if put else own + value)
                    self._write_partly(
                        actor, instance, key, free[index] if free else (value,), put=put
                    )
        return before

    def _write(self, instance: str, key: str, value: int) -> None:
        self.value[key, instance] = value
        if not value:
            del self.value[key, instance]

    def _write_partly(
        self, actor: int, instance: str, key: str, free: Collection[int], *, put: bool
    ) -> None:
        """Do the same to what a slice may be; what is done before the move is told may be lost."""
        before = self.partly.get((key, instance))
        if before is not None:
            after = set(free) if put else {each + more for each in before for more in free}
            if (key, actor) in self.suspect:
                after |= {0} if put else before
            self.partly[key, instance] = frozenset(after)

    def _move(
        self, actor: int, instance: str, key: str, value: int, actors: int, *, by_clear: bool
    ) -> None:
        self.value = {pair: v for pair, v in self.value.items() if pair[0] != key}
        if value and self.owner[instance] == actor:
            self.value[key, instance] = value
        self.movers[key] = (actor, by_clear)
        self.old.discard(key)
        # Whatever was in doubt about the key is settled.
        self.excused = {pair for pair in self.excused if pair[0] != key}
        self.partly = {pair: v for pair, v in self.partly.items() if pair[0] != key}
        self.suspect = {pair for pair in self.suspect if pair[0] != key}
        self.lost_moves.discard(key)
        self.unheard.update((key, other) for other in range(actors) if other != actor)

    def undo(
        self, instance: str, befores: Iterable[tuple[str, int]], *, free: bool = False
    ) -> None:
        """Take back operations on own slices whose execution the store lost.

        ``free``: they concerned nothing but what is held.
        """
        for key, before in befores:
            pair = (key, instance)
            undone = self.value.get(pair, 0) - before
            self._write(instance, key, before)
            if not free and pair in self.partly:
                self.partly[pair] |= {each - undone for each in self.partly[pair]}

    def _excuse_partly(self, pair: tuple[str, str]) -> None:
        """Nobody can say which of the counts that may be missing are."""
        if self.partly.pop(pair, None) is not None:
            self.excused.add(pair)

    def left(self, instance: str) -> None:
        """All slices of ``instance`` are gone for good."""
        self.value = {pair: v for pair, v in self.value.items() if pair[1] != instance}
        self.partly = {pair: v for pair, v in self.partly.items() if pair[1] != instance}

    def opened(
        self,
        actor: int,
        instance: str,
        *,
        inherited: bool,
        found: Mapping[str, int],
        withheld: Iterable[str],
    ) -> None:
        """Note that ``actor`` took the id over, with what the store holds or with nothing.

        What the predecessor could not store, in the keys ``withheld``, may be lost with it.
        """
        before = self.owner.get(instance, actor)
        self.owner[instance] = actor
        if not inherited:
            self.left(instance)
            self.excused = {pair for pair in self.excused if pair[1] != instance}
            return
        self.excused.update((key, instance) for key in withheld)
        for pair in [pair for pair in self.partly if pair[1] == instance]:
            self._excuse_partly(pair)  # nobody ends what the predecessor holds
        self.unheard.update((key, actor) for key in self.movers)
        if self.lossy:
            # Nobody but the store can tell a newcomer what it inherits; where the store lost a
            # move, not even that: the slice may be older than the move, and void (L2).
            self.left(instance)
            self.value.update(((key, instance), value) for key, value in found.items())
            self.excused.update((key, instance) for key in self.lost_moves)
            self.suspect.update([(key, actor) for key, other in self.suspect if other == before])

    # ------------------------------------------------------------------- who knows

    def heard(self, actor: int, later: Collection[str]) -> None:
        """``actor`` got a fresh answer: it knows all moves but those that are told ``later``."""
        self.unheard = {
            (key, other) for key, other in self.unheard if other != actor or key in later
        }

    def lost(self, keys: Iterable[str]) -> None:
        """The store lost data, the last moves of ``keys`` among them."""
        self.lost_moves.update(keys)
        self.suspect.update(pair for pair in self.unheard if pair[0] in self.lost_moves)
        self.lossy = True

    def doubt(
        self, actor: int, instance: str, keys: Iterable[str], held: Mapping[str, int] | None = None
    ) -> None:
        """``actor`` counts where it may not know of a move that the store lost (L1).

        ``held``: how much of its slices is held.
        """
        for key in keys:
            if (key, actor) in self.suspect:
                counted = self.value.get((key, instance), 0) - (held or {}).get(key, 0)
                self.partly.setdefault((key, instance), frozenset((counted, 0)))

    def unsure(self, instance: str, op: Op, keys: Iterable[str]) -> None:
        """Nobody can say whether ``op`` took effect (L4)."""
        kind, key, _ = op
        if kind == "clear":
            self.excused.update((each, EVERYONE) for each in keys)
        elif kind == "move":
            self.excused.add((key, EVERYONE))
        else:
            self.excused.add((key, instance))

    def collected(self, absent: Mapping[int, str]) -> None:
        """Moves may be forgotten; ``absent`` is whom the store knows no more (actor: instance)."""
        self.old.update(self.movers)
        for actor, instance in absent.items():
            # A move that was lost and told again counts as news for everybody.
            if self.lost_moves or any(other == actor for _, other in self.unheard):
                self._excuse_absent(instance)

    def _excuse_absent(self, instance: str) -> None:
        """L3: it cannot be told which of its older slices are void, so all are.

        Those that are in fact void must stay void, and are not excused.
        """
        self.excused.update((key, owner) for key, owner in self.value if owner == instance)

    def healed(
        self,
        alive: Mapping[str, tuple[int, Mapping[str, int]]],
        held: Mapping[str, Mapping[str, Sequence[int]]],
    ) -> None:
        """Everybody ({instance: (actor, slices)}) has re-asserted: from here on all is exact."""
        self._excuse_orphans({actor for actor, _ in alive.values()}, self._names(alive))
        for instance, (actor, slices) in alive.items():
            if self.owner[instance] != actor:
                # The newer one died, and the store forgot it: the older one may go on.
                self.owner[instance] = actor
                self.left(instance)
                self.value.update(((key, instance), value) for key, value in slices.items())
        for key, instance in self.partly:
            # What is missing by now is missing for ever, the rest is there.
            if instance in alive and not self.excuses(key, instance):
                actual = alive[instance][1].get(key, 0)
                self._narrow(key, instance, actual, held.get(instance, {}).get(key, ()))
        self.suspect.clear()
        self.lost_moves.clear()
        self.lossy = False

    def _narrow(self, key: str, instance: str, actual: int, held: Sequence[int]) -> None:
        free = {actual - some for some in sums(held)}
        possible = self.partly[key, instance]
        if free.isdisjoint(possible):
            raise Violation(
                f"slice of {key} of {instance} is {actual}, must be one of {sorted(possible)}"
                f" and some of {list(held)}, which are held"
            )
        self.partly[key, instance] = possible & free

    @staticmethod
    def _names(alive: Mapping[str, tuple[int, object]]) -> dict[int, str]:
        return {actor: instance for instance, (actor, _) in alive.items()}

    def _excuse_orphans(self, alive: set[int], names: Mapping[int, str]) -> None:
        """L2: nobody who is left can tell the store of the move again."""
        for key, actor in self.suspect:
            mover, by_clear = self.movers[key]
            knows = alive - {other for each, other in self.suspect if each == key}
            told = bool(knows) if by_clear else mover in alive
            if actor in names and (not told or key in self.old):
                self.excused.add((key, names[actor]))

    # ------------------------------------------------------------------ comparisons

    def excuses(self, key: str, instance: str) -> bool:
        """Tell whether a slice may differ."""
        return (key, instance) in self.excused or (key, EVERYONE) in self.excused

    def may_differ(self, actor: int, key: str, instance: str) -> bool:
        """Tell whether an actor may be told something else of its own slice for now."""
        return (
            self.excuses(key, instance)
            or (key, instance) in self.partly
            or (key, actor) in self.suspect
            or self.owner[instance] != actor
        )

    def compare(
        self,
        instance: str,
        slices: Mapping[str, int],
        keys: Iterable[str],
        comparisons: Comparisons,
        held: Mapping[str, Sequence[int]],
        conceivable: Conceivable,
    ) -> None:
        """Check all slices of one instance; ``held`` is what may be in them for now."""
        for key in keys:
            if self.excuses(key, instance):
                comparisons.exempt += 1
                self._check_excused(instance, key, slices, held, conceivable)
                continue
            comparisons.compared += 1
            if (key, instance) in self.partly:
                self.copy()._narrow(key, instance, slices.get(key, 0), held.get(key, ()))
                continue
            expected, actual = self.value.get((key, instance), 0), slices.get(key, 0)
            if actual != expected:
                raise Violation(f"slice of {key} of {instance} is {actual}, must be {expected}")

    @staticmethod
    def _check_excused(
        instance: str,
        key: str,
        slices: Mapping[str, int],
        held: Mapping[str, Sequence[int]],
        conceivable: Conceivable,
    ) -> None:
        """No limit makes counts out of nothing."""
        actual, some = slices.get(key, 0), held.get(key, ())
        if conceivable(instance, key).isdisjoint(actual - each for each in sums(some)):
            raise Violation(
                f"slice of {key} of {instance} is {actual}, which nobody can have counted"
            )

    def finish(
        self,
        alive: Mapping[str, tuple[int, Mapping[str, int]]],
        keys: Iterable[str],
        comparisons: Comparisons,
        conceivable: Conceivable,
    ) -> None:
        """Check everything at the end of a history."""
        keys = list(keys)
        self._excuse_orphans({actor for actor, _ in alive.values()}, self._names(alive))
        for instance, (actor, slices) in alive.items():
            if self.owner[instance] == actor:
                self.compare(instance, slices, keys, comparisons, {}, conceivable)
            elif self.lossy:
                comparisons.exempt += len(keys)  # see `healed`
                for key in keys:
                    self._check_excused(instance, key, slices, {}, conceivable)
            else:
                raise Violation(f"{instance} is still held by an actor that was replaced")


def sums(numbers: Iterable[int]) -> set[int]:
    """Return what any of them make together."""
    made = {0}
    for number in numbers:
        made |= {each + number for each in made}
    return made
