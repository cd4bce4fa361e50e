"""What a debugger or a log shows of the things that a counter gives."""

from __future__ import annotations

from trio.testing import MockClock

from distkit_actors import LaxInstanceAwareCounter, MemoryStore


async def test_a_watch_and_a_hold_name_their_keys(autojump_clock: MockClock) -> None:
    async with LaxInstanceAwareCounter.open("p", MemoryStore()) as counter:
        async with counter.watch("jobs") as values:
            assert repr(values) == "<watch of 'jobs', open>"
        assert repr(values) == "<watch of 'jobs', closed>"
        assert repr(counter.hold("jobs", 2)) == "<hold of 2 on 'jobs'>"
