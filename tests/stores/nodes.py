"""Nodes of a cluster, or servers that sentinels name, which say what a test tells them to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio
import trio.testing

from distkit_actors import RedisStore
from distkit_actors._protocol._messages import Peek, Peeked
from distkit_actors._stores._contract import Link
from distkit_actors._stores._redis._wire import KeyNames

from .fakes import Fake, reply, started
from .test_clusters import row

PEEKED = ["peeked", "0", "1", "0"]


class Node(Fake):
    """Says of each prefix what it is told to."""

    def __init__(self) -> None:
        super().__init__(self.tell)
        self.rows: list[object] = []
        self.of: dict[str, object] = {}
        self.hangs_up = False
        self.away: dict[str, Exception] = {}  # what it says of channels that it has not
        self.refuses: Exception | None = Exception("ERR unknown command `SSUBSCRIBE`, with args")

    def tell(self, *words: str) -> object:
        match words:
            case ["CLUSTER", *_]:
                return self.rows
            case ["ROLE"]:
                return ["master", 0, []]
            case ["EVALSHA", *_]:
                if self.hangs_up:
                    raise trio.BrokenResourceError
                return next((said for base, said in self.of.items() if base in words[3]), PEEKED)
            case ["PING"]:
                return "PONG"
            case ["AUTH", *_]:
                return "OK"
            case ["SSUBSCRIBE" | "SUBSCRIBE" as verb, *channels]:
                if verb == "SSUBSCRIBE" and self.refuses is not None:
                    return self.refuses
                if not channels:
                    return Exception("ERR wrong number of arguments for 'ssubscribe' command")
                return self.away.get(channels[0], [verb.lower(), channels[0], 1])
            case ["SUNSUBSCRIBE", channel]:
                return self.away.get(channel, ["sunsubscribe", channel, 0])
            case _:
                return Exception("NOPERM no permissions")

    def say(self, prefix: str, answer: object) -> None:
        """Answer whatever is asked of a prefix with this."""
        self.of = {f"{{p.{prefix}}}": answer}

    def asked(self, prefix: str) -> int:
        """How often something was asked of a prefix."""
        return sum(w[0] == "EVALSHA" and f"{{p.{prefix}}}" in w[3] for w in self.said)

    @property
    def tables(self) -> int:
        """How often the table was asked for."""
        return sum(words[0] == "CLUSTER" for words in self.said)

    @property
    def connections(self) -> int:
        """How many connections have brought requests."""
        return sum(any(w[0] == "EVALSHA" for w in words) for words in self.conversations)

    async def announce(self, *messages: object) -> None:
        """Say something by itself on the connection of those who listen."""
        number = next(n for n, said in enumerate(self.conversations) if ["PING"] in said)
        await trio.testing.wait_all_tasks_blocked()  # nothing is being said there
        await self.streams[number].send_all(b"".join(map(reply, messages)))


async def two_nodes(nursery: trio.Nursery) -> list[Node]:
    """A node with all slots, and one that has none yet."""
    nodes = [Node(), Node()]
    here, _ = await started(nursery, *nodes)
    for node in nodes:
        node.rows = [row(0, 16383, here)]
    return nodes


@asynccontextmanager
async def linked(store: RedisStore, *prefixes: str) -> AsyncIterator[list[Link]]:
    """Links that have asked once."""
    async with AsyncExitStack() as stack:
        links = [await stack.enter_async_context(store.link(prefix)) for prefix in prefixes]
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(ask, link)
        yield links


async def ask(link: Link) -> None:
    await link.connect()
    assert isinstance(await link.exchange(Peek("i")), Peeked)


def slot(prefix: str) -> int:
    return KeyNames(prefix).slot


def channel(prefix: str) -> str:
    return KeyNames(prefix).channel.decode()


def cluster_of(*nodes: Node) -> RedisStore:
    return RedisStore(f"redis+cluster://{nodes[0].node}", response_timeout=30)
