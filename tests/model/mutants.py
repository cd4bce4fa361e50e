"""The core with one rule taken out, each of which exploration must notice.

A mutant replaces methods of the package's classes while it is active.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from unittest import mock

from distkit_actors._instance._resumption import Resumption
from distkit_actors._instance._session import Session
from distkit_actors._instance._session_state import Batch, Update
from distkit_actors._namespace import _observed_time
from distkit_actors._namespace._entries import Step
from distkit_actors._namespace._epochs import Epochs
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import Record, Registry, State
from distkit_actors._protocol._messages import (
    Apply,
    Conflict,
    Entry,
    Journal,
    Load,
    Loaded,
    Open,
    Opened,
    Peek,
    Peeked,
    Rejection,
    Reply,
    Request,
    Result,
    Resume,
    Stale,
)
from tests.model.scope import Scope

#: What to replace: owner, name of the attribute, what to put there.
Patch: TypeAlias = tuple[type, str, object]


@dataclass(frozen=True)
class Rule:
    """One rule that can be taken out."""

    name: str
    patches: Callable[[], Sequence[Patch]]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Take the rule out."""
        with ExitStack() as stack:
            for owner, name, replacement in self.patches():
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


@dataclass(frozen=True)
class Mutant(Rule):
    """One rule taken out, and where that shows."""

    scope: Scope


def _judging(change: Callable[[Namespace, Apply | Resume, Reply | None], Reply | None]) -> Patch:
    """Return a patch that changes the verdicts on requests."""
    judge = Namespace._judge

    def changed(self: Namespace, request: Apply | Resume, now: int) -> Reply | None:
        return change(self, request, judge(self, request, now))

    return Namespace, "_judge", changed


def _no_seq() -> Sequence[Patch]:
    def change(ns: Namespace, request: Apply | Resume, reply: Reply | None) -> Reply | None:
        record = ns.registry.records.get(request.instance)
        if record is None or request.incarnation != record.incarnation:
            return reply
        return None if request.seq <= record.seq and record.state is State.LIVE else reply

    return [_judging(change)]


def _restarting(change: Callable[[Session, Resumption], None]) -> Patch:
    """Return a patch that changes what a session tells the store again."""
    restart = Session._restart

    def changed(self: Session, resumption: Resumption | None = None) -> None:
        restart(self, resumption)
        assert self._resumption is not None
        change(self, self._resumption)

    return Session, "_restart", changed


def _no_moves_told() -> Sequence[Patch]:
    return [_restarting(lambda _, work: work.moves.clear())]


def _no_clear_told() -> Sequence[Patch]:
    piece = Session._resume_piece

    def changed(self: Session) -> Resume:
        return piece(self)._replace(cleared=0)

    return [(Session, "_resume_piece", changed)]


def _only_one_key() -> Sequence[Patch]:
    def change(_: Session, work: Resumption) -> None:
        while len(work.claims) > 1:
            work.claims.pop()

    return [_restarting(change)]


def _only_positive() -> Sequence[Patch]:
    def change(session: Session, work: Resumption) -> None:
        work.claims = deque(key for key in work.claims if session.slices[key].value > 0)

    return [_restarting(change)]


def _forget_at_reaping() -> Sequence[Patch]:
    def retire(self: Registry, instance: str, record: Record, now: int) -> None:
        self.reap_queue.pop(instance, None)
        del self.records[instance]

    return [(Registry, "retire", retire)]


def _reap_without_epochs() -> Sequence[Patch]:
    def take_away(self: Registry, record: Record, key: str) -> bool:
        return self.add(key, -record.slices.pop(key).value)

    return [(Registry, "take_away", take_away)]


def _run_doubtful_again() -> Sequence[Patch]:
    must_resume = Session._must_resume

    def changed(self: Session, recorded: int | None, batch: Batch) -> Update:
        batch.doubt = False
        return must_resume(self, recorded, batch)

    return [(Session, "_must_resume", changed)]


def _no_gaps() -> Sequence[Patch]:
    def change(ns: Namespace, request: Apply | Resume, reply: Reply | None) -> Reply | None:
        record = ns.registry.records.get(request.instance)
        if record is None or record.incarnation != request.incarnation:
            return reply
        gap = record.state is State.LIVE and request.follows > record.seq
        return None if gap else reply

    return [_judging(change)]


def _numbers_again() -> Sequence[Patch]:
    begin = Session.begin

    def changed(  # type: ignore[explicit-any]  # as `Session.begin`
        self: Session, entries: Sequence[Entry], **options: Any
    ) -> None:
        if self.idle:
            self.used = self.seq
        begin(self, entries, **options)

    return [(Session, "begin", changed)]


def _no_before() -> Sequence[Patch]:
    def change(ns: Namespace, request: Apply | Resume, reply: Reply | None) -> Reply | None:
        record = ns.registry.records.get(request.instance)
        if record is None or record.incarnation != request.incarnation:
            return reply
        withdrawn = record.state is State.LIVE and request.follows < record.seq < request.seq
        return None if withdrawn else reply

    return [_judging(change)]


def _withdrawn_casts_doubt() -> Sequence[Patch]:
    must_resume = Session._must_resume

    def changed(self: Session, recorded: int | None, batch: Batch) -> Update:
        if recorded is not None and recorded > self.seq:
            recorded = None
        return must_resume(self, recorded, batch)

    return [(Session, "_must_resume", changed)]


def _keep_leftovers() -> Sequence[Patch]:
    reassert = Namespace._reassert

    def changed(self: Namespace, request: Resume, record: Record, at: int, now: int) -> bool:
        return reassert(self, request._replace(first=False), record, at, now)

    return [(Namespace, "_reassert", changed)]


def _late_clear_only_raises() -> Sequence[Patch]:
    def changed(self: Namespace, caller: str, cleared: int, now: int) -> None:
        self.registry.epochs.cleared = cleared

    return [(Namespace, "_clear_late", changed)]


def _late_clear_keeps_the_others_alive() -> Sequence[Patch]:
    clear_late = Namespace._clear_late

    def changed(self: Namespace, caller: str, cleared: int, now: int) -> None:
        living = [r for r in self.registry.records.values() if r.state is State.LIVE]
        clear_late(self, caller, cleared, now)
        for record in living:
            record.state = State.LIVE
        self.registry.expiring.clear()

    return [(Namespace, "_clear_late", changed)]


def _forget_unheard() -> Sequence[Patch]:
    def changed(self: Namespace, now: int, retention: int, moved_now: int) -> None:
        self.registry.epochs.forget(now - retention, moved_now)

    return [(Namespace, "_forget_moves", changed)]


def _archive_unheard() -> Sequence[Patch]:
    put_away = Epochs.put_away

    def changed(self: Epochs, known_by_all: int, retention: int) -> None:
        put_away(self, self.latest, retention)

    return [(Epochs, "put_away", changed)]


def _knows_too_early() -> Sequence[Patch]:
    return [(Resume, "heard", property(lambda self: self.known))]


def _no_archive() -> Sequence[Patch]:
    return [(Epochs, "of", Epochs.in_journal)]


def _no_floor() -> Sequence[Patch]:
    forget = Epochs.forget

    def changed(self: Epochs, horizon: int, moved_now: int) -> None:
        floor = self.floor
        forget(self, horizon, moved_now)
        self.floor = floor

    return [(Epochs, "forget", changed)]


def no_blackout() -> Sequence[Patch]:
    """However long a silence is, it is no blackout."""
    return [(_observed_time, "longest_silence", lambda threshold, interval: 2**63)]


def _resume_anywhere() -> Sequence[Patch]:
    judge = Namespace._judge

    def changed(self: Namespace, request: Apply | Resume, now: int) -> Reply | None:
        if isinstance(request, Resume):
            request = request._replace(born=self._birth(now))
        return judge(self, request, now)

    return [(Namespace, "_judge", changed)]


def _open_anywhere() -> Sequence[Patch]:
    opening = Namespace._open

    def changed(self: Namespace, request: Open, now: int) -> Reply:
        return opening(self, request._replace(born=self.born), now)

    return [(Namespace, "_open", changed)]


def _leftovers_are_inherited() -> Sequence[Patch]:
    return [(Record, "starts_afresh", False)]


def _leftovers_of_who_returns_are_inherited() -> Sequence[Patch]:
    def changed(self: Record) -> bool:
        return not (self.inherited or self.seq)

    return [(Record, "starts_afresh", property(changed))]


def _open_whoever_holds_it() -> Sequence[Patch]:
    opening = Namespace._open

    def changed(self: Namespace, request: Open, now: int) -> Reply:
        holder = self.registry.records.get(request.instance)
        expected = holder.incarnation if holder else 0
        return opening(self, request._replace(expected=expected), now)

    return [(Namespace, "_open", changed)]


def _loading_is_fenced() -> Sequence[Patch]:
    load = Namespace._load

    def changed(self: Namespace, request: Load, now: int) -> Reply:
        record = self.registry.records.get(request.instance)
        if record and record.incarnation != request.incarnation:
            return Conflict(record.incarnation)
        return load(self, request, now)

    return [(Namespace, "_load", changed)]


def _loads_are_not_recorded() -> Sequence[Patch]:
    load = Namespace._load

    def changed(self: Namespace, request: Load, now: int) -> Reply:
        return load(self, request._replace(seq=0), now)

    def loaded(self: Session, reply: Loaded) -> None:
        take(self, reply)
        self.seq = self.used = 0

    take = Session._loaded
    return [(Namespace, "_load", changed), (Session, "_loaded", loaded)]


def _no_fence() -> Sequence[Patch]:
    judge = Namespace._judge

    def changed(self: Namespace, request: Apply | Resume, now: int) -> Reply | None:
        reply = judge(self, request, now)
        return None if isinstance(reply, Conflict) else reply

    return [(Namespace, "_judge", changed)]


def _open_does_not_refuse() -> Sequence[Patch]:
    execute = Namespace.execute

    def changed(self: Namespace, request: Request, now: int) -> Reply:
        return execute(
            self, request._replace(refuse=False) if isinstance(request, Open) else request, now
        )

    return [(Namespace, "execute", changed)]


def _everybody_is_alive() -> Sequence[Patch]:
    peek = Namespace._peek

    def changed(self: Namespace, request: Peek, now: int) -> Peeked:
        peeked = peek(self, request, now)
        return peeked._replace(alive=peeked.incarnation > 0)

    return [(Namespace, "_peek", changed)]


def _late_copies_run() -> Sequence[Patch]:
    def change(ns: Namespace, request: Apply | Resume, reply: Reply | None) -> Reply | None:
        return None if isinstance(reply, Stale) else reply

    return [_judging(change)]


def _claims_ignore_epochs() -> Sequence[Patch]:
    run = Namespace._run

    def changed(self: Namespace, step: Step, entry: Entry) -> Result:
        result = run(self, step, entry)
        if result is Rejection.MOVED:
            self.registry.add(entry.key, entry.value)
            self._write(step.record, entry.key, entry.value, self.registry.epochs.of(entry.key))
        return result

    return [(Namespace, "_run", changed)]


def _catch_up_with_what_is_told() -> Sequence[Patch]:
    def changed(self: Namespace, record: Record, entries: object, journal: Journal) -> Journal:
        return journal

    return [(Namespace, "_catch_up_with", changed)]


def _clears_take_what_is_younger() -> Sequence[Patch]:
    catch_up = Namespace._catch_up

    def changed(self: Namespace, record: Record, known: int) -> tuple[Journal, bool]:
        record.swept = -1
        return catch_up(self, record, known)

    return [(Namespace, "_catch_up", changed)]


def _heirs_forget_what_is_younger() -> Sequence[Patch]:
    opened = Session._opened

    def changed(self: Session, reply: Opened) -> None:
        opened(self, reply)
        self.own._told_at = 0

    return [(Session, "_opened", changed)]


def _scope(menu: str, operations: int, faults: str, **settings: object) -> Scope:
    kinds = {fault: faults.split().count(fault) for fault in faults.split()}
    settings.setdefault("total", len(faults.split()))
    return Scope(
        "mutant",
        tuple(menu.split(", ")),
        operations=operations,
        faults=kinds,
        **settings,  # type: ignore[arg-type]  # fields of `Scope`
    )


MUTANTS: Final = (
    Mutant("repeats are not recognised", _no_seq, _scope("inc a", 1, "mute")),
    Mutant("late copies are executed", _late_copies_run, _scope("inc a", 1, "drop late")),
    Mutant("moves are not told again", _no_moves_told, _scope("inc a, set a", 1, "wipe")),
    Mutant("clears are not told again", _no_clear_told, _scope("inc a, clear", 1, "wipe")),
    Mutant(
        "the record goes with the slices",
        _forget_at_reaping,
        _scope("inc a, set a", 1, "mute reap"),
    ),
    Mutant("the reaper ignores epochs", _reap_without_epochs, _scope("inc a, set a", 1, "reap")),
    Mutant("claims ignore epochs", _claims_ignore_epochs, _scope("inc a, set a", 1, "reap")),
    Mutant(
        "only one key comes back",
        _only_one_key,
        _scope("inc a+inc b", 1, "reap", keys=("a", "b")),
    ),
    Mutant("only positive slices come back", _only_positive, _scope("dec a", 1, "reap")),
    Mutant(
        "a doubtful batch runs again when the record is gone",
        _run_doubtful_again,
        _scope("inc a, set a", 1, "mute wipe"),
    ),
    Mutant("gaps are not noticed", _no_gaps, _scope("inc a", 1, "rollback")),
    Mutant("a number is used twice", _numbers_again, _scope("inc a", 2, "lie")),
    Mutant("what was withdrawn is not missed", _no_before, _scope("inc a", 1, "lie")),
    Mutant(
        "what was withdrawn casts doubt on what follows",
        _withdrawn_casts_doubt,
        _scope("inc a, set a", 2, "lie drop"),
    ),
    Mutant("leftovers stay", _keep_leftovers, _scope("inc a, drop a", 2, "rollback")),
    Mutant(
        "a late clear only raises C", _late_clear_only_raises, _scope("inc a, clear", 2, "wipe")
    ),
    Mutant(
        "a late clear lets the others be",
        _late_clear_keeps_the_others_alive,
        _scope("inc a, clear", 2, "wipe"),
    ),
    Mutant(
        "moves are forgotten that somebody has not heard of",
        _forget_unheard,
        _scope("inc a, set a", 1, "collect"),
    ),
    Mutant(
        "moves are forgotten without a trace",
        _no_floor,
        _scope("inc a, set a", 1, "reap collect"),
    ),
    Mutant(
        "moves are archived that somebody has not heard of",
        _archive_unheard,
        _scope("inc a, set a", 1, "", archives=True),
    ),
    Mutant(
        "a segment is forgotten that somebody has not heard of",
        _forget_unheard,
        _scope("inc a, set a", 1, "reap collect", archives=True),
    ),
    Mutant(
        "the archive judges nobody",
        _no_archive,
        _scope("inc a, set a", 1, "reap", archives=True),
    ),
    Mutant(
        "a return knows of archived moves before it is complete",
        _knows_too_early,
        _scope(
            "A: inc a+inc b+inc c, B: delete c",
            1,
            "reap collect",
            keys=("a", "b", "c"),
            archives=True,
            pieces=True,
        ),
    ),
    Mutant(
        "a slice counts that a move made void which is not told yet",
        _catch_up_with_what_is_told,
        _scope(
            "A: inc a, B: delete b, B: delete a", 2, "", keys=("a", "b"), pieces=True, beats=False
        ),
    ),
    Mutant(
        "a clear takes what is younger, until it is heard",
        _clears_take_what_is_younger,
        _scope("A: inc a, B: clear", 2, "mute", beats=False),
    ),
    Mutant(
        "an heir forgets what is younger than a clear",
        _heirs_forget_what_is_younger,
        _scope("A: inc a, B: clear", 1, "takeover mute", inherit=(True,), actors=3, beats=False),
    ),
    Mutant(
        "what a newcomer throws away is inherited",
        _leftovers_are_inherited,
        _scope(
            "inc a+inc b",
            1,
            "takeover takeover",
            keys=("a", "b"),
            instances=1,
            inherit=(False, True),
            leftovers=1,
            beats=False,
        ),
    ),
    Mutant(
        "what one who returns throws away is inherited",
        _leftovers_of_who_returns_are_inherited,
        _scope(
            "A: inc a+inc b+inc c",
            1,
            "reap takeover",
            keys=("a", "b", "c"),
            budgets=(1,),
            inherit=(True,),
            leftovers=1,
        ),
    ),
    Mutant("no blackout guard", no_blackout, _scope("inc a", 1, "blackout")),
    Mutant(
        "a resume meant for a lost store is accepted",
        _resume_anywhere,
        _scope("A: inc a, B: set a", 2, "wipe drop late reap", beats=False),
    ),
    Mutant(
        "an open meant for a lost store is accepted",
        _open_anywhere,
        _scope("inc a", 1, "drop wipe late", instances=1, closed=True),
    ),
    Mutant(
        "an open does not say whom it takes the id from",
        _open_whoever_holds_it,
        _scope("inc a", 1, "drop takeover late", instances=1, closed=True, beats=False),
    ),
    Mutant(
        "a predecessor fences a newcomer that is loading",
        _loading_is_fenced,
        _scope("inc a", 1, "takeover wipe", instances=1, inherit=(True,)),
    ),
    Mutant(
        "what was loaded is not recorded",
        _loads_are_not_recorded,
        _scope("A: inc a, B: set a", 1, "takeover rollback", inherit=(True,), beats=False),
    ),
    Mutant("nobody is fenced", _no_fence, _scope("inc a", 1, "takeover", instances=1)),
    Mutant(
        "one who is alive again is taken over by one who refuses to",
        _open_does_not_refuse,
        _scope("inc a", 2, "takeover reap", instances=1, refuse=True),
    ),
    Mutant(
        "the dead keep their ids from one who refuses to take over",
        _everybody_is_alive,
        _scope("inc a", 2, "takeover kill", instances=1, refuse=True),
    ),
)
