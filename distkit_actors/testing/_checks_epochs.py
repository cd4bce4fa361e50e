"""Checks of a store request by request: moves of epochs, and who hears of them."""

from __future__ import annotations

from .._protocol._messages import (
    MAX_ENTRIES,
    MAX_MOVES,
    Applied,
    Previous,
    Result,
)
from .._stores._contract import Store
from ._driver import add, answers, clear, expect, fresh, joined, move, read, same


async def epochs_are_told(store: Store) -> None:
    """Everybody hears of others' moves, until they know them."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("k", 1), add("j", 1))
        await b.batch(move("k", 5))
        beat = a.compose()
        done = expect(Applied, await a.send(beat), "a heartbeat")
        assert done.journal is not None, "the first answer to a batch brings no journal"
        told = dict(done.journal.moves)
        assert told.get("k", 0) > 0, f"a heartbeat does not tell of another's move: {done.journal}"
        same(list(a.take(done).epochs), list(told), "the moves that the instance took in")
        same(set(a.session.slices), {"j"}, "the slices left to the instance")
        done = expect(Applied, await a.send(a.compose()), "a heartbeat")
        assert done.journal is not None
        same(list(done.journal.moves), [], "moves told to one who knows them")
        a.take(done)
        await b.batch(add("j", 1))
        await b.batch(clear())
        same(await a.values("k", "j"), [(0, 0), (0, 0)], "after a clear")
        same(a.session.slices, {}, "slices after a clear")
        same(list(await a.batch(add("j", 2))), [Previous(0, 0)], "an add after a clear")
        same(await b.values("k", "j"), [(0, 0), (2, 0)], "after an add")

        # The mover of a missing key cannot know who holds a slice of it.
        await a.batch(add("m", 4), add("n", 4))
        await b.batch(add("m", -4), add("n", -4))
        same(await b.values("m", "n"), [(0, -4), (0, -4)], "sums of 0")
        await b.batch(move("m"), move("n", 0))
        same(list(await a.batch(add("m", 1), read("n"))), [Previous(0, 0)] * 2, "after the moves")
        same(await b.values("m", "n"), [(1, 0), (0, 0)], "an add after a move at 0")


async def clears_take_what_is_older(store: Store) -> None:
    """What an instance makes after a clear stays, though it has not heard of the clear yet."""
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add("old", 1), add("both", 1))
        await b.batch(clear())
        request = a.compose(add("both", 5), add("young", 5))
        await a.send(request)
        a.session.lost()
        update = a.take(expect(Applied, await a.send(request), "a batch that was repeated"))
        expected: list[Result] = [Previous(0, 0), Previous(0, 0)]
        same(answers(update.results or ()), answers(expected), "a batch after a clear")
        await a.batch(add("late", 7))
        keys = ("old", "both", "young", "late")
        values = [(0, 0), (5, 5), (5, 5), (7, 7)]
        same(await a.values(*keys), values, "after the clear was heard")
        same(await b.values(*keys), [(total, 0) for total, _ in values], "after a clear")


async def long_journals_come_in_pages(store: Store) -> None:
    """A batch is executed though its instance has missed more moves than an answer holds."""
    keys = [f"key {number}" for number in range(MAX_ENTRIES + 100)]
    half = len(keys) // 2  # so that what an answer holds ends in the midst of a step
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(add(keys[0], 1), add(keys[-1], 1), add("kept", 1))
        for part in (keys[:half], keys[half:]):
            await b.batch(*map(move, part))
        request = a.compose(add("kept", 1), add(keys[-1], 1), read(keys[0]))
        reply = expect(Applied, await a.send(request), "a batch after many moves")
        expected: list[Result] = [Previous(1, 1), Previous(0, 0), Previous(0, 0)]
        same(answers(reply.results), answers(expected), "a batch after many moves")
        update = a.take(reply)
        moved, pages = set(update.epochs), 1
        assert keys[-1] in moved, "the move of a key of the batch was not told"
        while update.backlog and pages < 10:
            update = a.take(expect(Applied, await a.send(a.compose()), "an empty batch"))
            moved |= update.epochs.keys()
            pages += 1
        assert pages > 1, "more moves than an answer may hold, and it does not say so"
        assert pages < 10, "no end of moves"
        same(sorted(moved), sorted(keys), "the moves told")
        same(a.session.slices.keys(), {"kept", keys[-1]}, "the slices that are left")
        values = await b.values("kept", keys[0], keys[-1])
        same(values, [(2, 0), (0, 0), (1, 0)], "after the journal was read")


async def moves_are_reasserted(store: Store) -> None:
    """A resume may bring as many own moves as the protocol allows; known ones do nothing."""
    keys = [f"key {number}" for number in range(MAX_MOVES + 1)]
    async with joined(store, prefix := fresh()) as a, joined(store, prefix) as b:
        await a.batch(*(move(key, 1) for key in keys))
        await b.batch(*(add(key, 1) for key in keys))
        await a.skip()
        await a.batch()
        same(await b.values(*keys), [(2, 1)] * len(keys), "after known moves were told again")
