"""Mutants of conditions, of batches that are executed all or none, and of holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from unittest import mock

from distkit_actors._actor._dispatch import Dispatch
from distkit_actors._actor._releases import Releases
from distkit_actors._instance._holds import Hold, Holds
from distkit_actors._instance._own_copy import OwnCopy
from distkit_actors._instance._resumption import Resumption
from distkit_actors._instance._session import Session
from distkit_actors._instance._session_state import Update
from distkit_actors._namespace._entries import Step
from distkit_actors._namespace._epochs import Epochs
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import Record
from distkit_actors._protocol._messages import (
    Applied,
    Apply,
    Entry,
    Kind,
    Previous,
    Rejection,
    Result,
)
from tests.model.mutants import Mutant, Patch, _scope


def _no_guard() -> Sequence[Patch]:
    return [(Namespace, "_moved_since", lambda self, request: set())]


def _guard_without_clears() -> Sequence[Patch]:
    moved_since = Namespace._moved_since

    def changed(self: Namespace, request: Apply) -> set[str]:
        epochs = self.registry.epochs
        cleared, epochs.cleared = epochs.cleared, 0
        try:
            return moved_since(self, request)
        finally:
            epochs.cleared = cleared

    return [(Namespace, "_moved_since", changed)]


def _deaf_while_resuming() -> Sequence[Patch]:
    resumed = Session._resumed

    def changed(self: Session, reply: Applied) -> Update:
        update = resumed(self, reply)
        return Update(update.results, update.at)

    return [(Session, "_resumed", changed)]


def _deaf_between_the_parts() -> Sequence[Patch]:
    resumed = Session._resumed

    def changed(self: Session, reply: Applied) -> Update:
        update = resumed(self, reply)
        update.void = {}
        if self._resumption is not None:
            self._resumption.void.clear()
        return update

    return [(Session, "_resumed", changed)]


def _older_only() -> Sequence[Patch]:
    older = Holds._older

    def changed(self: Holds, key: str, epoch: int) -> list[Hold]:
        return older(self, key, epoch - 1)

    return [(Holds, "_older", changed)]


def _own_moves_forgotten() -> Sequence[Patch]:
    moved = Holds.moved

    def changed(self: Holds, epochs: dict[str, int], dropped: dict[str, int]) -> list[Hold]:
        return moved(self, epochs, {} if not epochs else dropped)

    return [(Holds, "moved", changed)]


def _unasked() -> Sequence[Patch]:
    def changed(
        self: Resumption, own: OwnCopy, holds: Holds, limit: int
    ) -> tuple[list[Entry], int, None]:
        return [], len(self.held), None

    return [(Resumption, "_claims_of_nothing", changed)]


def _kept_for_nobody() -> Sequence[Patch]:
    def changed(self: Releases, hold: Hold, at: int, operation: object) -> None:
        self.holds.committed(hold, at)

    return [(Releases, "begin", changed)]


def _waiting_ends_are_lost() -> Sequence[Patch]:
    fail_waiting = Dispatch.fail_waiting

    def changed(self: Dispatch, error: Exception) -> None:
        with mock.patch.object(self.releases, "defer", return_value=None):
            fail_waiting(self, error)

    return [(Dispatch, "fail_waiting", changed)]


def _late_clear_unheard() -> Sequence[Patch]:
    clear_late = Epochs.clear_late

    def changed(self: Epochs, cleared: int) -> None:
        latest = self.latest
        clear_late(self, cleared)
        self.latest = latest

    return [(Epochs, "clear_late", changed)]


def _decided_by_belief() -> Sequence[Patch]:
    with_beliefs = OwnCopy.with_beliefs

    def changed(self: OwnCopy, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in with_beliefs(self, entries):
            condition = entry.condition
            if condition is None:
                yield entry
            else:
                own = self.slices[entry.key].value if entry.key in self.slices else 0
                holds = condition.holds(own)
                yield entry._replace(condition=None) if holds else Entry(Kind.ADD, entry.key, 0)

    return [(OwnCopy, "with_beliefs", changed)]


def _half_a_batch() -> Sequence[Patch]:
    run_all = Namespace._run_all

    def changed(self: Namespace, step: Step, entries: Sequence[Entry]) -> tuple[Result, ...]:
        if not (isinstance(step.request, Apply) and step.request.atomic):
            return run_all(self, step, entries)
        results = run_all(self, step._replace(request=step.request._replace(atomic=False)), entries)
        if Rejection.REFUSED not in results:
            return results
        return tuple(r if r is Rejection.REFUSED else Rejection.UNDONE for r in results)

    return [(Namespace, "_run_all", changed)]


def _filed_under_the_step() -> Sequence[Patch]:
    return [(Dispatch, "_stamp", lambda self, key, update: update.at)]


def _young_claims() -> Sequence[Patch]:
    """What becomes one takes the stamp of the slice that is there."""
    add = Namespace._add

    def changed(
        self: Namespace, record: Record, entry: Entry, stamp: int, *rest: Previous
    ) -> Result:
        own = record.slices.get(entry.key)
        return add(self, record, entry, own.stamp if own else stamp, *rest)

    def merge(self: OwnCopy, key: str, stamp: int, update: Update) -> None:
        pass

    return [(Namespace, "_add", changed), (OwnCopy, "_merge", merge)]


def _holds_stay_young() -> Sequence[Patch]:
    return [(Holds, "merged", lambda self, key, younger, older: None)]


def _ends_of_their_own() -> Sequence[Patch]:
    """The end of a hold makes a slice anew where what it was added to is gone."""
    with_beliefs = OwnCopy.with_beliefs

    def changed(self: OwnCopy, entries: Iterable[Entry]) -> list[Entry]:
        return with_beliefs(
            self, [e._replace(kind=Kind.ADD, stamp=0) if e.guarded else e for e in entries]
        )

    return [(OwnCopy, "with_beliefs", changed)]


MUTANTS_OF_HOLDS: Final = (
    Mutant(
        "a hold goes by the step that added it",
        _filed_under_the_step,
        _scope("A: hold a, B: delete a", 2, "mute wipe", desks="s-", beats=False),
    ),
    Mutant(
        "a hold goes by the step that added it, and its slice came to nothing",
        _filed_under_the_step,
        _scope("A: inc a, A: hold a, A: dec a, B: delete a", 3, "wipe", desks="l-", beats=False),
    ),
    Mutant(
        "the end of a hold leaves what it belonged to",
        _ends_of_their_own,
        _scope("A: hold a, A: dec a, B: delete a", 2, "wipe", desks="s-", beats=False),
    ),
    Mutant(
        "what becomes one is as young as what was there",
        _young_claims,
        _scope(
            "A: big a, A: inc a, B: delete a, C: big a, C: drop a",
            2,
            "wipe",
            instances=3,
            in_turn=True,
            beats=False,
        ),
    ),
    Mutant(
        "a hold stays young where its slice becomes older",
        _holds_stay_young,
        _scope("A: hold a, A: dec a, B: delete a", 3, "wipe", desks="s-", beats=False),
    ),
    Mutant("no guard", _no_guard, _scope("A: hold a, B: delete a", 1, "mute", desks="s-")),
    Mutant(
        "no guard for a lax counter",
        _no_guard,
        _scope("A: hold a, B: delete a", 1, "mute", desks="l-"),
    ),
    Mutant(
        "a guard that does not look at clears",
        _guard_without_clears,
        _scope("A: hold a, B: clear", 1, "mute", desks="s-"),
    ),
    Mutant(
        "a hold outlives a move that is learned of in a resume",
        _deaf_while_resuming,
        _scope("A: hold a, B: delete a", 1, "reap", desks="s-"),
    ),
    Mutant(
        "a hold outlives a move that is learned of in the first piece of a resume",
        _deaf_between_the_parts,
        _scope(
            "A: hold a+inc b, B: delete a",
            1,
            "mute wipe",
            desks="s-",
            keys=("a", "b"),
            pieces=True,
            beats=False,
        ),
    ),
    Mutant(
        "a hold outlives an archived move where its slice has come to nothing",
        _unasked,
        _scope("A: hold a, A: dec a, B: delete a", 2, "reap", desks="s-", archives=True),
    ),
    Mutant(
        "a hold outlives a move with the same stamp",
        _older_only,
        _scope("A: hold a, A: inc a, B: delete a", 3, "", desks="s-", still=True, lazy=True),
    ),
    Mutant(
        "a hold outlives a move of its own counter",
        _own_moves_forgotten,
        _scope("A: hold a, A: delete a", 2, "", desks="l-"),
    ),
    Mutant(
        "a hold stays though its caller has gone",
        _kept_for_nobody,
        _scope("A: hold a", 1, "mute", desks="s-"),
    ),
    Mutant(
        "the end of a hold goes with a refusal of what is kept",
        _waiting_ends_are_lost,
        _scope("A: hold a, A: inc a", 2, "mute refuse", desks="s-", beats=False),
    ),
    Mutant(
        "nobody hears of a late clear",
        _late_clear_unheard,
        _scope("A: hold a, B: clear", 1, "wipe", desks="s-"),
    ),
    Mutant("conditions are decided by belief", _decided_by_belief, _scope("inc? a, inc a", 1, "")),
    Mutant(
        "half a batch is executed",
        _half_a_batch,
        _scope("big a&inc b, big a", 1, "", keys=("a", "b")),
    ),
)
