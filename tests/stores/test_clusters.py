"""How a store asks the nodes of a cluster: fakes say what real ones say in bad moments."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from redis.asyncio.connection import Connection as TcpConnection

from distkit_actors import RedisStore, StoreError, StoreUnavailableError
from distkit_actors._protocol._messages import Peek
from distkit_actors._stores._contract import StoreAwayError
from distkit_actors._stores._redis._cluster import ClusterLocator
from distkit_actors._stores._redis._survey import MakeTo, Node
from distkit_actors._stores._redis._wire import KeyNames
from tests.harness.ports import LOOPBACK, free_port

from .fakes import Fake, started

A, B = Node(LOOPBACK, 7001), Node("::1", 7002)
PATIENCE = 30.0


class FakeNode(Fake):
    """Tells the table it is given, and of keys what it is told."""

    def __init__(self, *rows: object) -> None:
        super().__init__(self.tell)
        self.rows: object = list(rows)
        self.of_keys: object = Exception("CLUSTERDOWN The cluster is down")
        self.info = ""  # what it tells of itself, or nothing

    def tell(self, *words: str) -> object:
        if words[0] == "CLUSTER":
            return self.rows
        if words[0] == "INFO" and self.info:
            return self.info
        return self.of_keys if words[0] == "EVALSHA" else Exception("NOPERM no permissions")

    @property
    def runs(self) -> list[list[str]]:
        return [words for words in self.said if words[0] == "EVALSHA"]


def row(first: int, last: int, *nodes: Node) -> list[object]:
    return [first, last, *([host, port, "id"] for host, port in nodes)]


def locator(*nodes: Node, patience: float = PATIENCE) -> ClusterLocator:
    async def ready() -> MakeTo:
        return lambda node: TcpConnection(host=node.host, port=node.port)

    return ClusterLocator(ready, nodes, patience)


async def test_any_node_knows_them_all_and_is_asked_once(nursery: trio.Nursery) -> None:
    node = FakeNode(row(0, 99, A, B), row(100, 16383, B))
    (at,) = await started(nursery, node)
    where = locator(Node(LOOPBACK, free_port()), at)
    assert await where.locate(99) == A
    assert await where.locate(100) == B
    assert len(node.said) == 1
    assert sorted(await where.servers()) == [0, 100]


async def test_many_who_ask_at_once_ask_once(nursery: trio.Nursery) -> None:
    node = FakeNode(row(0, 16383, A))
    (at,) = await started(nursery, node)
    where = locator(at)

    async def ask() -> None:
        assert await where.locate(5) == A

    async with trio.open_nursery() as all_of_them:
        for _ in range(20):
            all_of_them.start_soon(ask)
    assert len(node.said) == 1


async def test_many_who_ask_in_vain_ask_once(nursery: trio.Nursery) -> None:
    """If each asked anew, the last one would hear of it after as many times the patience."""
    node = FakeNode(row(0, 16383, A))
    node.silent = True
    (at,) = await started(nursery, node)
    where, errors = locator(at, patience=0.2), list[str]()

    async def ask() -> None:
        with pytest.raises(StoreUnavailableError) as caught:
            await where.locate(5)
        errors.append(str(caught.value))

    async with trio.open_nursery() as all_of_them:
        for _ in range(20):
            all_of_them.start_soon(ask)
    assert len(node.conversations) == 1
    assert len(errors) == 20
    node.silent = False
    assert await where.locate(5) == A


async def test_who_asks_for_many_and_is_cancelled_leaves_it_to_another(
    nursery: trio.Nursery,
) -> None:
    node = FakeNode(row(0, 16383, A))
    node.silent = True
    (at,) = await started(nursery, node)
    where, first = locator(at), trio.CancelScope()

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            assert await where.locate(5) == A

    async with trio.open_nursery() as all_of_them:
        all_of_them.start_soon(ask, first)
        while not node.said:  # noqa: ASYNC110 - it sets no event
            await trio.sleep(0.01)
        all_of_them.start_soon(ask, trio.CancelScope())
        await trio.lowlevel.checkpoint()
        node.silent = False
        first.cancel()
    assert len(node.said) == 2


async def test_a_redirection_is_remembered_until_the_table_is_asked_for_again(
    nursery: trio.Nursery,
) -> None:
    node = FakeNode(row(0, 16383, A))
    (at,) = await started(nursery, node)
    where = locator(at)
    assert await where.locate(5) == A
    where.redirect(5, A, "MOVED 5 ::1:7002")
    assert await where.locate(5) == B
    assert await where.locate(6) == A
    assert not where.serves(5, A)
    where.redirect(7, A, "MOVED 7 :7009")
    assert await where.locate(7) == Node(LOOPBACK, 7009)
    where.failed(where.version)
    assert await where.locate(5) == A


async def test_who_fails_with_an_old_table_does_not_have_the_new_one_asked_for(
    nursery: trio.Nursery,
) -> None:
    node = FakeNode(row(0, 16383, A))
    (at,) = await started(nursery, node)
    where = locator(at)
    await where.locate(0)
    old = where.version
    where.failed(old)
    await where.locate(0)
    where.failed(old)
    await where.locate(0)
    assert len(node.said) == 2


async def test_a_node_that_does_not_know_its_own_name_has_the_one_it_was_asked_by(
    nursery: trio.Nursery,
) -> None:
    node = FakeNode(row(0, 9, Node("", 7001)), row(10, 19, Node("?", 7001), B), row(20, 29, B))
    (at,) = await started(nursery, node)
    where = locator(at)
    assert await where.locate(0) == Node(LOOPBACK, 7001)
    assert await where.locate(20) == B
    with pytest.raises(StoreAwayError, match="no node has the slot 10"):
        await where.locate(10)


async def test_a_node_that_knows_less_is_not_the_first_to_be_asked_each_time(
    nursery: trio.Nursery,
) -> None:
    """One that is cut off from the others answers, too, by what it knew."""
    nodes = [FakeNode() for _ in range(3)]
    at = await started(nursery, *nodes)
    for node in nodes:
        node.rows = [row(0, 16383, B, *at)]
    nodes[0].rows = [row(0, 16383, A, *at)]  # the others have another primary now
    where = locator(*at)
    found = set[Node]()
    for _ in range(8):
        found.add(await where.locate(5))
        where.failed(where.version)
    assert found == {A, B}
    for node in nodes:
        assert len(node.said) >= 2


async def test_an_answer_that_makes_no_sense_is_none(nursery: trio.Nursery) -> None:
    odd, other = FakeNode([0, 16383, [b"\xff", 7001, "id"]]), FakeNode(row(0, 16383, A))
    (at,) = await started(nursery, odd)
    with pytest.raises(StoreUnavailableError, match="makes no sense: UnicodeDecodeError"):
        await locator(at).locate(5)
    assert await locator(at, *await started(nursery, other)).locate(5) == A


async def test_what_is_no_cluster_is_refused(nursery: trio.Nursery) -> None:
    node = FakeNode()
    (at,) = await started(nursery, node)
    node.rows = Exception("ERR This instance has cluster support disabled")
    with pytest.raises(StoreError, match=r"no node of a cluster: take '\+cluster' out"):
        await locator(at).locate(0)
    node.rows = Exception("NOPERM this user has no permissions to run the 'cluster|slots' command")
    with pytest.raises(StoreError, match="grant it CLUSTER"):
        await locator(at).locate(0)
    with pytest.raises(StoreUnavailableError, match="no node says which one serves"):
        await locator(at, Node(LOOPBACK, free_port())).locate(0)


async def test_a_redirection_is_followed_at_once_and_not_for_ever(nursery: trio.Nursery) -> None:
    one, other = FakeNode(), FakeNode()
    await started(nursery, one, other)
    slot = KeyNames("p").slot
    one.rows = other.rows = [row(0, 16383, one.node)]
    one.of_keys = Exception(f"MOVED {slot} {other.node}")
    other.of_keys = ["peeked", "0", "1", "0"]
    async with RedisStore(f"redis+cluster://{one.node}").link("p") as link:
        await link.connect()
        assert await link.exchange(Peek("i")) is not None
        assert (len(one.runs), len(other.runs)) == (1, 1)
        (first,), (second,) = one.runs, other.runs
        assert first[:-1] == second[:-1]  # each has an id of its own
        assert await link.exchange(Peek("i")) is not None
        assert (len(one.runs), len(other.runs)) == (1, 2)
        other.of_keys = Exception(f"MOVED {slot} {one.node}")
        with pytest.raises(StoreAwayError, match="cannot serve now"):
            await link.exchange(Peek("i"))
        assert len(one.runs) + len(other.runs) < 12


@pytest.mark.parametrize("error", ["ASK {}", "TRYAGAIN wait", "CLUSTERDOWN it is"])
async def test_a_slot_that_is_on_its_way_is_waited_for(nursery: trio.Nursery, error: str) -> None:
    node, other = FakeNode(), FakeNode()
    await started(nursery, node, other)
    node.rows = [row(0, 16383, node.node)]
    node.of_keys = Exception(error.format(f"{KeyNames('p').slot} {other.node}"))
    async with RedisStore(f"redis+cluster://{node.node}").link("p") as link:
        await link.connect()
        with pytest.raises(StoreAwayError, match="cannot serve now"):
            await link.exchange(Peek("i"))
    assert other.said == []


async def test_scripts_declare_a_key_that_is_nowhere_in_a_cluster_only(
    nursery: trio.Nursery,
) -> None:
    """So that no node runs them while some of the keys are elsewhere."""
    node = FakeNode()
    await started(nursery, node)
    node.rows = [row(0, 16383, node.node)]
    node.of_keys = ["peeked", "0", "1", "0"]
    names = KeyNames("p")
    for scheme, more in (("redis+cluster", [names.channel.decode()]), ("redis", [])):
        async with RedisStore(f"{scheme}://{node.node}").link("p") as link:
            await link.connect()
            await link.exchange(Peek("i"))
        keys = [key.decode() for key in names.keys("i")]
        assert node.runs[-1][2 : 3 + len(keys + more)] == [str(len(keys + more)), *keys, *more]


async def test_scripts_declare_two_names_where_the_server_says_that_it_is_in_no_cluster(
    nursery: trio.Nursery,
) -> None:
    """And all of them as soon as it is in one."""
    names = KeyNames("p")
    for mode in ("redis_mode", "server_mode"):
        node = FakeNode()
        node.info = f"{mode}:standalone"
        await started(nursery, node)
        node.of_keys = ["peeked", "0", "1", "0"]
        async with RedisStore(f"redis://{node.node}").link("p") as link:
            for declared in (names.main_keys("i"), names.keys("i")):
                await link.connect()
                await link.exchange(Peek("i"))
                count = len(declared)
                assert node.runs[-1][2] == str(count)
                assert node.runs[-1][3 : 3 + count] == [key.decode() for key in declared]
                node.of_keys, peeked = Exception("CLUSTERDOWN it is"), node.of_keys
                with pytest.raises(StoreAwayError):
                    await link.exchange(Peek("i"))
                node.of_keys = peeked
