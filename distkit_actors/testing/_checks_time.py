"""Checks of who is dead, and when. Each waits for a moment, by any clock."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from .._protocol._messages import (
    Applied,
    Entry,
    Peek,
    Peeked,
    Previous,
    Rejection,
    Resume,
)
from .._protocol._values import INT64_MAX
from .._stores._contract import Store
from ._driver import BUDGET, Client, add, claim, expect, fresh, joined, move, put, same

#: A threshold, in seconds, for those who are to die.
_SHORT = 0.25
#: Seconds after which they are dead.
_WAIT = 0.35
#: Seconds within which everything ends that should.
_PATIENCE = 5.0
#: Blackouts after which anybody is dead who was not heard; two use a threshold up here, so four do.
_BLACKOUTS = 8
#: How often something is tried whose steps may take too long on a busy machine.
_TRIES = 5


async def the_dead_stop_counting(store: Store) -> None:
    """A reader's first answer is free of the dead, of what they had and not of what they moved."""
    prefix = fresh()
    async with (
        joined(store, prefix, threshold=_SHORT) as a,
        joined(store, prefix) as b,
        joined(store, prefix) as c,
    ):
        await a.batch(*(add(key, 10) for key in ("set", "deleted", "own")))
        await a.batch(add("negative", -5), add("tight", -10))
        await b.batch(move("set", 100), move("deleted"))
        await b.batch(add("deleted", 1), add("own", 1), put("tight", INT64_MAX))
        await c.batch(add("tight", 5))
        await trio.sleep(_WAIT)

        # With the -10 gone, the cumulative of "tight" would not fit: it stays until it does.
        b.compose(*(add(key, 0) for key in ("set", "deleted", "own", "negative", "tight")))
        request = b.session.request()
        assert request is not None
        done = expect(Applied, await b.send(request), "a read")
        b.take(done)
        expected = [(100, 100), (1, 1), (1, 1), (0, 0), (INT64_MAX - 5, INT64_MAX)]
        same(list(done.results), expected, "read after a death")
        same(done.stuck > 0, True, "a slice that cannot go is shown")
        await b.batch(add("tight", -5))
        same(await b.values("tight"), [(INT64_MAX, INT64_MAX - 5)], "once there is room")

        results = await a.batch(add("own", 1), add("set", 1))
        same(list(results), [(11, 10), (100, 0)], "the first batch after the return")
        values = await c.values("set", "deleted", "own", "negative", "tight")
        expected = [(101, 0), (1, 0), (12, 0), (-5, 0), (INT64_MAX - 10, 5)]
        same(values, expected, "after the return")


async def reaping_is_bounded(store: Store) -> None:
    """A step takes away as many slices of the dead as it may, those of its own keys first."""
    prefix, budget = fresh(), 4
    keys = [f"key {number}" for number in range(30)]
    async with joined(store, prefix, threshold=_SHORT) as a, joined(store, prefix) as b:
        await a.batch(*(put(key, 1) for key in keys))
        await trio.sleep(_WAIT)
        same(await b.values(*keys, budget=0), [(1, 0)] * len(keys), "read with no budget")
        done = await _step(b, keys[17], budget)
        same(list(done.results), [(0, 0)], "read of one key, with a budget")
        same(bool(done.backlog), True, "a backlog, as slices of the dead are left")
        left = sum(total for total, _ in await b.values(*keys, budget=0))
        assert left >= len(keys) - budget, f"{len(keys) - left} slices went, of {budget} allowed"
        steps = 0
        while done.backlog and steps < len(keys):
            done = await _step(b, "else", budget)
            steps += 1
        same(bool(done.backlog), False, "a backlog that ends")
        same(await b.values(*keys, budget=0), [(0, 0)] * len(keys), "after the backlog")


async def an_answer_is_free_of_the_dead(store: Store) -> None:
    """Several die at once, and what they have in the keys of the next step goes before all else."""
    prefix, keys = fresh(), [f"key {number}" for number in range(4)]
    async with AsyncExitStack() as stack, joined(store, prefix) as b:
        for _ in range(4):
            a = await stack.enter_async_context(joined(store, prefix, threshold=_SHORT))
            # If steps are slow, the first may be dead before the last has come.
            await a.batch(*(put(key, 1) for key in keys), budget=0)
        await trio.sleep(_WAIT)
        done = await _step(b, keys[2], 4)
        same(list(done.results), [(0, 0)], "read after four have died, with a budget of 4")
        done = await _sent(b, add(keys[0], 5), add(keys[1], 0), budget=8)
        same(list(done.results), [(0, 0), (0, 0)], "count and read, with a budget of 8")
        same(bool(done.backlog), True, "a backlog, as slices of the dead are left")


async def _step(client: Client, key: str, budget: int) -> Applied:
    return await _sent(client, add(key, 0), budget=budget)


async def _sent(client: Client, *entries: Entry, budget: int = BUDGET) -> Applied:
    done = expect(Applied, await client.send(client.compose(*entries, budget=budget)), "a batch")
    client.take(done)
    return done


async def the_dead_return(store: Store) -> None:
    """Whoever was taken for dead gets its last answer again, and comes back with all it had."""
    prefix = fresh()
    async with joined(store, prefix, threshold=_SHORT) as mortal, joined(store, prefix) as b:
        await mortal.batch(add("k", 5))
        request = mortal.compose(add("k", 1))
        first = expect(Applied, await mortal.send(request), "a batch")
        await trio.sleep(_WAIT)
        same(await b.values("k"), [(0, 0)], "read after a death")
        again = expect(Applied, await mortal.send(request), "a batch of the dead that is repeated")
        said = (again.at, list(again.results))
        same(said, (first.at, list(first.results)), "the answer to a batch of the dead")
        same(await b.values("k"), [(0, 0)], "after a batch of the dead was repeated")
        mortal.take(again)
        # The last of these steps could forget the first move, as all who live have heard of it.
        for entries in ((move("x"),), (), (move("y"),)):
            await b.batch(*entries)
        same(await mortal.values("k"), [(6, 6)], "after the return")


async def heartbeats_keep_alive(store: Store) -> None:
    """Whoever is heard in time stays, and who has a longer threshold may be silent for longer."""
    prefix, threshold = fresh(), 0.48
    async with (
        joined(store, prefix, threshold=threshold) as a,
        joined(store, prefix, threshold=threshold * 10) as quiet,
        joined(store, prefix) as b,
    ):
        await a.batch(add("k", 5))
        await quiet.batch(add("k", 2))
        for _ in range(8):
            await trio.sleep(threshold / 6)
            await a.batch()
        same(await b.total("k"), 7, "with one who beats, and one with a longer threshold")
        total, tries, began = 0, 0, float("-inf")
        while tries < _TRIES and trio.current_time() >= began + 0.9 * threshold:
            # Somebody has to beat meanwhile, else the silence proves nothing (P24, blackout).
            await a.batch()
            began = trio.current_time()
            while trio.current_time() < began + 0.6 * threshold:
                await trio.sleep(threshold / 10)
                await quiet.batch()
            total = await b.total("k")
            tries += 1
        same(total, 7, "with one who was silent for more than half of its threshold")


async def a_blackout_kills_nobody(store: Store) -> None:
    """If all were silent, the first one back gives everybody a fresh threshold."""
    prefix = fresh()
    async with (
        joined(store, prefix, threshold=_SHORT) as a,
        joined(store, prefix, threshold=_SHORT) as b,
    ):
        await a.batch(add("k", 5))
        await b.batch(add("k", 1))
        await trio.sleep(_WAIT)
        same(await b.values("k"), [(6, 1)], "read by the first one back")
        await trio.sleep(_SHORT / 4)
        same(await b.values("k"), [(6, 1)], "read by it once more, soon after")
        same(await a.values("k"), [(6, 5)], "read by the second one back")
        with trio.move_on_after(_PATIENCE):
            while await b.values("k") != [(1, 1)]:  # noqa: ASYNC110 - nobody tells us
                await trio.sleep(_SHORT / 8)
        same(await b.values("k"), [(1, 1)], "after one of them stayed away")
        same(list(await a.batch(add("k", 1))), [(6, 5)], "back again")


async def a_newcomer_that_ends_a_blackout_kills_nobody(store: Store) -> None:
    """If all were silent, the others have a fresh threshold from the first newcomer on, too."""
    prefix = fresh()
    async with joined(store, prefix, threshold=_SHORT) as a:
        await a.batch(add("k", 5))
        await trio.sleep(_WAIT)
        async with joined(store, prefix, threshold=_SHORT) as b:
            same(await b.values("k"), [(5, 0)], "read by a newcomer")
            same(await a.values("k"), [(5, 5)], "read by the one who was silent")


async def blackouts_keep_nobody_alive(store: Store) -> None:
    """Who is not heard again gets one fresh threshold, however many blackouts come."""
    prefix, interval = fresh(), _SHORT / 2
    async with (
        joined(store, prefix, threshold=_SHORT, interval=interval) as a,
        joined(store, prefix, threshold=_SHORT, interval=interval) as b,
    ):
        await a.batch(add("k", 5))
        for _ in range(_BLACKOUTS):
            await trio.sleep(interval * 1.2)
            if await b.values("k") == [(0, 0)]:
                break
        same(await b.values("k"), [(0, 0)], "after blackouts that only one of two came back from")


async def old_moves_are_forgotten(store: Store) -> None:
    """The store forgets a move after the retention, but not before all have heard of it."""
    prefix = fresh()
    async with (
        joined(store, prefix, retention=_SHORT) as a,
        joined(store, prefix, retention=_SHORT) as b,
    ):
        first = (await _sent(a, add("k", 5))).at
        moved = (await _sent(b, move("k", 1))).at
        await trio.sleep(_WAIT)
        floor = 0
        for _ in range(3):
            done = await _sent(b, move("else"))
            floor = done.journal.floor if done.journal else floor
        assert floor < moved, "a move was forgotten that somebody has not heard of"
        same(await a.values("k"), [(1, 0)], "a slice that was moved away long ago")
        same(a.session.slices, {}, "slices of one who has heard late")
        with trio.move_on_after(_PATIENCE):  # noqa: ASYNC912 - it is not forgotten yet
            while floor < moved:
                await a.batch()
                done = await _sent(b, move("else"))
                floor = done.journal.floor if done.journal else floor
                await trio.sleep(_SHORT / 4)
        assert floor >= moved, "a move that all have heard of long ago is never forgotten"

        # Who may have missed it cannot be believed any more; who has heard of it can.
        peeked = expect(Peeked, await b.send(Peek("stranger")), "a peek")
        for number, known, result in ((1, first, Rejection.MOVED), (2, floor, Previous(0, 0))):
            resume = Resume(
                *(f"stranger {number}", first, 7, known, b.session.periods),
                born=peeked.born,
                first=True,
                claims=(claim("late", 3, first),),
            )
            done = expect(Applied, await b.send(resume), "a resume of a stranger")
            same(list(done.results), [result], "a claim as old as moves that were forgotten")
