"""Who a counter is, from when on, and what becomes of one whose id another takes."""

# ruff: noqa: SIM300, PT012 - expected == actual, all through; errors come out of whole blocks

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from distkit_actors import (
    CounterClosedError,
    InstanceAwareCounter,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    Store,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Load, Open, Peeked, Reply, Request
from distkit_actors._stores._contract import Link
from tests.behaviour.world import Flavour, World, both_flavours, each, everywhere, outcome

KINDS = {"strict": StrictInstanceAwareCounter, "lax": LaxInstanceAwareCounter}


class Door(Store):
    """Lets no request of one kind through until it is opened."""

    def __init__(self, inner: Store, kind: type[Request]) -> None:
        self.inner = inner
        self.kind = kind
        self.reached, self.open = trio.Event(), trio.Event()

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        """Return a link through the door."""
        async with self.inner.link(prefix) as link:
            yield _LinkThroughDoor(self, link)


class _LinkThroughDoor(Link):
    def __init__(self, door: Door, inner: Link) -> None:
        self._door = door
        self._inner = inner

    async def connect(self) -> None:
        await self._inner.connect()

    async def receive(self, request: Request) -> Reply:
        if isinstance(request, self._door.kind):
            self._door.reached.set()
            await self._door.open.wait()
        return await self._inner.exchange(request)

    @property
    def connected(self) -> bool:
        return self._inner.connected


# ------------------------------------------------------------------------- drawn at the start


@everywhere
async def test_i11_the_id_is_drawn_at_the_start(world: World, flavour: Flavour) -> None:
    """Before, there is none unless one was given, and `repr` shows that."""
    counter = world.build(flavour)
    with pytest.raises(CounterClosedError, match="drawn at the start"):
        _ = counter.instance_id
    assert repr(counter) == f"<{type(counter).__name__} {world.prefix!r}, new>"
    await world.start(counter)
    name = counter.instance_id
    assert len(name) == 36
    assert f"of instance {name!r}, running" in repr(counter)
    await counter.aclose()
    assert name == counter.instance_id
    assert "given" == world.build(flavour, instance_id="given").instance_id


@both_flavours
async def test_i11_copies_are_instances_of_their_own(world: World, flavour: Flavour) -> None:
    """What was made once and started twice, as after a fork, counts for two."""
    store = MemoryStore()
    original = KINDS[flavour](world.prefix, store)
    counters = [copy.deepcopy(original, {id(store): store}) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for counter, count in zip(counters, (5, 3), strict=True):
            await nursery.start(counter.run)
            await counter.inc("k", count)
            await world.settle(counter)
        assert [(8, 5), (8, 3)] == [await world.value(counter, "k") for counter in counters]
        assert counters[0].instance_id != counters[1].instance_id
        for counter in counters:
            await counter.aclose()


async def test_i11_copies_with_one_id_supersede_each_other(world: World) -> None:
    """They are told apart although they were made at once: the later one has the id."""
    store = MemoryStore()
    original = StrictInstanceAwareCounter(world.prefix, store, instance_id="me")
    older, newer = (copy.deepcopy(original, {id(store): store}) for _ in range(2))
    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(InstanceConflictError):
            async with trio.open_nursery() as old_nursery:
                await old_nursery.start(older.run)
                await older.inc("k", 5)
                await nursery.start(newer.run)
                assert (3, 3) == await newer.inc("k", 3)
        assert (3, 3) == await newer.get("k")
        await newer.aclose()


def test_an_instance_that_is_opening_keeps_its_name() -> None:
    """Whatever a store has been told belongs to one instance."""
    counter = StrictInstanceAwareCounter("p", MemoryStore(), instance_id="me")
    session = counter._actor._session
    session.name("me", "nonce")
    session.receive(Peeked(0, 1))
    with pytest.raises(AssertionError):
        session.name("you", "other nonce")


# --------------------------------------------------------------------------------- superseded


@everywhere
async def test_i11_the_superseded_ends(
    world: World, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    """Idle as it may be: `run` raises within a heartbeat, and everything says why."""
    caplog.set_level(logging.WARNING, "distkit_actors")
    old = world.build(flavour, instance_id="me")
    ended: list[tuple[float, str, object]] = []

    async def host(task_status: trio.TaskStatus[object]) -> None:
        try:
            await old.run(task_status=task_status)
        except InstanceConflictError as error:
            ended.append((trio.current_time(), old.statistics().state, error))

    async with trio.open_nursery() as nursery:
        await nursery.start(host)
        began = trio.current_time()
        await world.make(flavour, instance_id="me")
    ((at, state, error),) = ended
    assert at - began <= world.interval + world.slack
    assert "superseded" == state == old.statistics().state
    assert "'me'" in str(error)
    assert repr(old).endswith("of instance 'me', superseded>")
    (record,) = caplog.records
    assert logging.ERROR == record.levelno
    assert "'me'" in record.getMessage()
    assert world.prefix in record.getMessage()
    for call in (each(old.inc, "k"), each(old.get, "k"), old.clear):
        assert InstanceConflictError is await outcome(call)
    await old.aclose()
    assert "superseded" == old.statistics().state


@everywhere
async def test_i11_the_superseded_says_what_is_void(world: World, flavour: Flavour) -> None:
    """Counts that the store never had are in the message, and `aclose` raises it."""
    old = world.build(flavour, instance_id="me", exit_grace=60.0)
    results: list[object] = []
    async with trio.open_nursery() as nursery:

        async def host(task_status: trio.TaskStatus[object]) -> None:
            with pytest.raises(InstanceConflictError) as info:
                await old.run(task_status=task_status)
            results.append(str(info.value))

        async def close() -> None:
            results.append(await outcome(old.aclose))

        await nursery.start(host)
        world.wire(old).cut()
        await world.make(flavour, instance_id="me")
        if isinstance(old, LaxInstanceAwareCounter):
            old.inc_nowait("k", 5)
        nursery.start_soon(close)
        await trio.sleep(0.01)
        world.wire(old).heal()
    expected = InstanceConflictError if flavour == "lax" else None
    assert expected in results
    assert any("1 counts" in str(result) for result in results) == (flavour == "lax")


@everywhere
@pytest.mark.parametrize("body", ["sleeps", "asks", "raises", "raises a group"])
async def test_i11_the_block_of_the_superseded_ends(
    world: World, flavour: Flavour, body: str
) -> None:
    """The body is cancelled, and the error comes out as it is; but the body's own wins."""
    mine: Exception = ValueError("mine")
    if body == "raises a group":
        mine = ExceptionGroup("mine", [mine])
    with trio.fail_after(20 * world.threshold), pytest.raises(Exception) as info:  # noqa: PT011
        async with KINDS[flavour].open(
            world.prefix,
            world.backend.store(),
            instance_id="me",
            dead_instance_threshold=world.threshold,
        ) as old:
            await world.make(flavour, instance_id="me")
            try:
                while body == "asks":
                    await old.set("k", 1)
                await trio.sleep_forever()
            finally:
                if "raises" in body:
                    raise mine
    if "raises" in body:
        assert mine is info.value
        assert any("'me'" in note for note in info.value.__notes__)
    else:
        assert InstanceConflictError is type(info.value)
        assert not hasattr(info.value, "__notes__")
    assert "superseded" == old.statistics().state


@everywhere
async def test_i11_a_nursery_gets_the_error_of_the_superseded(
    world: World, flavour: Flavour
) -> None:
    """What runs beside it is cancelled, as with any task that fails."""
    with pytest.RaisesGroup(InstanceConflictError):
        async with trio.open_nursery() as nursery:
            await nursery.start(world.build(flavour, instance_id="me").run)
            await world.make(flavour, instance_id="me")
            await trio.sleep_forever()


async def test_i11_one_superseded_as_it_starts_does_not_start(world: World) -> None:
    """Taken over while it loads what it inherits: `run` raises, and nothing is ready."""
    lingerer = await world.strict(instance_id="me", on_exit="linger")
    await lingerer.inc("k", 5)
    await lingerer.aclose()
    door = Door(world.backend.store(), Load)
    heir = StrictInstanceAwareCounter(world.prefix, door, instance_id="me", inherit=True)
    async with trio.open_nursery() as nursery:

        async def host() -> None:
            with pytest.raises(InstanceConflictError):
                await heir.run()

        nursery.start_soon(host)
        await door.reached.wait()
        assert "starting" == heir.statistics().state
        new = await world.strict(instance_id="me", inherit=True)
        door.open.set()
    assert "superseded" == heir.statistics().state
    assert (5, 5) == await new.get("k")


# ------------------------------------------------------------------------------------ refusing


def _refusing(world: World, flavour: Flavour, store: Store) -> InstanceAwareCounter:
    threshold = world.threshold
    return KINDS[flavour](
        world.prefix,
        store,
        instance_id="me",
        on_conflict="refuse",
        dead_instance_threshold=threshold,
    )


@everywhere
async def test_i11_who_refuses_disturbs_nobody(world: World, flavour: Flavour) -> None:
    """While the holder of the id lives, the newcomer fails to start, and that is all."""
    holder = await world.make(flavour, instance_id="me")
    await holder.inc("k", 5)
    await world.settle()
    for round_ in range(5):
        if round_ % 2:
            await world.intervals(2)
        footprint = await world.backend.footprint(world.prefix)
        newcomer = _refusing(world, flavour, world.backend.store())
        with pytest.raises(InstanceConflictError, match="living"):
            await newcomer.run()
        assert footprint == await world.backend.footprint(world.prefix)
        assert "closed" == newcomer.statistics().state
        assert CounterClosedError is await outcome(each(newcomer.inc, "k"))
        with pytest.raises(InstanceConflictError, match="living"):
            async with type(newcomer).open(
                world.prefix,
                world.backend.store(),
                instance_id="me",
                on_conflict="refuse",
                dead_instance_threshold=world.threshold,
            ):
                raise AssertionError
        await world.has(holder, "k", 5, 5)
    assert "running" == holder.statistics().state


@everywhere
@pytest.mark.parametrize("end", ["leave", "linger", "crash"])
async def test_i11_who_refuses_gets_the_id_of_one_who_has_ended(
    world: World, flavour: Flavour, end: str
) -> None:
    """At once after a leave; else as soon as the threshold is over, heard of by others or not."""
    b = await world.strict()
    options = {"on_exit": "linger"} if end == "linger" else {}
    holder = await world.make(flavour, instance_id="me", **options)
    await holder.inc("k", 5)
    await world.settle()
    began = trio.current_time()
    if end == "crash":
        world.kill(holder)
    else:
        await holder.aclose()
    refused = 0
    async with trio.open_nursery() as nursery:
        with trio.fail_after(12 * world.threshold):
            while True:
                newcomer = _refusing(world, flavour, world.backend.store())
                try:
                    await nursery.start(newcomer.run)
                except InstanceConflictError:
                    refused += 1
                    await trio.sleep(world.interval / 8)
                else:
                    break
        assert bool(refused) == (end != "leave")
        if refused:
            assert trio.current_time() - began >= world.threshold * 0.6
        await newcomer.inc("k", 1)
        await world.settle(newcomer)  # type: ignore[arg-type]
        await world.sees(b, "k", 1, 0)
        await newcomer.aclose()


async def test_i11_who_refuses_does_not_take_over_one_who_comes_back(world: World) -> None:
    """The holder was taken for dead when the newcomer looked, and is alive when it opens."""
    holder = await world.strict(instance_id="me")
    b = await world.strict()
    await holder.inc("k", 5)
    await b.forget("me")
    door = Door(world.backend.store(), Open)
    newcomer = _refusing(world, "strict", door)
    async with trio.open_nursery() as nursery:

        async def host() -> None:
            with pytest.raises(InstanceConflictError, match="living"):
                await newcomer.run()

        nursery.start_soon(host)
        await door.reached.wait()
        assert (5, 5) == await holder.get("k")
        door.open.set()
    assert (6, 6) == await holder.inc("k")


async def test_two_who_refuse_do_not_both_start(world: World) -> None:
    """Of newcomers at the same moment one has the id, and the others leave it alone."""
    ready: list[InstanceAwareCounter] = []
    refused: list[InstanceAwareCounter] = []
    async with trio.open_nursery() as nursery:

        async def begin(counter: InstanceAwareCounter) -> None:
            try:
                ready.append(await nursery.start(counter.run))
            except InstanceConflictError:
                refused.append(counter)

        async with trio.open_nursery() as starts:
            for _ in range(5):
                starts.start_soon(begin, _refusing(world, "strict", world.backend.store()))
        (counter,) = ready
        assert 4 == len(refused)
        assert (1, 1) == await counter.inc("k")
        await counter.aclose()


def test_on_conflict_is_one_of_two() -> None:
    """Anything else is refused at once."""
    with pytest.raises(ValueError, match="on_conflict must be"):
        StrictInstanceAwareCounter("p", MemoryStore(), on_conflict="wait")  # type: ignore[arg-type]


def test_a_peek_is_what_it_was_unless_somebody_refuses() -> None:
    """Who takes over does not care who is alive."""
    session = StrictInstanceAwareCounter("p", MemoryStore(), instance_id="me")._actor._session
    twin = copy.deepcopy(session)
    session.receive(Peeked(7, 1))
    twin.receive(Peeked(7, 1)._replace(alive=True))
    assert session.request() == twin.request()
