"""An instance driven by hand, one request at a time, for the conformance kit."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from .._instance._session import Phase, Session
from .._instance._session_state import Update
from .._protocol._conditions import Condition
from .._protocol._liveness import MICROSECONDS
from .._protocol._messages import (
    Apply,
    ConditionFailed,
    Entry,
    Kind,
    MustResume,
    Open,
    Periods,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Reply,
    Request,
    Result,
)
from .._protocol._partitions import part_of
from .._stores._contract import Link, Store

ReplyT = TypeVar("ReplyT", bound=Reply)

#: Seconds that no check lasts: more than `check_store` lets one take.
LONG: Final = 120.0
#: How many slices of the dead a step may take away, unless the check is about that.
BUDGET: Final = 64


def fresh(what: str = "check") -> str:
    """Return a name that nobody has used."""
    return f"{what}-{uuid.uuid4().hex}"


def add(key: str, value: int, *, folded: bool = False) -> Entry:
    """Return the entry that adds to the own slice."""
    return Entry(Kind.ADD, key, value, folded=folded)


def read(key: str) -> Entry:
    """Return the entry that only reads."""
    return Entry(Kind.ADD, key, 0)


def put(key: str, value: int) -> Entry:
    """Return the entry that replaces the own slice."""
    return Entry(Kind.PUT, key, value)


def move(key: str, value: int = 0) -> Entry:
    """Return the entry that moves the epoch of a key."""
    return Entry(Kind.MOVE, key, value)


def clear() -> Entry:
    """Return the entry that moves the epoch of every key."""
    return Entry(Kind.CLEAR, "", 0)


def forget(instance: str) -> Entry:
    """Return the entry that takes an instance for dead."""
    return Entry(Kind.FORGET, instance, 0)


def guarded(entry: Entry) -> Entry:
    """Return an entry that takes back what was added before."""
    return entry._replace(guarded=True)


def only(entry: Entry, condition: Condition, *, of_own: bool = False) -> Entry:
    """Return an entry that takes effect only where a condition holds."""
    return entry._replace(condition=condition, of_own=of_own)


def claim(key: str, value: int, stamp: int) -> Entry:
    """Return the entry that re-asserts a slice."""
    return Entry(Kind.CLAIM, key, value, value, stamp=stamp)


def beside(store: Store, key: str, *names: str) -> list[str]:
    """Return keys that begin with ``names``, in the part of ``store`` that ``key`` is in."""
    number = store.partitions
    part, tails = part_of(key, number), ("", *range(10_000))
    return [
        next(found for tail in tails if part_of(found := f"{name}{tail}", number) == part)
        for name in names
    ]


def same(actual: object, expected: object, what: str) -> None:
    """Fail if they differ."""
    assert actual == expected, f"{what}: {actual!r} instead of {expected!r}"


def answers(results: Sequence[Result]) -> list[object]:
    """Return results in a form in which what was executed differs from what was declined."""
    return [("declined", *r) if isinstance(r, ConditionFailed) else r for r in results]


def expect(kind: type[ReplyT], reply: Reply, what: str) -> ReplyT:
    """Return ``reply`` if it is of that kind, else fail."""
    assert isinstance(reply, kind), f"{what}: {reply!r} instead of a {kind.__name__}"
    return reply


class Client:
    """An instance without an actor.

    Its `session` is the real one, so what it sends is what a counter sends, until a check
    changes it on the way.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        periods: Periods,
        *,
        inherit: bool = False,
        refuse: bool = False,
    ) -> None:
        self.link = link
        self.name = name
        self.session = Session(name, uuid.uuid4().hex, periods, inherit=inherit, refuse=refuse)
        self.opened_by: Open | None = None

    async def send(self, request: Request) -> Reply:
        """Send anything; the session does not hear of it."""
        await self.link.connect()
        return await self.link.exchange(request)

    async def register(self) -> None:  # noqa: ASYNC910 - there is something to send
        """Take the id, and load or purge what a predecessor left."""
        while (request := self.session.request()) is not None:
            if isinstance(request, Open):
                self.opened_by = request
            self.session.receive(await self.send(request))

    def compose(
        self, *entries: Entry, leave: bool = False, budget: int = BUDGET, atomic: bool = False
    ) -> Apply:
        """Make ``entries`` the outstanding batch and return its request."""
        self.session.begin(entries, leave=leave, budget=budget, atomic=atomic)
        request = self.session.request()
        assert isinstance(request, Apply)
        return request

    def take(self, reply: Reply) -> Update:
        """Let the session have the answer to the outstanding request."""
        return self.session.receive(reply)

    async def batch(
        self, *entries: Entry, budget: int = BUDGET, atomic: bool = False
    ) -> Sequence[Result]:
        """Have ``entries`` executed, whatever that takes, and return their results."""
        results: Sequence[Result] = [Rejection.RETRY]
        while Rejection.RETRY in results:
            fenced = self.session.phase is Phase.FENCED
            assert not fenced, f"another instance {self.name!r} seems to have taken over"
            if self.session.idle:
                self.compose(*entries, budget=budget, atomic=atomic)
            while (request := self.session.request()) is not None:
                update = self.take(await self.send(request))
                results = results if update.results is None else update.results
        return results[: len(entries)]  # noqa: ASYNC910 - there was something to send

    async def values(self, *keys: str, budget: int = BUDGET) -> list[tuple[int, int]]:
        """Read keys in one step: cumulative and own slice of each."""
        results = await self.batch(*map(read, keys), budget=budget)
        return [(r.cumulative, r.slice) for r in results if isinstance(r, Previous)]

    async def total(self, key: str) -> int:
        """Read one cumulative."""
        return (await self.values(key))[0][0]

    async def query(self, kind: QueryKind, key: str = "") -> dict[str, tuple[int, bool]]:
        """Read all pages of a query."""
        rows: dict[str, tuple[int, bool]] = {}
        cursor: str | None = ""
        while cursor is not None:
            reply = await self.send(Query(self.name, kind, key, cursor))
            page = expect(QueryPage, reply, f"a query for {kind.value}")
            rows |= {name: (number, flag) for name, number, flag in page.rows}
            cursor = page.cursor or None
        return rows  # noqa: ASYNC910 - there is one page at least

    async def slices(self, key: str) -> dict[str, int]:
        """Return who contributes what to a key."""
        rows = await self.query(QueryKind.SLICES, key)
        return {name: value for name, (value, _) in rows.items()}

    async def skip(self) -> MustResume:
        """Have the store notice a gap, so that everything is to be re-asserted next."""
        request = self.compose()
        skipping = request._replace(seq=request.seq + 1, before=request.seq)
        reply = expect(MustResume, await self.send(skipping), "a batch after one that never came")
        self.take(reply)
        return reply


@asynccontextmanager
async def joined(
    store: Store,
    prefix: str,
    name: str | None = None,
    *,
    threshold: float = LONG,
    interval: float | None = None,
    retention: float = LONG,
    inherit: bool = False,
) -> AsyncGenerator[Client]:
    """Return a block with a registered instance, which just stops talking at the end."""
    times = (threshold, threshold / 3 if interval is None else interval, retention)
    periods = Periods(*(int(seconds * MICROSECONDS) for seconds in times))
    async with store.link(prefix) as link:
        client = Client(link, name or fresh("instance"), periods, inherit=inherit)
        await client.register()
        yield client
