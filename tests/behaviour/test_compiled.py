"""What a compiled build counts with does as the methods whose place it takes, in either build."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from trio.testing import MockClock

from distkit_actors import BoundLaxCounter, LaxInstanceAwareCounter, MemoryStore
from distkit_actors._counters._compiled import CompiledCounts, CompiledHandle
from distkit_actors._instance._buffered_key import BufferedKey
from tests.behaviour.world import MAX, MIN


class Name(str):
    """A key may be one."""

    __slots__ = ()


COUNTS = [1, -3, 0, 2**30, -(2**31), 2**31, MAX - 2**31, MAX, 1, MIN, MIN, MAX + 1, -(10**30)]
NO_COUNTS = [True, False, 1.0, "1", None]
ODD = [2, 2, *NO_COUNTS, 2]
NAMES = ["k", Name("k"), "other", "", "x" * 256, "\ud800", b"k", 7, None, ["unhashable"]]


def outcome(call: Callable[..., None], *arguments: object) -> tuple[type, str] | None:
    """Return what a call raises."""
    try:
        call(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return type(error), str(error)
    return None


def lax(partitions: int) -> LaxInstanceAwareCounter:
    """Return one of two that say the same, and flush when they are told to."""
    store = MemoryStore(partitions=partitions)
    return LaxInstanceAwareCounter("p", store, instance_id="i", flush_interval=1000.0)


@pytest.mark.parametrize("partitions", [1, 3])
async def test_what_counts_on_keys_does_as_the_method(
    partitions: int, autojump_clock: MockClock
) -> None:
    async with lax(partitions)._running() as theirs, lax(partitions)._running() as ours:
        method = partial(LaxInstanceAwareCounter.inc_nowait, theirs)
        inc_nowait = partial(LaxInstanceAwareCounter.inc_nowait, ours)
        twin = CompiledCounts(ours._buffer, inc_nowait).inc_nowait
        for calls in (
            [("k",), ("k",), *(("k", count) for count in COUNTS)],
            [("k", count) for count in ODD],
            [(name, count) for name in NAMES for count in (1, 1, True, MAX)],
        ):
            for call in calls:
                assert outcome(twin, *call) == outcome(method, *call), call
                assert ours.statistics().pending_keys == theirs.statistics().pending_keys
                for key in ("k", "other"):
                    assert await ours.get(key) == await theirs.get(key)
            await ours.flush()
            await theirs.flush()
    assert outcome(twin, "k") == outcome(method, "k") is not None


@pytest.mark.parametrize("partitions", [1, 3])
async def test_what_counts_on_one_key_does_as_the_method(
    partitions: int, autojump_clock: MockClock
) -> None:
    async with lax(partitions)._running() as theirs, lax(partitions)._running() as ours:
        method = partial(BoundLaxCounter.inc_nowait, theirs.bind("k"))
        fresh = BufferedKey("k")
        fresh.invalidate()
        inc_nowait = partial(LaxInstanceAwareCounter.inc_nowait, ours)
        handle = CompiledHandle(fresh, inc_nowait, ours._buffered)
        twin = handle.inc_nowait
        for calls in ([(), (), *((count,) for count in COUNTS)], [(count,) for count in ODD]):
            for call in calls:
                assert outcome(twin, *call) == outcome(method, *call), call
                assert ours.statistics().pending_keys == theirs.statistics().pending_keys
                assert await ours.get("k") == await theirs.get("k")
            assert handle._buffered is ours._buffered("k")  # or each count would look it up
            await ours.flush()
            await theirs.flush()
            # Who looks its key up again after this has another buffered key.
            assert await ours.clear() == await theirs.clear()
    assert outcome(twin) == outcome(method) is not None
