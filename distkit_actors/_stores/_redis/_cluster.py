"""A cluster, whose nodes know which of them serves which hash slot."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, NamedTuple, final

import trio

from ..._errors import StoreError, StoreUnavailableError
from .._contract import StoreAwayError
from ._connection import Answer, Connection, ErrorReplyError
from ._locator import Locator
from ._once import Once
from ._reply_errors import to_store_error
from ._survey import MakeTo, Node, Survey

#: Which part of the time that an answer may take the asking for the table may take.
_ASKING: Final = 0.75

_ADVICE: Final = {"NOPERM": "the user may not ask where keys are: grant it CLUSTER|SLOTS"}

#: What a redirection says: the slot, and the node. A name of a host may be missing.
_REDIRECTION: Final = re.compile(r"\b(\d+) (\S*):(\d+)$")


class _Range(NamedTuple):
    """Slots that one primary serves."""

    first: int
    last: int
    primary: Node


class _Table(NamedTuple):
    """Which node serves which slots."""

    ranges: list[_Range]
    nodes: list[Node]
    """All that are known, replicas too."""


@final
class ClusterLocator(Locator):
    """Asks nodes of a cluster which of them serves a slot, and remembers it.

    Args:
        ready: See `Survey`.
        nodes: Some of the nodes.
        patience: Seconds that an answer may take.
    """

    def __init__(
        self,
        ready: Callable[[], Awaitable[MakeTo]],
        nodes: Sequence[Node],
        patience: float,
    ) -> None:
        self._survey = Survey(ready, "node", patience)
        self._given = list(nodes)
        self._known = list(nodes)  # in the order in which they are asked
        self._patience = patience
        self._table: _Table | None = None
        self._moved: dict[int, Node] = {}  # slots that have moved since the table was made
        self._version = 0
        self._loading: dict[trio.lowlevel.TrioToken, Once] = {}  # by run of trio

    @property
    def redirects(self) -> bool:
        """A node that has not the keys says which one has."""
        return True

    @property
    def version(self) -> int:
        """Which table is known; see `Locator.version`."""
        return self._version

    async def locate(self, slot: int) -> Node:
        """Return the node of a slot, and ask for it if it is not known; see `Locator.locate`."""
        while not self._is_known():
            await self._load()
        node = self._find(slot)
        if node is None:
            self._table = None
            raise StoreAwayError(f"the store cannot serve now: no node has the slot {slot}")
        return node  # noqa: ASYNC910 - internal: connecting is the checkpoint

    async def servers(self) -> list[int]:
        """Return a slot of each primary; see `Locator.servers`."""
        self._table = None
        while not self._is_known():
            await self._load()
        return list({one.primary: one.first for one in self._ranges()}.values())  # noqa: ASYNC910 - loading was one

    def serves(self, slot: int, node: Node | None) -> bool:
        """Return whether a node has a slot still, as far as is known."""
        found = self._find(slot)
        return found is None or found == node

    def failed(self, version: int) -> None:
        """Ask for the table again, if it is that one still; see `Locator.failed`."""
        if version == self._version:
            self._table = None

    def redirect(self, slot: int, node: Node | None, said: str) -> None:
        """Note what a redirection says; see `Locator.redirect`."""
        found = _REDIRECTION.search(said)
        if found is None or found[2] == "?" or int(found[1]) != slot:
            self._table = None
        else:
            self._moved[slot] = Node(found[2] or (node.host if node else ""), int(found[3]))

    def _find(self, slot: int) -> Node | None:
        if slot in self._moved:
            return self._moved[slot]
        return next((one.primary for one in self._ranges() if one.first <= slot <= one.last), None)

    def _ranges(self) -> Sequence[_Range]:
        return () if self._table is None else self._table.ranges

    def _is_known(self) -> bool:
        return self._table is not None

    # ----------------------------------------------------------- asking for the table

    async def _load(self) -> None:
        """Ask for the table, or wait for somebody else who does. A checkpoint.

        If nobody answers, all who wait are told so at once: if each asked anew, the last of many
        would hear of it after as many times the patience.
        """
        run = trio.lowlevel.current_trio_token()
        once = self._loading.setdefault(run, Once())
        try:
            await once.do(self._ask)
        finally:
            if self._loading.get(run) is once:
                del self._loading[run]

    async def _ask(self) -> None:
        # Each is the first to be asked in its turn: one may know less.
        self._known = self._known[1:] + self._known[:1]
        tables, failures = await self._survey.ask(
            self._known, _ask_for_table, lambda table: bool(table.ranges), _ASKING * self._patience
        )
        table = next((one for one in tables if one.ranges), None)
        if table is None:
            refusals = [e for e in failures if not isinstance(e, StoreUnavailableError)]
            if len(refusals) == len(self._known):
                raise refusals[0]
            why = "; ".join(dict.fromkeys(map(str, failures))) or "none has answered in time"
            raise StoreUnavailableError(f"no node says which one serves which slots: {why}")
        self._table, self._moved = table, {}
        self._version += 1
        # Those of the URL are kept: all others may have got new addresses when nobody was asked.
        # The order stays, so that the next time another one is the first to be asked.
        there = dict.fromkeys((*table.nodes, *self._given))
        self._known = list(dict.fromkeys((*filter(there.__contains__, self._known), *there)))


async def _ask_for_table(connection: Connection, asked: Node) -> _Table:
    try:
        await connection.connect()
        answer = await connection.call(b"CLUSTER", b"SLOTS")
    except ErrorReplyError as error:
        if "cluster support disabled" in error.text:
            raise StoreError(
                f"the store refuses: the server at {asked} is no node of a cluster: take "
                "'+cluster' out of the store's URL"
            ) from None
        raise to_store_error(error, _ADVICE) from None
    ranges: list[_Range] = []
    nodes: list[Node] = []
    for row in answer if isinstance(answer, list) else []:
        match row:
            case [int() as first, int() as last, *servers]:
                found = list(_nodes(servers, asked))
                nodes += found
                if found:
                    ranges.append(_Range(first, last, found[0]))
            case _:
                raise StoreError("what answers CLUSTER SLOTS there is no Redis server")
    return _Table(ranges, nodes)


def _nodes(servers: Sequence[Answer], asked: Node) -> Iterator[Node]:
    """Read the primary of some slots, and its replicas; nothing if nobody knows where it is."""
    for number, server in enumerate(servers):
        match server:
            case [bytes() | None as host, int() as port, *_]:
                # It may not know its own name, and none may have told it another's.
                name = (host or b"").decode() or asked.host
                if name != "?":
                    yield Node(name, port)
                elif number == 0:
                    return
            case _:
                raise StoreError("what answers CLUSTER SLOTS there is no Redis server")
