"""What is kept for each run of trio ends with its owner, or with the run."""

from __future__ import annotations

import gc
import weakref

import trio

from distkit_actors._stores._redis._per_run import PerRun


class Thing:
    """Something that is kept."""


async def keep(owner: PerRun[Thing]) -> Thing:
    await trio.lowlevel.checkpoint()
    thing = owner.get()
    assert owner.get() is thing
    return thing


def test_each_owner_has_one_in_each_run() -> None:
    one, two = PerRun(Thing), PerRun(Thing)

    async def main() -> set[Thing]:
        return {await keep(one), await keep(two)}

    assert len(trio.run(main) | trio.run(main)) == 4


async def test_another_value_is_for_its_owner_only() -> None:
    one, two = PerRun(lambda: 1), PerRun(lambda: 1)
    one.set(2)
    assert (one.get(), two.get()) == (2, 1)


async def test_it_ends_with_its_owner() -> None:
    owner = PerRun(Thing)
    thing = weakref.ref(await keep(owner))
    gc.collect()
    assert thing() is not None
    del owner
    gc.collect()
    assert thing() is None


def test_it_ends_with_its_run() -> None:
    owner = PerRun(Thing)
    thing = weakref.ref(trio.run(keep, owner))
    gc.collect()
    assert thing() is None
