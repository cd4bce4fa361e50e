"""Crashes, restarts and outages, for tests of applications."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from .._counters._counter import InstanceAwareCounter
from ._faulty_store import FaultyStore

_Counter = TypeVar("_Counter", bound=InstanceAwareCounter)


async def kill(counter: InstanceAwareCounter) -> None:
    """End a counter as ``kill -9`` ends its process: it does not flush, and does not leave.

    Its slices count on until ``dead_instance_threshold`` has passed, as nobody has told the store;
    then the living take them away. What it had not sent is lost. Its `InstanceAwareCounter.run`, or
    the block around it, ends without an error and at once. Whoever still uses it gets
    `CounterClosedError`, or `OutcomeUnknownError` for what was on its way; a process that is
    killed has nobody left to get anything.

    A checkpoint; cancelled, the counter is killed all the same. One that has ended already stays
    as it is.

    Raises:
        RuntimeError: Not called in a task of the counter's trio.
    """
    await counter._actor.kill()  # pyright: ignore[reportPrivateUsage]


def revive(
    counter: _Counter, *, instance_id: str | None = None, inherit: bool | None = None
) -> AbstractAsyncContextManager[_Counter]:
    """Return a block that runs a counter as a restart of the process of ``counter`` would.

    It is made of the same arguments, on the same store. So an ``instance_id`` that was given is
    the same again, and takes over what is left of the old one; one that was drawn is drawn anew,
    and the old one's slices count until its threshold has passed. Enter the block after `kill`.

    An instance that was silent for a while and comes back is no restart: for that give each
    counter a `FaultyStore` of its own, and use `outage`.

    Args:
        counter: The one that has ended.
        instance_id: The name of the new one, if it is to have another.
        inherit: Whether it continues the old one's counts; by default as ``counter`` was told.

    Raises:
        ValueError: To inherit it needs an ``instance_id``.
    """
    changes: dict[str, object] = {}
    if instance_id is not None:
        changes["instance_id"] = instance_id
    if inherit is not None:
        changes["inherit"] = inherit
    successor = counter._another(**changes)  # pyright: ignore[reportPrivateUsage]
    return successor._running()  # pyright: ignore[reportPrivateUsage]


@contextmanager
def outage(*stores: FaultyStore) -> Generator[None]:
    """Return a block in which nothing goes to these stores, or comes from them.

    How long it lasts is up to the block: on trio's mock clock ``await trio.sleep(3600)`` takes no
    time. Afterwards the counters find back by themselves, with their next heartbeat at the latest.
    With one `FaultyStore` for all counters the store is away from all of them, and time stands
    still for the living and the dead; with one for each, as in its example, some are
    cut off while the others go on, and take their slices away after the threshold.

    Not a checkpoint.
    """
    for store in stores:
        store.cut()
    try:
        yield
    finally:
        for store in stores:
            store.heal()
