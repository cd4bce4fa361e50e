"""Counters of one store that run at once, and what may become of the connection they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from distkit_actors import InstanceAwareCounter, RedisStore, StrictInstanceAwareCounter
from distkit_actors._stores._redis._scripts import load_scripts
from tests.faults.fleet import UNHURRIED
from tests.harness.faults import is_script
from tests.harness.proxy import FaultProxy
from tests.harness.resp import Request


@asynccontextmanager
async def counters(
    store: RedisStore,
    prefixes: list[str],
    threshold: float = UNHURRIED,
    *,
    interval: float | None = None,
) -> AsyncIterator[list[StrictInstanceAwareCounter]]:
    """Start a strict counter under each of some prefixes, all at once."""
    started: dict[str, StrictInstanceAwareCounter] = {}
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stop = trio.Event()

        async def run(prefix: str, task_status: trio.TaskStatus[None]) -> None:
            async with StrictInstanceAwareCounter.open(
                prefix,
                store,
                dead_instance_threshold=threshold,
                heartbeat_interval=interval,
                start_grace=30,  # a machine may be busier than a short `response_timeout` allows
            ) as counter:
                started[prefix] = counter
                task_status.started()
                await stop.wait()

        async with trio.open_nursery() as starting:
            for prefix in prefixes:
                starting.start_soon(_start, nursery, run, prefix)
        yield [started[prefix] for prefix in prefixes]
        stop.set()


async def _start(
    nursery: trio.Nursery,
    run: Callable[[str, trio.TaskStatus[None]], Awaitable[None]],
    prefix: str,
) -> None:
    await nursery.start(lambda *, task_status: run(prefix, task_status))


def names(prefix: str, number: int) -> list[str]:
    """Return so many prefixes."""
    return [f"{prefix}.{n}" for n in range(number)]


def of(counter: InstanceAwareCounter, script: str = "apply") -> Callable[[Request], bool]:
    """Match the calls of one script by one counter; its batches, if none is named."""
    sha = load_scripts()[script].sha
    own = b"}:i:" + counter.instance_id.encode()  # what the name of its hash ends with
    return lambda request: (
        is_script(request)
        and sha in request.args
        and any(word.endswith(own) for word in request.args)
    )


async def count(counter: StrictInstanceAwareCounter, times: int) -> None:
    """Count one by one, as the first and only one who does."""
    for number in range(1, times + 1):
        assert await counter.inc("k") == (number, number)


#: What befalls the next answer, or all that is on its way.
FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "cut": lambda proxy: proxy.cut_all(),
    "request dropped": lambda proxy: proxy.drop_request(when=is_script),
    "reply dropped": lambda proxy: proxy.drop_reply(when=is_script),
    "half a reply": lambda proxy: proxy.cut_reply_midframe(when=is_script),
    "late": lambda proxy: proxy.late_copy(0.02, when=is_script),
    "twice": lambda proxy: proxy.duplicate(when=is_script),
    "slow": lambda proxy: proxy.delay_reply(0.02, when=is_script),
    "no answer": lambda proxy: proxy.hang_reply(when=is_script),
    "nonsense": lambda proxy: proxy.answer("+OK", executed=True, when=is_script),
    # From here on all answers behind it come one too late, to others.
    "an error too many": lambda proxy: proxy.answer_besides("-upstream failure", when=is_script),
    "not now, and done": lambda proxy: proxy.answer_besides("-LOADING", when=is_script),
    "OK too many": lambda proxy: proxy.answer_besides("+OK", when=is_script),
    "a reply twice": lambda proxy: proxy.reply_twice(when=is_script),
    "not now": lambda proxy: proxy.answer("-LOADING", executed=False, when=is_script),
    "other role": lambda proxy: proxy.answer("-READONLY", executed=False, when=is_script),
}
