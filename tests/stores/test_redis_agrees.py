"""The Lua scripts do exactly what `Namespace` does."""

from __future__ import annotations

import os
import random
import sys

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace import _epochs
from distkit_actors._protocol._conditions import Condition, Eq, Ge, Gt, Le, Lt, Ne
from distkit_actors._protocol._messages import (
    JUST_COME,
    Applied,
    Apply,
    Entry,
    Forget,
    Kind,
    Load,
    Open,
    Peek,
    Periods,
    Query,
    QueryKind,
    Reply,
    Request,
    Resume,
    Watch,
)
from distkit_actors._protocol._values import fits
from tests.harness import unique_prefix
from tests.harness.server import RedisServer

from .twin import (
    Snapshot,
    Twin,
    connect,
    counting_paths,
    dump_namespace,
    with_constants,
)

SECOND = 1_000_000
HOUR = 3600 * SECOND
# Redis' own clock must not reach the retention while a history runs, even if the machine is
# stopped for some minutes meanwhile: what expires there is still known here.
RETENTION = 24 * HOUR
PERIODS = Periods(threshold=3 * SECOND, interval=SECOND, retention=RETENTION)
#: Of some instances: one is dead when others have hardly begun to wait.
OTHER_PACES = [Periods(SECOND, SECOND // 2, RETENTION), Periods(9 * SECOND, SECOND, RETENTION)]
KEYS = ["a", ":born", "}:{x", "🦆 @,;|\n\x00*", ":inc"]
INSTANCES = ["i0", "i1", "и:2{}", "i3"]
#: Ids that look like something else.
ODD_IDS = ["nobody", "a", ":inc", ":pad", ":", ""]
#: Where a session has nothing more to send.
ENDED = {Phase.FENCED, Phase.LEFT, Phase.REFUSED}
CONDITIONS = [Eq, Ne, Lt, Le, Gt, Ge]
SMALL = [-3, -2, -1, 0, 0, 1, 1, 2, 5]
LARGE = [2**63 - 1, -(2**63), -(2**63) + 1, 2**62, -(2**62), 10**18, -(10**18), 10**18 - 1]


histories = settings(
    max_examples=int(os.environ.get("DISTKIT_HISTORIES", "45")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def perhaps_conditional(
    entry: Entry, rnd: random.Random, twin: Twin, instance: str, values: list[int]
) -> Entry:
    """Give an entry a condition and a guard, or one of them, or none."""
    if entry.kind is Kind.CLAIM:
        return entry._replace(guarded=rnd.random() < 0.5)
    if entry.folded or entry.kind not in (Kind.ADD, Kind.PUT, Kind.MOVE):
        return entry
    if rnd.random() < 0.3 and not isinstance(twin, Unordered):
        registry, of_own = twin.namespace.registry, rnd.random() < 0.5
        record = registry.records.get(instance)
        own = record.slices.get(entry.key) if record else None
        near = (own.value if own else 0) if of_own else registry.total(entry.key)
        number = rnd.choice([near, near, near - 1, near + 1, -near, rnd.choice(values)])
        kind: type[Condition] = rnd.choice(CONDITIONS)
        condition = kind(number if fits(number) else near)
        entry = entry._replace(condition=condition, of_own=of_own)
    return entry._replace(guarded=rnd.random() < 0.2)


def moves(entries: list[Entry]) -> bool:
    """Whether a batch moves an epoch; such a one forgets nobody."""
    return any(entry.kind in (Kind.MOVE, Kind.CLEAR) for entry in entries)


def some_id(rnd: random.Random, twin: Twin) -> str:
    """Return an id that somebody has, had or could have."""
    return rnd.choice([*twin.namespace.registry.records, *INSTANCES, rnd.choice(ODD_IDS)])


def some_survey(rnd: random.Random, twin: Twin) -> Query:
    kind = rnd.choice(list(QueryKind))
    key = rnd.choice(KEYS) if kind is QueryKind.SLICES else ""
    key = some_id(rnd, twin) if kind is QueryKind.HELD else key
    keys = rnd.sample(KEYS, rnd.randrange(len(KEYS))) if kind is QueryKind.VALUES else ()
    if rnd.random() < 0.5:
        return Query(rnd.choice(INSTANCES), kind, key, keys=keys)
    # An onlooker that has just come, or has been here for some time.
    last = twin.namespace.registry.observed.last
    observed = rnd.choice([JUST_COME, max(0, last + rnd.randrange(-SECOND, 3 * SECOND))])
    return Query("", kind, key, keys=keys, observed=observed)


class History:
    """Some instances that live through everything that can happen, told by a seed."""

    def __init__(self, twin: Twin, seed: int, budgets: list[int]) -> None:
        self.twin = twin
        self.random = random.Random(seed)
        self.budgets = budgets
        self.values = SMALL if self.random.random() < 0.5 else SMALL + LARGE
        # Nearly nothing but adds, nearly all by one instance, close together: the quick way.
        self.calm = self.random.random() < 0.5
        self.by_periods = [PERIODS, *OTHER_PACES] if self.random.random() < 0.5 else [PERIODS]
        self.sessions = [self._session(instance) for instance in INSTANCES[:3]]
        self.late: list[Request] = []
        self.snapshots: list[Snapshot] = []
        self.latest = 0

    def _session(self, instance: str) -> Session:
        nonce = f"n{self.random.getrandbits(32)}"
        periods = self.random.choice(self.by_periods)
        inherit, refuse = self.random.random() < 0.5, self.random.random() < 0.3
        return Session(instance, nonce, periods, inherit=inherit, refuse=refuse)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def step(self) -> None:
        self._pass_time()
        self._disaster()
        if self.chance(0.05):
            self._watch()
        if self.chance(0.02):
            self.twin.execute(Forget("", some_id(self.random, self.twin)))
        if self.chance(0.1):
            self.twin.execute(some_survey(self.random, self.twin))
        index = self.random.randrange(len(self.sessions))
        if self.calm and self.chance(0.8):
            index = 0
        session = self.sessions[index]
        if session.phase in ENDED or self.chance(0.02):
            # Another one under this name: a restart, or a take-over.
            session = self._session(session.instance)
            self.sessions.append(session)
            del self.sessions[index if self.chance(0.7) else 0]
        if session.idle:
            self._begin(session)
        request = session.request()
        if request is None:
            return
        fate = self.random.random()
        if fate < 0.1:
            session.lost()
            self.late.append(request)
        else:
            reply = self.twin.execute(request)
            if fate < 0.2:
                session.lost()
            else:
                session.receive(reply)
        if self.late and self.chance(0.2):
            self.twin.execute(self.late.pop(self.random.randrange(len(self.late))))
        self.twin.check_sums()

    def _watch(self) -> None:
        lease = self.random.choice([1, 1000, SECOND, 10 * SECOND])
        request = Watch(self.random.choice(INSTANCES), lease)
        if self.chance(0.2):
            self.late.append(request)
        else:
            self.twin.execute(request)

    def _pass_time(self) -> None:
        self.latest = max(self.latest, self.twin.now)
        long = [PERIODS.threshold // 100, SECOND, PERIODS.threshold + 1, PERIODS.retention // 2]
        if self.chance(0.95 if self.calm else 0.7):
            self.twin.now += self.random.choice([0, 1, 10, 1000])
        else:
            self.twin.now += self.random.choice(long)
        if self.chance(0.01):
            self.twin.now += PERIODS.retention + 1
        if self.chance(0.02):  # the clock is put back, or forward
            jumps = [-5, -SECOND // 100, -SECOND, -HOUR, SECOND, 2 * SECOND, HOUR, RETENTION]
            self.twin.now += self.random.choice(jumps)
        if self.chance(0.02):  # or to just after a sign of life, when nothing is written down
            registry = self.twin.namespace.registry
            for record in registry.records.values():
                if self.chance(0.5):
                    heard = record.heard.at - registry.observed.shift
                    self.twin.now = heard + self.random.choice([0, 1, PERIODS.threshold // 100])
                    break

    def _disaster(self) -> None:
        if self.chance(0.01):
            self.twin.compare()
            self.twin.wipe()
        if self.chance(0.02):
            self.snapshots.append(self.twin.snapshot())
        if self.snapshots and self.chance(0.02):
            self.late.clear()  # its connections died with the old server
            # It takes some time (A3): no incarnation is given out twice.
            latest = max(self.twin.now, self.latest, self.twin.namespace.clock)
            self.twin.roll_back(self.random.choice(self.snapshots))
            self.twin.now = latest + 1
            # An heir that has loaded slices shows them in its first batch, not before.
            self.sessions = [
                self._session(session.instance) if session.inherit and not session.seq else session
                for session in self.sessions
            ]

    def _begin(self, session: Session) -> None:
        atomic = self.chance(0.15)
        kinds = [Kind.ADD] * 4 + [Kind.PUT, Kind.MOVE]
        if self.calm and self.chance(0.9):
            kinds = [Kind.ADD]
        elif atomic:
            kinds = self.random.choice([[Kind.MOVE], [Kind.ADD, Kind.PUT]])
        entries = []
        if not atomic and not self.calm and self.chance(0.05):
            entries.append(Entry(Kind.CLEAR, "", 0))
        for key in KEYS:
            if self.chance(0.4):
                kind = self.random.choice(kinds)
                value = self.random.choice(self.values)
                folded = (
                    not atomic and kind is Kind.ADD and abs(value) < 10**18 and self.chance(0.3)
                )
                entry = Entry(kind, key, value, folded=folded)
                entries.append(
                    perhaps_conditional(
                        entry, self.random, self.twin, session.instance, self.values
                    )
                )
        if self.chance(0.1):
            self.random.shuffle(entries)
        if not atomic and self.chance(0.02 if self.calm else 0.1) and not moves(entries):
            entries.append(Entry(Kind.FORGET, some_id(self.random, self.twin), 0))
        if session.withheld and self.chance(0.3):
            entries, atomic = session.retries(), False
        session.begin(
            entries,
            leave=not atomic and self.chance(0.03),
            budget=self.random.choice(self.budgets),
            atomic=atomic,
        )


@histories
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 150))
def test_every_reply_and_the_state_are_equal(client: redis.Redis, seed: int, steps: int) -> None:
    # With enough budget it does not matter in which order slices are reaped.
    twin = Twin(client, unique_prefix())
    history = History(twin, seed, budgets=[0, 1000])
    for _ in range(steps):
        history.step()
    twin.compare()
    twin.wipe()


class Vigil(History):
    """A history in which one stays awake while the others are silent for too long, now and then.

    What it does next is what is common, but for the dead.
    """

    def __init__(self, twin: Twin, seed: int, budgets: list[int]) -> None:
        super().__init__(twin, seed, budgets)
        self.calm = True

    def _pass_time(self) -> None:
        super()._pass_time()
        awake = self.sessions[0]
        if self.chance(0.2):
            for _ in range(7):
                if not awake.idle or awake.phase in ENDED:
                    break  # not the one to do it, or no longer
                self.twin.now += PERIODS.threshold // 6
                awake.begin([], budget=0)
                while (request := awake.request()) is not None:
                    awake.receive(self.twin.execute(request))


@histories
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 100))
def test_reaping_ahead_of_what_is_common_is_equal(
    client: redis.Redis, seed: int, steps: int
) -> None:
    twin = Twin(client, unique_prefix())
    vigil = Vigil(twin, seed, budgets=[0, 1000, 1000])
    for _ in range(steps):
        vigil.step()
    twin.compare()
    twin.wipe()


class Solo(History):
    """A history of tasks by themselves: nearly every batch is one addition, or one look."""

    def __init__(self, twin: Twin, seed: int, budgets: list[int]) -> None:
        super().__init__(twin, seed, budgets)
        self.calm = True
        self.keys = self.random.sample(KEYS, 3)

    def _begin(self, session: Session) -> None:
        if self.chance(0.1):
            super()._begin(session)
            return
        key, value = self.random.choice(self.keys), self.random.choice(self.values)
        folded, guarded = abs(value) < 10**18 and self.chance(0.3), self.chance(0.3)
        entry = Entry(Kind.ADD, key, value, folded=folded, guarded=guarded)
        session.begin([entry], budget=self.random.choice(self.budgets))


class Idle(History):
    """A history of instances that do little more than live: most batches are heartbeats."""

    def __init__(self, twin: Twin, seed: int, budgets: list[int]) -> None:
        super().__init__(twin, seed, budgets)
        self.calm = True
        self.busy = self.random.choice([0.0, 0.1, 0.3])
        # About as long as nobody wonders at, for the one or the other.
        self.pauses = [0, 1, PERIODS.threshold // 64, SECOND // 3, SECOND // 2, SECOND, 2 * SECOND]

    def _pass_time(self) -> None:
        if self.chance(0.1):
            super()._pass_time()
            return
        self.latest = max(self.latest, self.twin.now)
        self.twin.now += self.random.choice(self.pauses)
        if self.chance(0.03):
            self.twin.now -= HOUR

    def _begin(self, session: Session) -> None:
        if self.chance(self.busy):
            super()._begin(session)
        else:
            session.begin([], budget=self.random.choice(self.budgets))


@pytest.mark.parametrize("kind", [Solo, Idle])
@histories
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 100))
@example(seed=298, steps=5)  # joins in the step in which the namespace is born
def test_steps_with_a_way_of_their_own_are_equal(
    kind: type[History], client: redis.Redis, seed: int, steps: int
) -> None:
    twin = Twin(client, unique_prefix())
    history = kind(twin, seed, budgets=[0, 1000, 1000])
    for _ in range(steps):
        history.step()
        twin.compare()
    twin.wipe()


class Fuzz:
    """Requests as no session would send them, but of a valid form."""

    def __init__(self, twin: Twin, seed: int) -> None:
        self.twin = twin
        self.random = random.Random(seed)
        self.values = SMALL if self.random.random() < 0.5 else SMALL + LARGE
        self.pauses = [0, 1, 1, 10, 1000]
        if self.random.random() < 0.5:
            self.pauses += [SECOND // 10, SECOND, 4 * SECOND]
        self.nonce = 0

    def step(self) -> None:
        self.twin.now += self.random.choice(self.pauses)
        if self.random.random() < 0.02:
            self.twin.now -= self.random.choice([1, 1000, SECOND, HOUR])
        self.twin.execute(self.request())

    def stamp(self) -> int:
        """Some instant that means something here."""
        namespace = self.twin.namespace
        epochs = namespace.registry.epochs
        known = [0, epochs.cleared, epochs.floor, epochs.latest, namespace.clock, self.twin.now]
        known += [*epochs.moved.values(), *epochs.late.values()]
        for _, record in namespace.registry.contributors():
            known += [piece.stamp for piece in record.slices.values()]
        return max(0, self.random.choice(known) + self.random.choice([-1, 0, 0, 0, 1]))

    def value(self) -> int:
        return self.random.choice(self.values)

    def entries(self, instance: str) -> list[Entry]:
        record = self.twin.namespace.registry.records.get(instance)
        entries = []
        for _ in range(self.random.choice([0, 1, 1, 3, 8])):
            kind = self.random.choice([*Kind, Kind.ADD, Kind.ADD, Kind.CLAIM])
            key, value = self.random.choice(KEYS), self.value()
            if kind is Kind.CLEAR:
                if self.random.random() < 0.2:
                    entries.append(Entry(kind, "", 0))
                continue
            own = record.slices[key].value if record and key in record.slices else 0
            if kind is Kind.FORGET:
                entries.append(Entry(kind, some_id(self.random, self.twin), 0))
                continue
            after = own + value if fits(own + value) else None
            folded = kind is Kind.ADD and self.random.random() < 0.2
            stamp = self.stamp() if kind is Kind.CLAIM else 0
            entry = Entry(kind, key, value, after, folded, stamp)
            entries.append(
                perhaps_conditional(entry, self.random, self.twin, instance, self.values)
            )
        return entries

    def batch(self, instance: str) -> tuple[list[Entry], bool]:
        """Some entries, and whether they stand or fall together."""
        entries = self.entries(instance)
        if self.random.random() < 0.3:
            return [entry for entry in entries if entry.kind is Kind.ADD], False
        if self.random.random() < 0.2:
            kinds = self.random.choice([{Kind.MOVE}, {Kind.ADD, Kind.PUT}])
            return [entry for entry in entries if entry.kind in kinds], True
        if moves(entries):
            entries = [entry for entry in entries if entry.kind is not Kind.FORGET]
        return entries, False

    def request(self) -> Request:
        rnd = self.random
        namespace = self.twin.namespace
        instance = rnd.choice([INSTANCES[0]] * 5 + INSTANCES)
        record = namespace.registry.records.get(instance)
        incarnation = record.incarnation if record else self.twin.now
        incarnation += rnd.choice([0] * 8 + [-1, 1])
        seq = (record.seq if record else 0) + rnd.choice([1] * 8 + [0, -1, 2])
        born = namespace.born + rnd.choice([0] * 8 + [1])
        by_periods = [
            PERIODS,
            Periods(SECOND, SECOND // 3, RETENTION // 2),
            Periods(SECOND, SECOND // 2, RETENTION // 2),
            *([record.periods] * 6 if record else []),
        ]
        periods = rnd.choice(by_periods)
        choices = ["peek", "open", "load", "watch", "query", *["apply"] * 6, *["resume"] * 4]
        match rnd.choice(choices):
            case "peek":
                return Peek(instance)
            case "watch":
                return Watch(instance, rnd.choice([1, SECOND, 10 * SECOND]))
            case "open":
                self.nonce += rnd.choice([0, 1])
                expected = record.incarnation if record and rnd.random() < 0.9 else 0
                nonce = f"n{self.nonce}"
                inherit, refuse = rnd.random() < 0.5, rnd.random() < 0.5
                about = rnd.choice(["", '["a b",null,1]', "x" * 300])
                parts = rnd.choice([1] * 8 + [3])
                return Open(instance, nonce, expected, born, inherit, periods, refuse, about, parts)
            case "load":
                return Load(instance, incarnation, rnd.randrange(4), "")
            case "query":
                return some_survey(rnd, self.twin)
            case "apply":
                entries, atomic = self.batch(instance)
                known = [record.known if record else 0, namespace.registry.epochs.latest]
                before = rnd.choice([None] * 6 + [seq - 2, seq - 3, record.seq if record else 0])
                return Apply(
                    instance,
                    incarnation,
                    seq,
                    rnd.choice([*known, self.stamp()]),
                    periods,
                    entries,
                    not atomic and rnd.random() < 0.05,
                    rnd.choice([0, 1000]),
                    atomic,
                    None if before is None else min(before, seq - 1),
                )
            case _:
                moves = {rnd.choice(KEYS): self.stamp() for _ in range(rnd.choice([0, 0, 1, 3]))}
                return Resume(
                    instance,
                    incarnation,
                    seq,
                    self.stamp(),
                    periods,
                    born,
                    rnd.random() < 0.6,
                    self.stamp() if rnd.random() < 0.2 else 0,
                    tuple(moves.items()),
                    [e for e in self.entries(instance) if e.kind is Kind.CLAIM],
                    rnd.choice(["", '["b",null,2]']),
                    rnd.choice([1] * 8 + [3]),
                )


@histories
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 100))
def test_requests_of_any_kind_are_answered_equally(
    client: redis.Redis, seed: int, steps: int
) -> None:
    twin = Twin(client, unique_prefix())
    fuzz = Fuzz(twin, seed)
    for _ in range(steps):
        fuzz.step()
    twin.compare()
    twin.wipe()


def test_moves_that_are_told_later_are_judged_equally(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step moves more keys than one answer tells of; but all steps together do."""
    short = 8
    monkeypatch.setattr(sys.modules[__name__], "KEYS", [*KEYS, *"bcdefgh"])
    for name, size in (pages := {"JOURNAL_PAGE": short // 2, "MAX_JOURNAL": short}).items():
        monkeypatch.setattr(_epochs, name, size)
    behind = 0
    for seed in range(100, 160):
        twin = Twin(client, unique_prefix())
        twin.lua.scripts = with_constants(pages)
        fuzz, mover = Fuzz(twin, seed), Session("mover", "n", PERIODS)
        for _ in range(150):
            twin.now += fuzz.random.choice([0, 1, 1000, 1000])
            while (request := mover.request()) is not None:
                mover.receive(twin.execute(request))
            reply = twin.execute(fuzz.request())
            latest = twin.namespace.registry.epochs.latest
            if isinstance(reply, Applied) and reply.journal is not None:
                behind += reply.journal.latest < latest
            some = fuzz.random.sample(KEYS, fuzz.random.choice([0, 1, short - 1]))
            mover.begin([Entry(Kind.MOVE, key, 1) for key in some])
        twin.compare()
        twin.wipe()
    assert behind >= 50


def test_all_ways_are_gone_often(own_redis: RedisServer) -> None:
    """Lua has quick ways for what is common, and one that reaps before it: all are compared."""
    with connect(own_redis.url) as client:
        for seed in range(60):
            twin = Twin(client, unique_prefix())
            twin.lua.scripts = counting_paths()
            kind = (History, Vigil, Solo, Idle)[seed % 4]
            history = kind(twin, seed, budgets=[0, 1000])
            for _ in range(80):
                history.step()
            twin.compare()
        paths = {name.decode(): int(count) for name, count in client.hgetall("paths").items()}
    assert paths.pop("beat") >= 150, paths
    assert paths.pop("beat past a deadline") >= 5, paths
    assert paths.pop("beat soon after another") >= 20, paths
    assert paths.keys() == {
        way + what
        for way in ("lone", "quick", "reaping", "slow")
        for what in ("", " with conditions", " with guards", " all or none")
    }
    assert paths.pop("lone") >= 150, paths
    assert paths.pop("lone with guards") >= 30, paths
    assert paths.pop("lone with conditions") == paths.pop("lone all or none") == 0
    assert paths.pop("reaping all or none") == 0
    assert paths.pop("quick all or none") >= 15, paths
    assert paths.pop("slow all or none") >= 30, paths
    for way in ("quick", "reaping", "slow"):
        assert paths[way] >= 150, paths
        assert paths[way + " with conditions"] >= 40, paths
        assert paths[way + " with guards"] >= 30, paths


class Unordered(Twin):
    """Compares only the end: what is reaped first differs, and so do answers meanwhile."""

    def execute(self, request: Request) -> Reply:
        expected = self.namespace.execute(request, self.now)
        actual = self.lua.execute(request, self.now)
        assert type(actual) is type(expected)
        return expected

    def compare(self) -> None:
        pass

    def check_sums(self) -> None:
        pass


class Crowd(History):
    """A history in which many die, but nothing is so old that it may be forgotten."""

    def _pass_time(self) -> None:
        self.twin.now += self.random.choice([0, 1, 1000, 1000, PERIODS.threshold // 8])

    def _disaster(self) -> None:
        pass

    def settle(self) -> None:
        """Let everybody die but a newcomer, who clears up."""
        self.twin.now += PERIODS.threshold + 1
        undertaker = Session("undertaker", "n", PERIODS)
        for _ in range(300):
            if undertaker.idle:
                undertaker.begin([], budget=3)
            request = undertaker.request()
            assert request is not None
            undertaker.receive(self.twin.execute(request))
            self.twin.now += PERIODS.threshold // 100


@histories
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 100))
def test_small_budgets_end_in_the_same_state(client: redis.Redis, seed: int, steps: int) -> None:
    twin = Unordered(client, unique_prefix())
    crowd = Crowd(twin, seed, budgets=[0, 1, 2, 3])
    crowd.values = SMALL
    for _ in range(steps):
        crowd.step()
    crowd.settle()
    expected, actual = dump_namespace(twin.namespace), twin.lua.dump()
    assert expected["reap_queue"] == []
    for state in (expected, actual):
        del state["space"][":due"]  # says when the last body was gone
        for record in state["records"].values():
            del record["reply"]  # says what was reaped before it was given
    assert actual == expected
    twin.wipe()
