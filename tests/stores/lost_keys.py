"""A few instances on a server that loses single keys of Redis, as one that evicts does."""

from __future__ import annotations

import redis

from distkit_actors._instance._session import Phase, Session
from distkit_actors._protocol._messages import (
    JUST_COME,
    Entry,
    Forget,
    Kind,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Reply,
    Request,
    Result,
    Watch,
)
from tests.harness import unique_prefix

from .test_redis_limits import PERIODS, SECOND
from .twin import ARCHIVING, START, LuaStore, with_constants

#: Moves are archived at once.
SCRIPTS = with_constants(ARCHIVING)
#: Most requests until an instance is at rest; meanwhile it may have to come back.
MOST_REQUESTS = 12
#: Slices of the dead that one step takes away.
BUDGET = 48
NAMES = ("i0", "i1", "i2")
KEYS = ("moved", "kept")  # nobody moves the second one
#: Intervals until the dead are gone, whatever they are granted (I3, death).
ROUNDS = 2 * PERIODS.threshold // PERIODS.interval + 5


class Fleet:
    """Three ids. Each is that of an instance which lives, or nobody has it."""

    def __init__(self, client: redis.Redis) -> None:
        self.store = LuaStore(client, unique_prefix(), SCRIPTS)
        self.now = START
        self.sessions: dict[str, Session] = {}
        self.kept: dict[str, int] = {}  # what each has counted on the key that nobody moves
        self.nonces = 0

    # ------------------------------------------------------------------ instances

    def execute(self, request: Request) -> Reply:
        """Have the server execute a request; an error of a script is raised."""
        self.now += 1000
        return self.store.execute(request, self.now)

    def session(self, who: int) -> Session:
        """Return the instance that has an id; a new one, if nobody has."""
        name = NAMES[who]
        if name not in self.sessions:
            self.nonces += 1
            self.sessions[name] = Session(name, f"n{self.nonces}", PERIODS)
            self.kept[name] = 0
            self.drive(self.sessions[name])
        return self.sessions[name]

    def drive(self, session: Session) -> list[Result]:
        """Exchange messages until an instance is at rest; return what became of its batch."""
        results: list[Result] = []
        for _ in range(MOST_REQUESTS):
            request = session.request()
            if request is None:
                return results
            results.extend(session.receive(self.execute(request)).results or ())
        raise AssertionError(f"{session.instance} does not come to rest: {session.request()}")

    def run(self, session: Session, *entries: Entry, leave: bool = False) -> None:
        """Have a batch executed. It is sent again after the instance had to come back."""
        results: list[Result] = [Rejection.RETRY]
        while Rejection.RETRY in results or (leave and session.phase is not Phase.LEFT):
            session.begin(entries, leave=leave, budget=BUDGET)
            results = self.drive(session)
        assert len(results) == len(entries) or leave
        assert all(isinstance(result, Previous) for result in results), results

    # ---------------------------------------------------------------------- steps

    def count(self, who: int, key: str, value: int) -> None:
        session = self.session(who)
        self.run(session, Entry(Kind.ADD, key, value))
        if key == "kept" and session.instance in self.kept:
            self.kept[session.instance] += value

    def move(self, who: int, value: int) -> None:
        self.run(self.session(who), Entry(Kind.MOVE, "moved", value))

    def clear(self, who: int) -> None:
        self.run(self.session(who), Entry(Kind.CLEAR, "", 0))
        self.kept.clear()  # what is counted before all have heard of it may be lost (L1)

    def leave(self, who: int) -> None:
        session = self.session(who)
        self.run(session, *(Entry(Kind.PUT, key, 0) for key in session.slices), leave=True)
        del self.sessions[session.instance]

    def die(self, who: int) -> None:
        """It is silent from now on; the next with its id takes it over."""
        self.sessions.pop(NAMES[who], None)

    def away(self, who: int, rounds: int) -> None:
        """It is silent for a while, during which all others beat."""
        session = self.sessions.pop(NAMES[who], None)
        self.wait(rounds)
        if session is not None:
            self.sessions[session.instance] = session
            self.run(session)

    def wait(self, rounds: int) -> None:
        """Time passes, and all beat."""
        for _ in range(rounds):
            self.now += PERIODS.interval
            for session in list(self.sessions.values()):
                self.run(session)

    def look(self, kind: QueryKind) -> None:
        """An onlooker asks something."""
        keys = KEYS if kind is QueryKind.VALUES else ()
        key = NAMES[0] if kind is QueryKind.HELD else KEYS[0]
        self.execute(Query("", kind, key, keys=keys, observed=JUST_COME))

    def watch(self, who: int) -> None:
        self.execute(Watch(self.session(who).instance, 5 * SECOND))

    def forget(self, who: int) -> None:
        self.execute(Forget("", NAMES[who]))

    def lose(self, *suffixes: str) -> None:
        """The server evicts some keys."""
        self.store.client.delete(*(self.store.base + suffix.encode() for suffix in suffixes))

    def lose_what_heals(self, suffix: str, *_: str) -> None:
        """It evicts what has a time to live, or the sums, and perhaps another key with them.

        What it evicted before has healed.
        """
        self.session(0)
        self.wait(1)
        client, name = self.store.client, self.store.base + suffix.encode()
        names = [name] if client.pttl(name) >= 0 else [self.store.base + b"n", name]
        client.delete(*names)

    # ------------------------------------------------------------------- comparing

    def check_sums(self) -> dict[str, dict[str, int]]:
        """The sums are those of the slices of who lives; return these slices."""
        self.session(0)  # somebody has to be there
        self.wait(2)
        wanted = {
            name: {key: own.value for key, own in session.slices.items()}
            for name, session in self.sessions.items()
        }
        for name, own in wanted.items():
            assert own.get("kept", 0) == self.kept.get(name, own.get("kept", 0))
        self.wait(ROUNDS)
        found = self.store.dump()
        sums = {key: sum(own.get(key, 0) for own in wanted.values()) for key in KEYS}
        assert found["sums"] == {key: total for key, total in sums.items() if total}
        slices = {name: found["records"][name]["slices"] for name in wanted}
        held = {name: {key: own for key, (own, _) in each.items()} for name, each in slices.items()}
        assert held == wanted
        return wanted

    def check_all(self) -> None:
        """The store has what those who live have told it, and nothing else."""
        wanted = self.check_sums()
        found = self.store.dump()
        for name, record in found["records"].items():
            assert (record["state"] == "live") is (name in wanted)
            assert name in wanted or not record["slices"]
        assert found["deadlines"].keys() == found["known"].keys() == wanted.keys()
        assert not found["reap_queue"]
        page = self.execute(Query("", QueryKind.INSTANCES, observed=JUST_COME))
        assert isinstance(page, QueryPage)
        assert {name for name, _, alive in page.rows if alive} == wanted.keys()

    def end(self) -> None:
        """When all have left, all that remains has a time to live."""
        for who, name in enumerate(NAMES):
            if name in self.sessions:
                self.leave(who)
        store = self.store
        assert [name for name in store.names_in_use() if store.client.pttl(name) < 0] == []
