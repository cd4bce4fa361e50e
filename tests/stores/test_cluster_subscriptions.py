"""Subscriptions of a store share a connection to each node of a cluster."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from distkit_actors import StoreError, StoreUnavailableError
from distkit_actors._stores._contract import StoreAwayError

from .nodes import Node, channel, cluster_of, slot, two_nodes


@pytest.fixture
async def nodes(nursery: trio.Nursery) -> list[Node]:
    return await two_nodes(nursery)


async def test_a_subscription_that_was_never_connected_says_that_it_is_lost(
    nodes: list[Node],
) -> None:
    async with cluster_of(*nodes).subscribe("p") as subscription:
        assert subscription is not None
        with pytest.raises(StoreUnavailableError):
            await subscription.wait()
        await subscription.connect()
        assert ["SUBSCRIBE", channel("p")] in nodes[0].said


async def test_one_whose_sharded_channel_is_refused_is_told_what_it_takes(
    nodes: list[Node],
) -> None:
    nodes[0].refuses = Exception("NOPERM this user has no permissions to run 'ssubscribe'")
    async with cluster_of(*nodes).subscribe("p") as subscription:
        assert subscription is not None
        with pytest.raises(StoreError, match="SSUBSCRIBE, SUNSUBSCRIBE and SPUBLISH"):
            await subscription.connect()


async def test_a_sharded_channel_that_has_moved_is_followed_alone(nodes: list[Node]) -> None:
    """The node says so by itself to all who listen to it."""
    here, there = nodes
    here.refuses = there.refuses = None
    store = cluster_of(here)
    async with store.subscribe("p") as p, store.subscribe("q") as q:
        assert p is not None
        assert q is not None
        for one in (p, q):
            await one.connect()
        await here.announce(["smessage", channel("p"), "k"], ["sunsubscribe", channel("p"), 1])
        with pytest.raises(StoreUnavailableError, match="another server serves now"):
            await p.wait()
        here.refuses = Exception(f"MOVED {slot('p')} {there.node}")
        with pytest.raises(StoreAwayError, match="cannot serve now"):
            await p.connect()
        await p.connect()
        assert there.said[-1] == ["SSUBSCRIBE", channel("p")]
        await here.announce(["smessage", channel("q"), "k"])
        assert await q.wait() == {"k"}
        assert here.tables == 1


async def test_what_is_said_of_a_channel_that_was_subscribed_to_again_since_is_no_news(
    nodes: list[Node],
) -> None:
    here, _ = nodes
    here.refuses = None
    store = cluster_of(here)
    async with store.subscribe("q") as q, AsyncExitStack() as stack:
        assert q is not None
        await q.connect()
        first = await stack.enter_async_context(store.subscribe("p"))
        assert first is not None
        await first.connect()
        # It crosses the words that give the channel up, and those that want it again.
        await here.announce(["sunsubscribe", channel("p"), 1])
        await stack.aclose()
        async with store.subscribe("p") as again:
            assert again is not None
            await again.connect()
            await here.announce(["smessage", channel("p"), "k"])
            assert await again.wait() == {"k"}


@pytest.mark.parametrize("error", ["MOVED {slot} {node}", "NOPERM no permissions", "CLUSTERDOWN"])
async def test_one_who_is_not_let_go_harms_no_other(error: str, nodes: list[Node]) -> None:
    here, there = nodes
    here.refuses = None
    store = cluster_of(here)
    async with store.subscribe("q") as q:
        assert q is not None
        await q.connect()
        async with store.subscribe("p") as p:
            assert p is not None
            await p.connect()
            said = Exception(error.format(slot=slot("p"), node=there.node))
            here.away[channel("p")] = said
        await here.announce(["smessage", channel("p"), "k"], ["smessage", channel("q"), "l"])
        assert await q.wait() == {"l"}
        here.away.clear()
        async with store.subscribe("p") as p:
            assert p is not None
            await p.connect()
            await here.announce(["smessage", channel("p"), "m"])
            assert await p.wait() == {"m"}
    assert len(here.conversations) == 2  # of which one is about the table


async def test_what_nobody_knows_in_answer_to_one_who_leaves_is_the_end(nodes: list[Node]) -> None:
    """It may come from anything, in answer to anything."""
    here, _ = nodes
    here.refuses = None
    store = cluster_of(here)
    async with store.subscribe("q") as q:
        assert q is not None
        await q.connect()
        async with store.subscribe("p") as p:
            assert p is not None
            await p.connect()
            here.away[channel("p")] = Exception("what is that?")
        with pytest.raises(StoreUnavailableError, match="what is that"):
            await q.wait()


@pytest.mark.parametrize("error", ["MOVED {slot} {node}", "NOPERM no permissions"])
@pytest.mark.parametrize("asked_next", ["nothing", "another channel", "the same channel"])
async def test_a_slot_that_moves_while_its_channel_is_given_up_harms_no_other(
    asked_next: str, error: str, nodes: list[Node]
) -> None:
    """The word that it has moved comes first, and then what is said to who leaves."""
    here, there = nodes
    here.refuses = None
    store = cluster_of(here)
    async with store.subscribe("q") as q, AsyncExitStack() as stack:
        assert q is not None
        await q.connect()
        p = await stack.enter_async_context(store.subscribe("p"))
        assert p is not None
        await p.connect()
        here.away[channel("p")] = Exception(error.format(slot=slot("p"), node=there.node))
        await here.announce(["sunsubscribe", channel("p"), 1])
        await stack.aclose()
        if asked_next == "another channel":
            async with store.subscribe("r") as r:
                assert r is not None
                await r.connect()
                await here.announce(["smessage", channel("r"), "k"])
                assert await r.wait() == {"k"}
        elif asked_next == "the same channel":
            async with store.subscribe("p") as again:
                assert again is not None
                with pytest.raises(StoreError, match=error.split(maxsplit=1)[0]):
                    await again.connect()
        await here.announce(["smessage", channel("q"), "k"])
        assert await q.wait() == {"k"}


async def test_a_sign_of_life_that_has_come_is_seen_by_who_waits_when_its_time_is_over(
    nodes: list[Node], mock_clock: trio.testing.MockClock
) -> None:
    """Nobody was there to receive it: who had asked for it was cancelled."""
    here, _ = nodes
    here.refuses = None
    async with cluster_of(here).subscribe("p") as p:
        assert p is not None
        await p.connect()
        here.silent, asked = True, here.said.count(["PING"])
        async with trio.open_nursery() as waiting:
            waiting.start_soon(p.wait)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(31)
            while here.said.count(["PING"]) == asked:
                await trio.lowlevel.checkpoint()
            waiting.cancel_scope.cancel()
        await here.announce(["pong", ""], ["smessage", channel("p"), "k"])
        mock_clock.jump(31)
        assert await p.wait() == {"k"}
