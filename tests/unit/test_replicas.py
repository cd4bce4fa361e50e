"""Who waits for replicas waits on the connection on which it has written."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from distkit_actors import StoreUnavailableError
from distkit_actors._stores._contract import StoreSilentError
from distkit_actors._stores._redis._connection import Answer
from distkit_actors._stores._redis._replicas import Replicas


class Lane:
    """A connection that is lost, and made again, when the test says so."""

    def __init__(self) -> None:
        self.number = 1
        self.asked = 0
        self._lost = trio.Event()

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        assert words[0] == b"WAIT"
        assert patience is not None
        self.asked += 1
        if self.number > 1:
            return 1  # nothing was written there, so all replicas have it
        await self._lost.wait()
        raise StoreUnavailableError("the connection was lost")

    def make_again(self) -> None:
        self.number += 1
        self._lost.set()


async def test_another_connection_confirms_nothing(autojump_clock: object) -> None:
    lane, replicas, lost = Lane(), Replicas(), list[int]()

    async def confirm(number: int) -> None:
        with pytest.raises(StoreUnavailableError):
            await replicas.confirm(lane, 1, 1, 2.0)
        lost.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(confirm, number)
        await trio.testing.wait_all_tasks_blocked()
        lane.make_again()
    assert sorted(lost) == list(range(5))
    assert lane.asked == 1
    await replicas.confirm(lane, 2, 1, 2.0)
    assert lane.asked == 2
    assert not replicas.warnings()


class Answering:
    """A connection on which replicas are missing, or not."""

    number = 1

    def __init__(self) -> None:
        self.found = 1
        self.milliseconds: list[int] = []

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        await trio.lowlevel.checkpoint()
        assert words[:2] == (b"WAIT", b"1")
        self.milliseconds.append(int(words[2]))
        return self.found


@pytest.mark.parametrize(
    ("patience", "usual", "short"),
    [
        (1e-6, 1, 1),
        (2.0, 500, 50),
        (60.0, 15_000, 1_500),
        (3600.0, 15_000, 1_500),
        (1e300, 15_000, 1_500),
        (math.inf, 15_000, 1_500),
    ],
)
async def test_a_wait_ends_however_patient_its_store_is(
    patience: float, usual: int, short: int
) -> None:
    """The connection is blocked meanwhile, for the heartbeats of all who use it."""
    lane, replicas = Answering(), Replicas()
    for found in (1, 0, 0, 1, 1):
        lane.found = found
        await replicas.confirm(lane, 1, 1, patience)
    assert lane.milliseconds == [usual, usual, short, short, usual]


class Elsewhere:
    """A connection that brings what belongs to another command."""

    number = 1
    drops = 0

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        await trio.lowlevel.checkpoint()
        return [b"stale", b"7a"]

    async def drop(self) -> None:
        await trio.lowlevel.checkpoint()
        self.drops += 1


async def test_an_answer_to_something_else_confirms_nothing_and_ends_the_connection() -> None:
    lane, replicas = Elsewhere(), Replicas()
    await replicas.confirm(lane, 1, 1, 2.0)
    assert lane.drops == 1
    assert "does not say how many replicas have a write" in replicas.warnings()[0]


class Late:
    """A connection on which no answer comes in time."""

    number = 1
    asked = 0

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        raise StoreSilentError("no answer")

    async def drop(self) -> None:
        raise NotImplementedError


async def test_where_no_answer_comes_in_time_it_is_not_asked_each_time(
    autojump_clock: object,
) -> None:
    """Else a batch would be sent again for ever, as each time it is confirmed anew."""
    lane, replicas = Late(), Replicas()
    with pytest.raises(StoreUnavailableError):
        await replicas.confirm(lane, 1, 1, 2.0)
    await replicas.confirm(lane, 1, 1, 2.0)
    assert lane.asked == 1
    assert "does not say in time" in replicas.warnings()[0]
    await trio.sleep(100)
    with pytest.raises(StoreUnavailableError):
        await replicas.confirm(lane, 1, 1, 2.0)
