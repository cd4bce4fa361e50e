"""What the archive holds, when it is forgotten, and which claims it judges, in Redis and in memory.

P45, archive.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import count, islice

import pytest
import redis

from distkit_actors._instance._session import Session
from distkit_actors._instance._session_view import BULK
from distkit_actors._namespace import _epochs
from distkit_actors._namespace._epochs import JOURNAL_KEPT, MAX_SEGMENTS
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import (
    Applied,
    Entry,
    Kind,
    Periods,
    Rejection,
    Reply,
    Request,
    Resume,
)
from distkit_actors._stores._redis._lua_constants import ARCHIVE_HASHES
from tests.harness import unique_prefix

from . import twin as twin_module
from .test_redis_agrees import RETENTION, Fuzz, Vigil
from .test_redis_limits import PERIODS, SECOND, add, run, session_of
from .twin import ARCHIVING, FEW_HASHES, Twin, with_constants

# ------------------------------------------------------------------------- scenarios


def not_in_the_first_two(key: str) -> bool:
    """Return whether a key is not in the first two hashes of its segment, which always exist."""
    return hashlib.sha1(key.encode(), usedforsecurity=False).digest()[0] % ARCHIVE_HASHES > 1


def archive(twin: Twin, *sessions: Session) -> None:
    """Have the first of these move so many epochs that there is an archive, and all hear of it."""
    names = filter(not_in_the_first_two, map(str, count()))
    for _ in range(JOURNAL_KEPT // 100 + 3):
        twin.now += SECOND
        run(twin, sessions[0], *(Entry(Kind.MOVE, name, 0) for name in islice(names, 100)))
        for session in sessions:
            run(twin, session)
    epochs = twin.namespace.registry.epochs
    assert (len(epochs.moved), len(epochs.archive)) == (JOURNAL_KEPT, 1)
    twin.compare()


def archive_hashes(twin: Twin) -> list[bytes]:
    """Return the names of the hashes of the archive."""
    names = twin.lua.names_in_use()
    return [name for name in names if name.startswith(twin.lua.base + b"s:")]


def test_heartbeats_archive_what_the_last_has_heard_of_late(twin: Twin) -> None:
    mover, late = session_of("mover"), session_of("late")
    run(twin, late, add("k"))
    steps = JOURNAL_KEPT // 25
    for step in range(steps):
        run(twin, mover, *(Entry(Kind.MOVE, f"key{step} {n}", 0) for n in range(101)))
    epochs, sizes = twin.namespace.registry.epochs, list[int]()
    while late.known < epochs.latest:  # page after page, and too soon for a sign of life
        run(twin, late)
    while len(sizes) < 2 or sizes[-1] < sizes[-2]:
        twin.now += SECOND
        for session in (late, mover):
            run(twin, session, budget=1000)
            twin.compare()
        sizes.append(len(epochs.moved))
    assert sizes[0] > 3 * JOURNAL_KEPT
    assert sizes[-1] == JOURNAL_KEPT + steps  # a few more cost nearly as much to archive as many


def test_an_archive_stays_as_long_as_its_namespace(twin: Twin) -> None:
    session = session_of("i")
    archive(twin, session)
    assert len(archive_hashes(twin)) > ARCHIVE_HASHES / 2
    run(twin, session, leave=True)
    for name in archive_hashes(twin):
        assert 0 < twin.lua.client.pttl(name) <= PERIODS.retention // 1000
    run(twin, session_of("next"))
    assert {twin.lua.client.pttl(name) for name in archive_hashes(twin)} == {-1}
    twin.compare()


def test_an_archive_goes_where_the_sums_are_lost(twin: Twin) -> None:
    """And one of its own hashes with them: each other hash would stay for ever."""
    session = session_of("i")
    for also in (b"n", b"s:0", b"s:1"):
        archive(twin, session)
        assert {twin.lua.base + b"s:0", twin.lua.base + b"s:1"} <= {*archive_hashes(twin)}
        twin.lua.client.delete(twin.lua.base + b"n", twin.lua.base + also)
        twin.namespace = Namespace()
        run(twin, session, add("k"))
        twin.compare()
        assert not archive_hashes(twin)


def test_a_clear_takes_the_archive(twin: Twin) -> None:
    session = session_of("i")
    archive(twin, session)
    run(twin, session, Entry(Kind.CLEAR, "", 0))
    twin.compare()
    assert not archive_hashes(twin)


def test_a_segment_is_forgotten_when_all_of_it_is_old_and_all_have_heard_of_it(twin: Twin) -> None:
    """By heartbeats alone, and not before the retention is over."""
    periods = Periods(3 * SECOND, SECOND, 60 * SECOND)
    one, other = session_of("one", periods), session_of("other", periods)
    archive(twin, one, other)
    epochs = twin.namespace.registry.epochs
    over = epochs.archive[0].last + periods.retention
    while twin.now + SECOND < over - SECOND:
        twin.now += SECOND
        for session in (one, other):
            run(twin, session, budget=1000)
    for session, twin.now in ((one, over - 1), (other, over)):
        assert archive_hashes(twin)
        assert not epochs.floor
        run(twin, session, budget=1000)
        twin.compare()
    assert not archive_hashes(twin)
    assert epochs.floor >= over - periods.retention


def test_a_return_in_pieces_is_judged_by_what_was_known_before_it(twin: Twin) -> None:
    away, mover = session_of("away"), session_of("mover")
    names = [f"slice{number}" for number in range(2 * BULK + 1)]
    run(twin, away, *map(add, names))
    while twin.namespace.registry.records["away"].slices:
        run(twin, mover, Entry(Kind.FORGET, "away", 0))
    archive(twin, mover)
    before, pieces = away.known, list[Resume]()
    away.begin([])
    while (request := away.request()) is not None:
        away.receive(twin.execute(request))
        twin.compare()
        if isinstance(request, Resume):
            pieces.append(request)
            assert twin.namespace.registry.records["away"].known == before
    assert [len(piece.claims) for piece in pieces] == [BULK, BULK, 1]
    assert {piece.heard for piece in pieces} == {before}
    for _ in names:  # it hears of the rest, a page at a time
        if away.known < twin.namespace.registry.epochs.latest:
            run(twin, away)
    assert away.known == twin.namespace.registry.epochs.latest
    assert sum(twin.namespace.registry.total(name) for name in names) == len(names)


def test_an_archive_has_no_more_segments_than_places(twin: Twin) -> None:
    """Moves of many days may be archived at once, when the last instance has heard of them."""
    periods = Periods(3600 * SECOND, 1000 * SECOND, 4000 * SECOND)
    mover, late = session_of("mover", periods), session_of("late", periods)
    run(twin, late, add("k"))
    known = late.known
    archive, most = twin.namespace.registry.epochs.archive, 0
    for step in range(JOURNAL_KEPT // 10 + 40):
        twin.now += 1001 * SECOND
        keys = range(10 if step < JOURNAL_KEPT // 10 + 20 else 300)
        run(twin, mover, *(Entry(Kind.MOVE, f"key{step} {key}", 0) for key in keys))
        if step < JOURNAL_KEPT // 10 + 20:
            late.own.known = known  # it is told again and again, and takes nothing in
            run(twin, late)
            continue
        run(twin, late)
        most = max(most, len(archive))
        twin.compare()
    assert most == MAX_SEGMENTS


# ------------------------------------------------------------------- random histories


class Absent(Vigil):
    """A history in which some are away while others move epochs, for hours."""

    def __init__(self, twin: Twin, seed: int, budgets: list[int]) -> None:
        super().__init__(twin, seed, budgets)
        self.calm = False

    def _pass_time(self) -> None:
        super()._pass_time()
        if self.chance(0.1):
            self.twin.now += RETENTION // 6


def test_archived_moves_are_judged_equally(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes back claims slices that only the archive knows to be void (P45, archive)."""
    for name, value in ARCHIVING.items():
        monkeypatch.setattr(_epochs, name, value)
    monkeypatch.setattr(twin_module, "ARCHIVE_HASHES", FEW_HASHES)
    scripts = with_constants({**ARCHIVING, "ARCHIVE_HASHES": FEW_HASHES})
    most = dropped = 0
    refusals = Counter[str]()
    for seed in range(60):
        twin = Twin(client, unique_prefix(), scripts)
        history = (Fuzz(twin, seed), Absent(twin, seed, [0, 1000]))[seed % 2]
        execute = twin.execute

        def watched(
            request: Request, execute: Callable[[Request], Reply] = execute, twin: Twin = twin
        ) -> Reply:
            registry = twin.namespace.registry
            if isinstance(request, Resume):
                reply = execute(request)
                results = reply.results if isinstance(reply, Applied) else ()
                for claim, result in zip(request.claims, results, strict=False):
                    journal = max(registry.epochs.in_journal(claim.key), registry.epochs.floor)
                    if result is Rejection.MOVED:
                        refusals["archive" if claim.stamp >= journal else "journal"] += 1
                return reply
            return execute(request)

        monkeypatch.setattr(twin, "execute", watched)
        for _ in range(150):
            before = list(twin.namespace.registry.epochs.archive)
            history.step()
            epochs = twin.namespace.registry.epochs
            most = max(most, len(epochs.archive))
            dropped += bool(before) and len(epochs.archive) > 0 and before[0] not in epochs.archive
        twin.compare()
        twin.wipe()
    assert most == _epochs.MAX_SEGMENTS
    assert dropped >= 20
    assert refusals["archive"] >= 20
