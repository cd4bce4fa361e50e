"""Looks at every reply of a store under test, before a counter does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from .._protocol._messages import (
    MAX_JOURNAL,
    Applied,
    Apply,
    ConditionFailed,
    Conflict,
    Entry,
    Forget,
    Forgotten,
    Journal,
    Kind,
    Load,
    Loaded,
    Mismatch,
    MustResume,
    Open,
    Opened,
    Peek,
    Peeked,
    Previous,
    Query,
    QueryKind,
    QueryPage,
    Rejection,
    Reply,
    Request,
    Resume,
    Stale,
    Watch,
    Watched,
)
from .._protocol._values import fits
from .._stores._contract import Link, Store, Subscription
from .._stores._part import PartStore

#: What may answer what.
_ANSWERS: Final[dict[type[Request], tuple[type[Reply], ...]]] = {
    Peek: (Peeked,),
    Open: (Opened, Conflict, Mismatch),
    Load: (Loaded, MustResume, Conflict),
    Apply: (Applied, MustResume, Conflict, Stale),
    Resume: (Applied, MustResume, Conflict, Mismatch, Stale),
    Query: (QueryPage,),
    Watch: (Watched,),
    Forget: (Forgotten,),
}

#: Far more exchanges than any check needs. A store and a counter that misunderstand each
#: other may talk for ever, and on a mock clock no timeout would end it.
_MANY: Final = 5000


class ReplyValidator(Store):
    """A store that fails the check as soon as a reply is malformed."""

    def __init__(self, store: Store) -> None:
        self.complaint: str | None = None
        self._store = store
        self._exchanges = 0

    @property
    def partitions(self) -> int:
        """Over how many parts the store spreads a prefix."""
        return self._store.partitions

    def part(self, number: int) -> Store:
        """Return one part of the store, whose replies are looked at, too."""
        part = self._store.part(number)
        return PartStore(
            self, number, lambda prefix, _: self._link(part, prefix), lambda p, _: part.subscribe(p)
        )

    def link(self, prefix: str) -> AbstractAsyncContextManager[Link]:
        """Return a link whose replies are looked at."""
        return self._link(self._store, prefix)

    @asynccontextmanager
    async def _link(self, store: Store, prefix: str) -> AsyncGenerator[Link]:
        async with store.link(prefix) as link:
            yield _ValidatedLink(self, link)

    def subscribe(self, prefix: str) -> AbstractAsyncContextManager[Subscription | None]:
        """Return the subscription of the store itself; there is nothing to look at."""
        return self._store.subscribe(prefix)

    async def prefixes(self) -> list[str]:  # noqa: ASYNC910 - the store's is a checkpoint
        """Return what the store says."""
        return await self._store.prefixes()

    def judge(self, request: Request, reply: Reply) -> None:
        """Raise if ``reply`` is no possible answer to ``request``, or the last of too many."""
        self._exchanges += 1
        complaint = _complaint(request, reply)
        if self._exchanges > _MANY:
            complaint = f"no end after {_MANY} requests; the last was {request}"
        if complaint:
            self._fail(complaint)

    def judge_warnings(self, warnings: tuple[str, ...]) -> None:
        """Raise if a look at the store's settings cannot have found ``warnings``."""
        if type(warnings) is not tuple or not all(type(text) is str for text in warnings):
            self._fail(f"{warnings!r} as what may make the store lose counts")

    def _fail(self, complaint: str) -> None:
        self.complaint = complaint
        raise AssertionError(complaint)


class _ValidatedLink(Link):
    """It hands everything on, so that counters use all that the link under test can do."""

    def __init__(self, validator: ReplyValidator, link: Link) -> None:
        self._witness = validator
        self._link = link

    async def connect(self) -> None:
        await self._link.connect()

    @property
    def connected(self) -> bool:
        return self._link.connected

    async def send(self, request: Request) -> None:  # noqa: ASYNC910 - receiving is the checkpoint
        await self._link.send(request)

    async def receive(self, request: Request) -> Reply:
        reply = await self._link.receive(request)
        self._witness.judge(request, reply)
        return reply

    def unanswered(self, patience: float) -> None:
        self._link.unanswered(patience)

    @property
    def can_send_nowait(self) -> bool:
        return self._link.can_send_nowait

    def send_nowait(self, request: Request) -> None:
        self._link.send_nowait(request)

    def wait_answer(self) -> Awaitable[None] | None:
        return self._link.wait_answer()

    def receive_nowait(self, request: Request) -> Reply | None:
        reply = self._link.receive_nowait(request)
        if reply is not None:
            self._witness.judge(request, reply)
        return reply

    def interrupt(self) -> None:
        self._link.interrupt()

    @property
    def patience(self) -> float:
        return self._link.patience

    async def inspect(self) -> tuple[str, ...]:
        warnings = await self._link.inspect()
        self._witness.judge_warnings(warnings)
        return warnings


def _complaint(request: Request, reply: Reply) -> str | None:
    what: str | None = None
    if type(reply) not in _ANSWERS[type(request)]:
        return f"{type(request).__name__} was answered by {reply!r}"
    match reply:
        case Applied():
            entries = request.claims if isinstance(request, Resume) else ()
            if isinstance(request, Apply) and (reply.results or not request.leave):
                entries = request.entries
            what = (
                _results_complaint(entries, reply)
                or _whole_complaint(isinstance(request, Apply) and request.atomic, reply)
                or _numbers_complaint(at=reply.at, stuck=reply.stuck)
                or (_journal_complaint(reply.journal, len(entries)) if reply.journal else None)
            )
        case Loaded():
            what = next(
                (
                    f"{value!r} as a slice of {key!r}"
                    for key, value, stamp in reply.slices
                    if not _is_int64(value) or type(key) is not str or type(stamp) is not int
                ),
                None,
            )
        case QueryPage():
            what = (
                next(
                    (
                        f"{row!r} as a row"
                        for row in reply.rows
                        if not _is_int64(row[1])
                        or type(row[0]) is not str
                        or type(row[2]) is not bool
                    ),
                    None if type(reply.cursor) is str else f"{reply.cursor!r} as a cursor",
                )
                or _numbers_complaint(at=reply.at, partitions=reply.partitions)
                or _about_complaint(request, reply)
            )
        case Forgotten():
            what = _numbers_complaint(left=reply.left, gone=reply.gone)
        case Peeked():
            numbers = _numbers_complaint(incarnation=reply.incarnation, born=reply.born)
            what = numbers or _flag_complaint(reply.alive, "alive")
        case Opened():
            what = _numbers_complaint(incarnation=reply.incarnation, known=reply.known)
        case MustResume():
            what = _numbers_complaint(recorded=reply.recorded or 0, born=reply.born)
        case Mismatch():
            what = _numbers_complaint(partitions=reply.partitions)
        case Conflict():
            what = _numbers_complaint(incarnation=reply.incarnation)
        case Stale() | Watched():
            pass
    return f"{what}, in {reply!r}" if what else None


def _about_complaint(request: Request, reply: QueryPage) -> str | None:
    wanted = isinstance(request, Query) and request.kind is QueryKind.INSTANCES
    if len(reply.about) != (len(reply.rows) if wanted else 0):
        return f"{len(reply.about)} times what instances say, for {len(reply.rows)} rows"
    for incarnation, text in reply.about:
        if type(incarnation) is not int or type(text) is not str:
            return f"{(incarnation, text)!r} as what an instance says"
    return None


def _is_int64(value: object) -> bool:
    return type(value) is int and fits(value)


def _flag_complaint(flag: object, name: str) -> str | None:
    return None if type(flag) is bool else f"{flag!r} as {name}"


def _numbers_complaint(**numbers: object) -> str | None:
    for name, number in numbers.items():
        if type(number) is not int or number < 0:
            return f"{number!r} as {name}"
    return None


def _journal_complaint(journal: Journal, entries: int) -> str | None:
    most = MAX_JOURNAL + entries  # one for the key of each
    if len(journal.moves) > most:
        return f"{len(journal.moves)} moves at once, of {most} at most"
    for key, epoch in journal.moves:
        if type(key) is not str or type(epoch) is not int:
            return f"{epoch!r} as the epoch of {key!r}"
    return _numbers_complaint(cleared=journal.cleared, floor=journal.floor, latest=journal.latest)


def _results_complaint(entries: Sequence[Entry], reply: Applied) -> str | None:
    if reply.again:
        return None if not reply.results else "results of what is to be sent again"
    if len(reply.results) != len(entries):
        return f"{len(reply.results)} results for {len(entries)} entries"
    for entry, result in zip(entries, reply.results, strict=True):
        match result:
            case Previous():
                right = _is_int64(result.cumulative) and _is_int64(result.slice)
            case ConditionFailed():
                condition = entry.condition
                values = (result.cumulative, result.slice)
                right = condition is not None and not condition.holds(values[entry.of_own])
                right = right and all(map(_is_int64, values))
            case Rejection.REFUSED:
                right = entry.kind in (Kind.ADD, Kind.PUT, Kind.CLAIM, Kind.FORGET)
            case Rejection.SPLIT:
                right = entry.folded
            case Rejection.MOVED:
                right = entry.kind is Kind.CLAIM or entry.guarded
            case Rejection.UNDONE:
                right = entry.kind in (Kind.ADD, Kind.PUT)
            case _:
                right = False
        if not right:
            return f"{result!r} for {entry}"
    return None


def _whole_complaint(atomic: bool, reply: Applied) -> str | None:
    """A batch that is executed all or none is refused all or none."""
    results = reply.results
    undone, refused = Rejection.UNDONE in results, Rejection.REFUSED in results
    if undone and not (atomic and refused):
        return "something is undone, and nothing was refused that it stood with"
    if atomic and refused and not {Rejection.UNDONE, Rejection.REFUSED}.issuperset(results):
        return "something was executed of what was refused as a whole"
    return None
