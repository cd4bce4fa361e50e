"""A program whose counter is made before its process is forked.

``python -m tests.faults.forked HOW KIND``, with the store's URL and the prefix in the environment.
Each process counts, waits for the sum of all, and prints its id and what it has seen.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable

import trio

from distkit_actors import (
    CounterClosedError,
    Eq,
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    StrictInstanceAwareCounter,
)

_KINDS = {"strict": StrictInstanceAwareCounter, "lax": LaxInstanceAwareCounter}

#: Made when the module is imported, as in an application under a server that loads it first.
COUNTER: InstanceAwareCounter = _KINDS[sys.argv[2]](
    os.environ["FORKED_PREFIX"],
    os.environ["FORKED_URL"],
    on_exit="linger",  # whoever is ready first must not take its part along
)


def work(count: int) -> None:
    """Count in this process."""
    trio.run(_work, count)


async def _work(count: int) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(COUNTER.run)
        await COUNTER.inc("k", count)
        value = await COUNTER.wait_until("k", Eq(8))
        sys.stdout.write(f"{COUNTER.instance_id} {value.cumulative}\n")
        sys.stdout.flush()
        await COUNTER.aclose()


def by_os_fork() -> None:
    """Count in two processes, one of which is forked from the other."""
    if not (child := os.fork()):
        _leave(lambda: work(3))
    work(5)
    _, status = os.waitpid(child, 0)
    assert not status


def by_multiprocessing(method: str) -> None:
    """Count in two processes that multiprocessing starts."""
    context = multiprocessing.get_context(method)
    children = [context.Process(target=work, args=(count,)) for count in (3, 5)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert not child.exitcode


async def while_it_runs() -> None:
    """Fork while the counter runs: it goes on here, and is closed in the child."""
    async with trio.open_nursery() as nursery:
        await nursery.start(COUNTER.run)
        await COUNTER.inc("k", 8)
        assert isinstance(COUNTER, LaxInstanceAwareCounter)
        handle = COUNTER.bind("k")
        handle.inc_nowait(0)
        COUNTER.inc_nowait("k", 0)
        if not (child := os.fork()):
            _leave(_everything_is_closed, COUNTER.inc_nowait, handle.inc_nowait)
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
        assert not status
        value = await COUNTER.inc("k", 0)
        await COUNTER.flush()
        assert COUNTER.statistics().state == "running"
        sys.stdout.write(f"{COUNTER.instance_id} {value.cumulative}\n")
        await COUNTER.aclose()


def _everything_is_closed(inc: Callable[[str], None], bound_inc: Callable[[], None]) -> None:
    for call in (lambda: inc("k"), bound_inc, lambda: inc("new")):
        try:
            call()
        except CounterClosedError as error:
            assert "forked" in str(error)  # noqa: PT017 - there is no pytest here
        else:
            raise AssertionError("counted in a process that nobody counts")
    assert COUNTER.statistics().state == "closed"


def _leave(function: Callable[..., None], *arguments: object) -> None:
    """End a process that was forked, as one that has nothing to do with its parent's stack."""
    try:
        function(*arguments)
    except BaseException:  # noqa: BLE001 - nothing may go on
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    match sys.argv[1]:
        case "os.fork":
            by_os_fork()
        case "running":
            trio.run(while_it_runs)
        case how:
            by_multiprocessing(how)
