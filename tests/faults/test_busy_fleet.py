"""A fleet that does everything at once, all the time, whatever becomes of its server."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import product

import pytest
import trio

from distkit_actors import Ge
from tests.faults.chores import (
    Borrower,
    Chore,
    Decisions,
    Follower,
    Gauge,
    Holder,
    Increments,
    Intruder,
    Moves,
    Reader,
    Seat,
)
from tests.faults.fleet import SLACK, Counter, lax, settle, strict, until
from tests.faults.lens import Lens
from tests.faults.troubles import LOSSES, TROUBLES
from tests.harness.server import RedisServer
from tests.harness.transports import OTHER

LIMIT = 2
#: Seconds after which what is watched is read, whatever word of it was lost.
POLL = 2.0


def _chores(team: Mapping[str, Counter], *, lossless: bool) -> list[Chore]:
    chores: list[Chore] = []
    for (name, counter), chore in product(team.items(), (Increments, Moves, Decisions)):
        chores.append(chore(counter, name, lossless=lossless))
    for reader, name in ("ab", "ba"):  # what lax counters read is of no one instant
        chores.append(Reader(team[reader], name, lossless=lossless))
    for limited in (Holder, Seat, Borrower):
        gauge = Gauge(LIMIT, exact=lossless)
        chores += [limited(counter, gauge, lossless=lossless) for counter in team.values()]
    return chores


def _slices(counter: Counter, chores: Sequence[Chore]) -> dict[str, int]:
    mine = [chore.slices() for chore in chores if chore.counter is counter]
    return {key: count for slices in mine for key, count in slices.items()}


async def _all_get_on(chores: Sequence[Chore]) -> None:
    """Wait until each has been done once more; a token may be a matter of patience."""
    before = {chore: chore.rounds for chore in chores if not isinstance(chore, Borrower)}
    await until(lambda: all(chore.rounds > rounds for chore, rounds in before.items()), 5)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_everything_goes_on_exactly(
    trouble: str, durable_redis: RedisServer, fresh_prefix: str
) -> None:
    """Batches are all or none, limits hold while the data lasts, and nothing is left of holds."""
    server, lossless = durable_redis, trouble not in LOSSES
    url, lens = server.url, Lens(server, fresh_prefix)
    with trio.fail_after(20):
        async with (
            strict(url, fresh_prefix, transport="trio") as a,
            strict(url, fresh_prefix, transport=OTHER) as b,
            lax(url, fresh_prefix, transport="trio") as c,
            lax(url, fresh_prefix, transport=OTHER) as d,
            trio.open_nursery() as watchers,
        ):
            fleet = (a, b, c, d)
            chores = _chores(dict(zip("abcd", fleet, strict=True)), lossless=lossless)
            followers = [Follower(counter, "a x", lossless=lossless) for counter in fleet]
            for follower in followers:
                watchers.start_soon(follower.run)
            async with (
                AsyncExitStack() as until_the_end,
                AsyncExitStack() as into_the_trouble,
                trio.open_nursery() as nursery,
            ):
                for counter in fleet:
                    await until_the_end.enter_async_context(counter.hold("long", 7))
                    await into_the_trouble.enter_async_context(counter.hold("long", 5))
                    nursery.start_soon(counter.wait_until, "done", Ge(1))
                for counter in fleet:
                    await settle(counter)
                    chores.append(Intruder(counter, "long", 4 * 7, lossless=lossless))
                for chore in chores:
                    nursery.start_soon(chore.run)
                await _all_get_on(chores)
                async with trio.open_nursery() as storm:
                    storm.start_soon(TROUBLES[trouble], server)
                    await trio.sleep(0.03)
                    start = trio.current_time()
                    await into_the_trouble.aclose()
                    assert trio.current_time() - start < SLACK
                await _all_get_on(chores)
                await a.inc("done")
                for chore in chores:
                    chore.stopping = True
            for counter in fleet:
                await settle(counter)
                await counter.get("a x")  # a sign of life
            slices = {counter.instance_id: _slices(counter, chores) for counter in fleet}
            slices[a.instance_id]["done"] = 1
            await until(lambda: lens.look().slices == slices, 2)
            lens.look().check()
            total = slices[a.instance_id]["a x"]
            last = [(total, total if counter is a else 0) for counter in fleet]
            await until(lambda: [follower.last for follower in followers] == last, POLL + 0.5)
            # They are told again, and do not only ask from time to time.
            channel = f"dk:{{p.{fresh_prefix}}}:c"
            told = [channel, len(fleet)]
            await until(lambda: server.command("PUBSUB", "NUMSUB", channel) == told, 5)
            watchers.cancel_scope.cancel()
