"""Over how many parts a command takes part that changes what a store has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from distkit_actors import MemoryStore, StrictInstanceAwareCounter
from distkit_actors._cli import store_command
from distkit_actors._cli.store_command import taking_part
from distkit_actors.testing import kill


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MemoryStore]:
    """Open the same store with any number of parts, as a URL does."""
    first = MemoryStore()

    def opened(_: str = "", *, partitions: int = 1) -> MemoryStore:
        store = MemoryStore(partitions=partitions)
        store._namespaces, store._clock = first._namespaces, first._clock
        return store

    monkeypatch.setattr(store_command, "open_store", opened)
    return opened


@pytest.mark.parametrize(("given", "taken"), [(8, 8), (None, 4)])
async def test_the_dead_do_not_overrule_what_is_given(
    opened: Callable[..., MemoryStore],
    autojump_clock: trio.testing.MockClock,
    given: int | None,
    taken: int,
) -> None:
    four = StrictInstanceAwareCounter("p", opened(partitions=4), dead_instance_threshold=9.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(four.run)
        await four.inc("k")
        async with taking_part("", "p", 30.0, given) as counter:
            assert await counter.set("k", 2) == (2, 2)
            assert await four.slices("k") == {counter.instance_id: 2}
        await four.inc("k")
        await kill(four)
    await trio.sleep(10.0)
    async with (
        taking_part("", "p", 30.0, given) as counter,
        StrictInstanceAwareCounter.open("p", opened(partitions=taken)) as other,
    ):
        assert await counter.set("k", 2) == (2, 2)
        assert await other.slices("k") == {counter.instance_id: 2}
