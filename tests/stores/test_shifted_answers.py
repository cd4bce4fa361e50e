"""Answers on a shared connection that come one command too late: nobody takes them for its own.

With a real server, `FAULTS` of `tests.faults.together` does the same behind a proxy.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from distkit_actors import RedisStore, StoreUnavailableError
from distkit_actors._protocol._messages import Peek, Peeked
from tests.stores.fakes import reply, started
from tests.stores.nodes import Node, linked

#: A line from somewhere else: an error, no error, and what looks like a reply of a script.
SURPLUS = [
    Exception("upstream failure"),
    Exception("LOADING wait"),
    "OK",
    ["peeked", "9", "9", "1"],
]
P, Q = ["peeked", "1", "1", "0"], ["peeked", "2", "2", "0"]


@pytest.mark.parametrize("surplus", SURPLUS, ids=["error", "known error", "OK", "reply"])
async def test_an_answer_too_many_ends_the_connection_for_all_and_misleads_nobody(
    surplus: object, nursery: trio.Nursery
) -> None:
    node = Node()
    await started(nursery, node)
    node.of = {"{p.p}": P, "{p.q}": Q}
    async with linked(RedisStore(f"redis://{node.node}"), "p", "q") as (p, q):
        await trio.testing.wait_all_tasks_blocked()  # nothing is being said there
        await p.send(Peek("i"))
        await q.send(Peek("i"))
        await node.streams[-1].send_all(reply(surplus))
        for link in (p, q):
            with pytest.raises(StoreUnavailableError):
                await link.receive(Peek("i"))
        for link, incarnation in ((q, 2), (p, 1)):
            await link.connect()
            assert await link.exchange(Peek("i")) == Peeked(incarnation, incarnation, False)
        assert node.connections == 2


async def test_what_was_told_to_another_is_no_reply_without_waiting_either(
    nursery: trio.Nursery,
) -> None:
    """A caller that is alone gets its answer so, if there is one."""
    node = Node()
    await started(nursery, node)
    node.of = {"{p.p}": P, "{p.q}": Q}
    async with linked(RedisStore(f"redis://{node.node}"), "p") as (p,):
        await trio.testing.wait_all_tasks_blocked()
        await node.streams[-1].send_all(reply([*Q, "7a"]))
        p.send_nowait(Peek("i"))
        waiting = p.wait_answer()
        assert waiting is not None
        await waiting
        assert p.receive_nowait(Peek("i")) is None
        with pytest.raises(StoreUnavailableError, match="to this request"):
            await p.receive(Peek("i"))
        assert not p.connected
