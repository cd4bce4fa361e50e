"""Links of a store share a connection to each node: fakes say what real ones say in bad moments."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from distkit_actors import Fleet, RedisStore, StoreUnavailableError
from distkit_actors._protocol._messages import (
    Load,
    Loaded,
    Peek,
    Peeked,
    Query,
    QueryKind,
    QueryPage,
)
from distkit_actors._stores._contract import CursorLostError, StoreAwayError, StoreSilentError
from distkit_actors._stores._redis._parts import slot_of
from tests.harness.ports import LOOPBACK, free_port

from .nodes import Node, ask, cluster_of, linked, slot, two_nodes
from .test_clusters import row


@pytest.fixture
async def nodes(nursery: trio.Nursery) -> list[Node]:
    return await two_nodes(nursery)


async def test_links_to_one_node_share_its_connection(nodes: list[Node]) -> None:
    here, there = nodes
    low, high = sorted(["a", "b"], key=slot)
    here.rows = [row(0, slot(low), here.node), row(slot(low) + 1, 16383, there.node)]
    assert slot(low) == slot_of(f"p.{low}".encode())
    async with linked(cluster_of(here), low, high, low, high, low) as links:
        assert (here.asked(low), here.asked(high)) == (3, 0)
        assert (there.asked(low), there.asked(high)) == (0, 2)
        assert here.connections == there.connections == here.tables == 1
        assert all(link.can_send_nowait for link in links)


@pytest.mark.parametrize(
    ("error", "times"), [("ASK {}", 3), ("TRYAGAIN wait", 4), ("CLUSTERDOWN it is", 3)]
)
async def test_what_a_node_says_of_one_slot_concerns_no_other(
    nodes: list[Node], error: str, times: int
) -> None:
    here, _ = nodes
    async with linked(cluster_of(here), "p", "q") as (p, q):
        here.say("p", Exception(error.format(f"{slot('p')} {LOOPBACK}:7000")))
        for _ in range(times):
            with pytest.raises(StoreAwayError, match="cannot serve now"):
                await p.exchange(Peek("i"))
            assert q.connected
            await p.connect()
        assert here.tables > 1  # another node may have it by now
        here.of = {}
        await ask(p)
        await ask(q)
        assert here.connections == 1


async def test_a_redirection_moves_the_links_of_that_slot_only(nodes: list[Node]) -> None:
    here, there = nodes
    async with linked(cluster_of(here), "p", "p", "q") as (p, also_p, q):
        here.say("p", Exception(f"MOVED {slot('p')} {there.node}"))
        assert isinstance(await p.exchange(Peek("i")), Peeked)
        assert q.connected
        assert not also_p.connected
        await ask(also_p)
        await ask(q)
        # Who has heard of it from another one does not ask the old node.
        assert (here.asked("p"), there.asked("p"), here.asked("q")) == (3, 2, 2)
        assert here.connections == there.connections == here.tables == 1


@pytest.mark.parametrize("cursor", ["", "500"], ids=["first page", "later page"])
async def test_a_cursor_is_not_taken_to_another_node(nodes: list[Node], cursor: str) -> None:
    """It means something only to the node that gave it."""
    here, there = nodes
    async with linked(cluster_of(here), "p") as (p,):
        here.say("p", Exception(f"MOVED {slot('p')} {there.node}"))
        there.say("p", ["loaded", ""])
        if cursor:
            with pytest.raises(CursorLostError):
                await p.exchange(Load("i", 1, 1, cursor))
            assert there.asked("p") == 0
            await p.connect()
        assert await p.exchange(Load("i", 1, 2, "")) == Loaded("", [])
        assert there.asked("p") == 1


@pytest.mark.parametrize("cursor", ["", "500"], ids=["first page", "later page"])
async def test_a_cursor_is_not_taken_to_a_connection_that_is_made_to_bring_scripts_along(
    nodes: list[Node], cursor: str
) -> None:
    """A proxy that closes the connection when it is told scripts may lead to another server."""
    here, _ = nodes

    def proxy(*words: str) -> object:
        match words:
            case ["SCRIPT", *_]:
                raise trio.BrokenResourceError
            case ["EVALSHA", *_]:
                return Exception("NOSCRIPT No matching script")
            case ["EVAL", *_]:
                return ["loaded", ""]
            case _:
                return here.tell(*words)

    async with linked(cluster_of(here), "p") as (p,):
        here.answer = proxy
        if cursor:
            with pytest.raises(CursorLostError):
                await p.exchange(Load("i", 1, 1, cursor))
            await p.connect()
        assert await p.exchange(Load("i", 1, 2, "")) == Loaded("", [])


async def test_what_is_redirected_to_a_node_that_is_not_there_was_certainly_not_executed(
    nodes: list[Node],
) -> None:
    """So it is not in doubt, and whoever waits for it never has to be told that it is."""
    here, _ = nodes
    async with linked(cluster_of(here), "p") as (p,):
        here.say("p", Exception(f"MOVED {slot('p')} {LOOPBACK}:{free_port()}"))
        with pytest.raises(StoreAwayError, match="cannot be reached"):
            await p.exchange(Peek("i"))


@pytest.mark.parametrize("trouble", ["ends the connection", "is silent"])
async def test_a_start_goes_to_where_it_is_redirected_though_connecting_fails_once(
    nodes: list[Node], trouble: str, mock_clock: trio.testing.MockClock
) -> None:
    """Connecting there may have been begun by others, whose patience ends sooner."""
    here, there = nodes
    here.rows = [row(slot("q"), slot("q"), there.node), *here.rows]
    there.rows = [row(0, 16383, there.node)]
    here.say("p", Exception(f"MOVED {slot('p')} {there.node}"))
    there.say("p", ["surveyed", "", "7", "1"])
    store = cluster_of(here)

    async def connect_in_vain() -> None:
        async with store.link("q") as q:
            with pytest.raises(StoreSilentError):
                await q.connect()
            there.silent = False

    def end_once(*words: str) -> object:
        there.answer = there.tell
        raise trio.BrokenResourceError

    async def start() -> None:
        async with Fleet.open("p", store):
            assert (here.asked("p"), there.asked("p")) == (1, 1)

    async with trio.open_nursery() as nursery:
        if trouble == "is silent":
            there.silent = True
            nursery.start_soon(connect_in_vain)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(10)  # of 30
        else:
            there.answer = end_once
        nursery.start_soon(start)
        if trouble == "is silent":
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(25)


async def test_what_waits_for_scripts_that_cannot_be_loaded_was_certainly_not_executed(
    nodes: list[Node],
) -> None:
    """The server ends the connection when it is told them, and is not there any more."""
    here, _ = nodes

    def ending(*words: str) -> object:
        match words:
            case ["SCRIPT" | "CLUSTER", *_]:
                raise trio.BrokenResourceError
            case ["EVALSHA", *_]:
                return Exception("NOSCRIPT No matching script")
            case _:
                return here.tell(*words)

    async with linked(cluster_of(here), "p") as (p,):
        here.answer = ending
        with pytest.raises(StoreAwayError, match="no node says"):
            await p.exchange(Peek("i"))


async def test_a_slow_credential_provider_takes_no_time_of_the_nodes(
    nodes: list[Node], mock_clock: trio.testing.MockClock
) -> None:
    """It is asked once before they are, and they have all of theirs."""
    asked = 0

    class Slow:
        async def get_credentials_async(self) -> tuple[str, str]:
            nonlocal asked
            await trio.lowlevel.checkpoint()
            asked += 1
            mock_clock.jump(0.9 * 30)
            return "user", "password"

    here, _ = nodes
    store = RedisStore(
        f"redis+cluster://{here.node}", response_timeout=30, credential_provider=Slow()
    )
    async with linked(store, "p", "q"):
        assert asked == 2  # for the table, and for the connection
        assert here.connections == here.tables == 1


async def test_a_credential_provider_that_hangs_is_not_waited_for(
    nodes: list[Node], autojump_clock: trio.testing.MockClock
) -> None:
    class Hanging:
        async def get_credentials_async(self) -> tuple[str, str]:
            await trio.sleep_forever()
            raise AssertionError

    store = RedisStore(
        f"redis+cluster://{nodes[0].node}", response_timeout=30, credential_provider=Hanging()
    )
    async with store.link("p") as link:
        with trio.fail_after(40), pytest.raises(StoreUnavailableError, match="does not answer"):
            await link.connect()


_SCANNED = [kind for kind in QueryKind if kind is not QueryKind.VALUES]


@pytest.mark.parametrize("kind", _SCANNED, ids=lambda kind: kind.value)
@pytest.mark.parametrize("trouble", ["moved", "cut"])
async def test_pages_of_a_query_begin_anew_on_another_connection(
    nodes: list[Node], kind: QueryKind, trouble: str
) -> None:
    """To the server that answers there the cursor would say to leave names out."""
    here, there = nodes
    async with linked(cluster_of(here), "p", "q") as (p, _):
        here.say("p", ["surveyed", "500", "7", "1"])
        first = await p.exchange(Query("i", kind, "k"))
        assert isinstance(first, QueryPage)
        again = await p.exchange(Query("i", kind, "k", first.cursor))
        assert again == first
        assert cursors(here) == ["", "500"]
        if trouble == "moved":
            here.say("p", Exception(f"MOVED {slot('p')} {there.node}"))
            there.say("p", ["surveyed", "", "7", "1"])
        else:
            here.hangs_up = True
            with pytest.raises(StoreUnavailableError):
                await p.exchange(Query("i", kind, "k", first.cursor))
            here.hangs_up = False
            here.say("p", ["surveyed", "", "7", "1"])
            await p.connect()
        last = await p.exchange(Query("i", kind, "k", first.cursor))
        assert isinstance(last, QueryPage)
        assert last.cursor == ""
        assert cursors(there if trouble == "moved" else here)[-1] == ""


async def test_pages_of_values_go_on_where_they_were(nodes: list[Node]) -> None:
    """Their cursor is a number of instances, which is the same everywhere."""
    here, there = nodes
    async with linked(cluster_of(here), "p") as (p,):
        here.say("p", Exception(f"MOVED {slot('p')} {there.node}"))
        there.say("p", ["surveyed", "400", "7", "1"])
        page = await p.exchange(Query("", QueryKind.VALUES, "", "300", ("k",)))
        assert isinstance(page, QueryPage)
        assert page.cursor == "400"
        assert cursors(there) == ["300"]


def cursors(node: Node) -> list[str]:
    """The cursors of the queries that a node was sent."""
    values = {kind.value for kind in QueryKind}
    scripts = [words for words in node.said if words[0] == "EVALSHA"]
    found = [(words, [n for n, word in enumerate(words) if word in values]) for words in scripts]
    return [words[at[-1] + 2] for words, at in found if at]


async def test_a_redirection_to_nowhere_has_the_table_asked_for(nodes: list[Node]) -> None:
    here, there = nodes
    async with linked(cluster_of(here), "p", "q") as (p, q):
        here.say("p", Exception(f"MOVED {slot('p')} ?:0"))
        here.rows = [row(slot("p"), slot("p"), there.node), *here.rows]
        assert isinstance(await p.exchange(Peek("i")), Peeked)
        assert there.asked("p") == 1
        assert q.connected
        assert here.tables == 2


async def test_the_last_link_that_leaves_a_node_closes_its_connection(nodes: list[Node]) -> None:
    here, there = nodes
    store = cluster_of(here)
    async with linked(store, "p", "q") as (p, q):
        here.say("p", Exception(f"MOVED {slot('p')} {there.node}"))
        await p.exchange(Peek("i"))
        assert set(store._shared.nodes.used()) == {here.node, there.node}
        here.say("q", Exception(f"MOVED {slot('q')} {there.node}"))
        await q.exchange(Peek("i"))
        assert set(store._shared.nodes.used()) == {there.node}
    assert not store._shared.nodes.used()


async def test_all_who_lost_a_node_ask_for_the_table_once_and_connect_once(
    nodes: list[Node],
) -> None:
    here, _ = nodes
    async with linked(cluster_of(here), "p", "q", "r") as links:
        here.hangs_up = True
        for link in links:
            await link.send(Peek("i"))
        for link in links:
            with pytest.raises(StoreUnavailableError):
                await link.receive(Peek("i"))
        here.hangs_up = False
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(ask, link)
        assert here.connections == here.tables == 2


async def test_each_try_to_reach_a_node_follows_what_the_cluster_says_then(
    nodes: list[Node],
) -> None:
    """One who has not failed himself does not go where others have failed."""
    here, there = nodes
    here.rows = [row(0, 16383, there.node._replace(port=free_port()))]
    store = cluster_of(here)
    async with store.link("p") as p, store.link("q") as q:
        with pytest.raises(StoreUnavailableError):
            await p.connect()
        here.rows = [row(0, 16383, there.node)]
        await ask(q)
        await ask(p)
    assert (here.tables, there.connections) == (2, 1)


async def test_a_link_that_was_never_connected_says_that_it_is_lost(nodes: list[Node]) -> None:
    async with cluster_of(*nodes).link("p") as link:
        assert not link.connected
        with pytest.raises(StoreUnavailableError):
            await link.exchange(Peek("i"))
        link.unanswered(1.0)
        await ask(link)
        assert link.connected
    assert not link.connected
