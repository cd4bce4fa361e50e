"""A counter that starts while its store is away."""

# ruff: noqa: SIM300, PT012 - expected == actual, all through; errors come out of whole blocks

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from math import inf

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from distkit_actors import (
    CounterClosedError,
    Fleet,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    MemoryStore,
    Store,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._protocol._messages import Load, Loaded, Open, Peek, Reply, Request
from distkit_actors._stores._contract import (
    CursorLostError,
    Link,
    NotConnectedError,
    StoreAwayError,
)
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import Flavour, Tap, World, both_flavours
from tests.harness.logs import events

KINDS = {"strict": StrictInstanceAwareCounter, "lax": LaxInstanceAwareCounter}


# -------------------------------------------------------------------------------- start_grace


@both_flavours
async def test_a_start_with_grace_waits_for_its_store(
    world: World, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    """It is "starting" meanwhile, says once that it waits, and then is as any other."""
    caplog.set_level(logging.INFO, "distkit_actors")
    counter = world.build(flavour, start_grace=inf)
    wire = world.wire(counter)
    wire.cut()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.start, counter)
        while wire.counts["cut"] < 5:
            await trio.sleep(0.01)
            assert "starting" == counter.statistics().state
            assert not counter.statistics().connected
        wire.heal()
    assert "running" == counter.statistics().state
    assert (1, 1) == await counter.inc("k")
    assert 0 == counter.statistics().reconnects
    assert ["away", "back", "registered"] == events(caplog)
    assert "is away" in caplog.text


async def test_a_start_that_was_stopped_before_it_began_ends_in_time(world: World) -> None:
    """As one part of a namespace may be, before its task has run."""
    counter = world.build("strict", start_grace=inf, exit_grace=2.0)
    world.wire(counter).cut()
    counter._actor.stop()
    with trio.fail_after(3):
        with suppress(StoreUnavailableError):
            await counter.run()


@both_flavours
async def test_a_start_gives_up_when_its_grace_is_over(world: World, flavour: Flavour) -> None:
    """It has one more try at the end, and fails as a start without grace does."""
    counter = world.build(flavour, start_grace=7.0)
    wire = world.wire(counter)
    wire.cut()
    begun = trio.current_time()
    with pytest.raises(StoreUnavailableError, match="partitioned"):
        await world.start(counter)
    assert 7.0 == pytest.approx(trio.current_time() - begun, abs=0.5)
    assert "closed" == counter.statistics().state
    with pytest.raises(CounterClosedError):
        await counter.inc("k")


@both_flavours
async def test_a_start_without_grace_fails_at_once(world: World, flavour: Flavour) -> None:
    """That is the default."""
    counter = world.build(flavour)
    world.wire(counter).cut()
    begun = trio.current_time()
    with pytest.raises(StoreUnavailableError):
        await world.start(counter)
    assert begun == trio.current_time()


@both_flavours
async def test_tries_to_start_come_with_pauses(world: World, flavour: Flavour) -> None:
    """The pauses grow up to half a heartbeat interval, as those of a counter that runs."""
    counter = world.build(flavour, start_grace=100 * world.interval)
    wire = world.wire(counter)
    wire.cut()
    with pytest.raises(StoreUnavailableError):
        await world.start(counter)
    assert 200 < wire.counts["cut"] < 450


@both_flavours
async def test_a_refusal_fails_a_start_with_grace_at_once(world: World, flavour: Flavour) -> None:
    """A wrong password does not get right by waiting."""
    counter = world.build(flavour, start_grace=inf)
    world.wire(counter).refuse(StoreError("the store refuses: NOAUTH"))
    begun = trio.current_time()
    with pytest.raises(StoreError, match="NOAUTH") as raised:
        await world.start(counter)
    assert StoreError is type(raised.value)
    assert begun == trio.current_time()


@both_flavours
@pytest.mark.parametrize("kind", [Peek, Open])
async def test_a_start_with_grace_survives_a_lost_answer(
    world: World, flavour: Flavour, kind: type
) -> None:
    """Whatever the store did not say is asked again, and takes the id once."""
    observer = await world.strict()
    counter = world.build(flavour, start_grace=60.0, instance_id="me")
    world.wire(counter).drop_reply(when=lambda request: isinstance(request, kind))
    await world.start(counter)
    assert (1, 1) == await counter.inc("k")
    await world.settle(counter)
    assert (1, 0) == await observer.get("k")
    names = [info.instance_id for info in await observer.instances()]
    assert 1 == names.count("me")


@both_flavours
@pytest.mark.parametrize("kind", [Peek, Open])
async def test_a_start_survives_lost_connections_but_not_for_ever(
    world: World, flavour: Flavour, kind: type
) -> None:
    """One may be closed before anybody notices, and may have been made by others.

    Not each link knows that before it connects: in a cluster, where it leads is found out then.
    """
    counter = world.build(flavour)
    wire = world.wire(counter)
    wire.drop_reply(2, when=lambda request: isinstance(request, kind))
    await world.start(counter)
    assert 3 == wire.counts["connects"]
    assert (1, 1) == await counter.inc("k")
    another = world.build(flavour)
    wire = world.wire(another)
    wire.drop_request(None, when=lambda request: isinstance(request, kind))
    with pytest.raises(StoreUnavailableError, match="the request was lost"):
        await world.start(another)
    assert 3 == wire.counts["connects"]


@pytest.mark.parametrize("kind", [*KINDS.values(), Fleet])
@pytest.mark.parametrize("times", [2, 3])
async def test_a_start_that_is_told_to_ask_another_server_connects_to_it_three_times(
    kind: type[StrictInstanceAwareCounter | LaxInstanceAwareCounter | Fleet], times: int
) -> None:
    store = FaultyStore(MemoryStore())
    store.answer(NotConnectedError("it does not answer"), times, executed=False)
    with nullcontext() if times < 3 else pytest.raises(NotConnectedError):
        async with kind.open("p", store) as started:
            assert (0, 0) == await started.get("k")


@pytest.mark.parametrize("kind", [*KINDS.values(), Fleet])
async def test_a_start_fails_at_once_if_the_store_says_that_it_is_away(
    kind: type[StrictInstanceAwareCounter | LaxInstanceAwareCounter | Fleet],
) -> None:
    store = FaultyStore(MemoryStore())
    store.away()
    with pytest.raises(StoreAwayError):
        async with kind.open("p", store):
            pytest.fail("it has started")


@both_flavours
async def test_a_block_with_grace_waits_and_can_be_cancelled(
    flavour: Flavour, autojump_clock: MockClock
) -> None:
    """A cancelled start ends at once, whatever the grace."""
    wire = FaultyStore(MemoryStore())
    wire.cut()
    with trio.move_on_after(20.0) as scope:
        async with KINDS[flavour].open("app", wire, start_grace=inf):
            pytest.fail("the store is away")
    assert scope.cancelled_caught
    assert trio.current_time() - scope.deadline < 0.5
    async with trio.open_nursery() as nursery:

        async def heal() -> None:
            await trio.sleep(5.0)
            wire.heal()

        nursery.start_soon(heal)
        async with KINDS[flavour].open("app", wire, start_grace=inf) as counter:
            assert (1, 1) == await counter.inc("k")


@both_flavours
async def test_closing_ends_a_start_that_waits(flavour: Flavour, autojump_clock: MockClock) -> None:
    """`run` returns, with nothing to complain of; whoever waits for the start is told."""
    wire = FaultyStore(MemoryStore())
    wire.cut()
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        counter = KINDS[flavour]("app", wire, start_grace=inf)
        nursery.start_soon(counter.run)
        await trio.sleep(3.1)
        await counter.aclose()
    assert "closed" == counter.statistics().state
    async with trio.open_nursery() as nursery:
        counter = KINDS[flavour]("app", wire, start_grace=inf)

        async def close() -> None:
            await trio.sleep(3.1)
            await counter.aclose()

        nursery.start_soon(close)
        with pytest.raises(CounterClosedError, match="while it was starting"):
            await nursery.start(counter.run)
    assert 6.2 == pytest.approx(trio.current_time() - begun, abs=0.5)


@both_flavours
@pytest.mark.parametrize("store", ["answers", "is silent", "goes away"])
@pytest.mark.parametrize("start_grace", [0.0, inf])
async def test_closing_while_the_store_is_asked_takes_the_exit_grace_at_most(
    flavour: Flavour,
    start_grace: float,
    store: str,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A start that gets its answer in time leaves again properly, and is not told as done."""
    inner = MemoryStore()
    wire = FaultyStore(inner)
    wire.hold()

    async def start() -> None:
        with pytest.raises(CounterClosedError, match="while it was starting"):
            await nursery.start(counter.run)

    async with trio.open_nursery() as nursery:
        counter = KINDS[flavour]("app", wire, start_grace=start_grace, exit_grace=4.0)
        nursery.start_soon(start)
        await trio.sleep(1.0)
        nursery.start_soon(counter.aclose)
        await trio.sleep(1.0)
        if store == "answers":
            wire.release()
        elif store == "goes away":
            wire.cut()
        begun = trio.current_time()
    assert (3.0 if store == "is silent" else 0.0) == pytest.approx(
        trio.current_time() - begun, abs=0.5
    )
    assert "closed" == counter.statistics().state
    assert "away" not in [record.event for record in caplog.records]
    async with StrictInstanceAwareCounter.open("app", inner) as observer:
        assert 1 == len(await observer.instances())


@both_flavours
@pytest.mark.parametrize("bad", [-0.1, float("nan")])
def test_a_start_grace_is_seconds(flavour: Flavour, bad: float) -> None:
    """Less than none is none."""
    with pytest.raises(ValueError, match="start_grace"):
        KINDS[flavour]("app", "memory://", start_grace=bad)


# ----------------------------------------------------------------------------- detached_start


async def test_a_detached_start_is_ready_at_once(world: World) -> None:
    """What is counted meanwhile is in the store as soon as that is there, and counted once."""
    observer = await world.strict()
    counter = world.build("lax", detached_start=True, instance_id="me")
    wire = world.wire(counter)
    wire.cut()
    await world.start(counter)
    assert counter.statistics().state in {"starting", "away"}
    counter.inc_nowait("k", 2)
    counter.bind("k").inc_nowait()
    assert (4, 4) == await counter.inc("k")
    assert (4, 4) == await counter.get("k")
    assert (7, 7) == await counter.set_on_instance("j", 7)
    assert 2 == counter.statistics().pending_keys
    assert not counter.statistics().connected

    async def known_to_be_away() -> bool:
        return "away" == counter.statistics().state

    await world.until(known_to_be_away)
    assert (0, 0) == await observer.get("k")
    async with counter.hold("k"):
        wire.heal()
        await counter.flush()
        assert (5, 0) == await observer.get("k")
        assert "running" == counter.statistics().state
        assert counter.statistics().connected
        assert 0 == counter.statistics().reconnects
    await counter.flush()
    assert (4, 0) == await observer.get("k")
    assert (7, 0) == await observer.get("j")
    assert (4, 4) == counter.get_nowait("k")
    alive = {info.instance_id: info.alive for info in await observer.instances()}
    assert alive["me"]


async def test_what_needs_the_store_waits_for_a_detached_start(world: World) -> None:
    """It is done behind what was counted before it, as after any outage; reads are right then."""
    other = await world.strict()
    await other.inc("k", 10)
    counter = world.build("lax", detached_start=True)
    world.wire(counter).cut()
    await world.start(counter)
    counter.inc_nowait("j", 5)
    found: list[object] = []

    async def ask() -> None:
        found.append(await counter.delete("j"))
        found.append(await counter.keys())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        async with counter.watch("k") as channel:
            with trio.move_on_after(2 * world.interval):
                found.append(await channel.receive())
            assert [] == found
            world.heal(counter)
            assert (10, 0) == await channel.receive()
    assert [(5, 5), ["k"]] == found


async def test_a_detached_start_with_a_store_registers_unasked(world: World) -> None:
    """Nobody has to count for it."""
    observer = await world.strict()
    counter = world.build("lax", detached_start=True, instance_id="me")
    await world.start(counter)

    async def registered() -> bool:
        return "me" in [info.instance_id for info in await observer.instances()]

    await world.until(registered)
    assert "running" == counter.statistics().state


async def test_a_detached_counter_beats_like_any_other(world: World) -> None:
    """Others see it alive, however late it could register."""
    observer = await world.strict()
    counter = world.build("lax", detached_start=True, instance_id="me")
    world.wire(counter).cut()
    await world.start(counter)
    await trio.sleep(3.3 * world.threshold)
    world.heal(counter)
    await trio.sleep(world.interval)
    for _ in range(12):
        await trio.sleep(world.threshold / 4)
        info = next(info for info in await observer.instances() if "me" == info.instance_id)
        assert info.alive
        assert info.heartbeat_age < 0.5 * world.threshold


async def test_the_state_of_a_detached_start_is_that_it_starts(world: World) -> None:
    """It is "starting" until it is registered, or the store is known to be away."""
    counter = world.build("lax", detached_start=True)
    wire = world.wire(counter)
    wire.hold()
    await world.start(counter)
    assert "starting" == counter.statistics().state
    assert "starting" in repr(counter)
    await trio.sleep(1.0)
    assert "starting" == counter.statistics().state
    wire.release()
    await counter.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert "running" == counter.statistics().state


async def test_a_detached_counter_inherits(world: World) -> None:
    """What it has counted meanwhile comes on top of what its predecessor has left."""
    observer = await world.strict()
    first = await world.lax(instance_id="me", on_exit="linger")
    first.inc_nowait("k", 3)
    await first.aclose()
    counter = world.build("lax", instance_id="me", inherit=True, detached_start=True)
    world.wire(counter).hold()
    await world.start(counter)
    counter.inc_nowait("k", 4)
    world.wire(counter).release()
    await counter.flush()
    assert (7, 0) == await observer.get("k")
    assert (7, 7) == await world.value(counter, "k")


@pytest.mark.parametrize("trouble", ["away", "drop_request", "drop_reply"])
async def test_a_detached_counter_begins_to_load_again_after_trouble(
    world: World, trouble: str
) -> None:
    """The next answer may be another server's, which reads the cursor differently."""
    observer = await world.strict()
    first = await world.strict(instance_id="me", on_exit="linger")
    for part in range(3):
        await first.set_all({f"k{part}.{number}": 1 for number in range(900)})
    await first.aclose()
    counter = world.build("lax", instance_id="me", inherit=True, detached_start=True)
    getattr(world.wire(counter), trouble)(when=lambda request: getattr(request, "cursor", ""))
    await world.start(counter)
    counter.inc_nowait("k0.0", 4)
    await counter.flush()
    pages = [r for r in world.wire(counter).requests if isinstance(r, Load)]
    assert ["", True, ""] == [pages[0].cursor, pages[1].cursor != "", pages[2].cursor]
    assert pages[0].seq == pages[1].seq < pages[2].seq
    assert (5, 0) == await observer.get("k0.0")
    assert (1, 0) == await observer.get("k2.899")


class Dropped(Link):
    """A link on the connection of others, who drop it once, between two pages of what is loaded.

    A cursor means something to the server that gave it only: to another one it says the end.
    """

    def __init__(self, inner: Link) -> None:
        self.inner = inner
        self.pages: list[str] = []  # their cursors
        self.connection, self.given_on = 1, 0
        self.up, self.dropped = True, False

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.up:
            self.up, self.connection = True, self.connection + 1

    @property
    def connected(self) -> bool:
        return self.up

    async def receive(self, request: Request) -> Reply:
        if not self.up:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailableError("the connection was lost")
        if isinstance(request, Load):
            self.pages.append(request.cursor)
            if request.cursor and self.given_on != self.connection:
                await trio.lowlevel.checkpoint()
                return Loaded("", [])
        reply = await self.inner.exchange(request)
        if isinstance(reply, Loaded) and reply.cursor:
            self.given_on = self.connection
            self.up, self.dropped = self.dropped, True
        return reply


class DroppedStore(Store):
    """A store with one such link."""

    def __init__(self) -> None:
        self.memory = MemoryStore()

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        async with self.memory.link(prefix) as inner:
            self.made = Dropped(inner)
            yield self.made


@pytest.mark.parametrize("detached", [True, False], ids=["detached", "at once"])
async def test_an_heir_whose_connection_is_dropped_between_pages_inherits_all(
    detached: bool, autojump_clock: MockClock
) -> None:
    """Nothing was lost, but the new connection may lead to another server."""
    store = DroppedStore()
    first = LaxInstanceAwareCounter.open(
        "p", store.memory, instance_id="me", on_exit="linger", flush_interval=1000.0
    )
    async with first as predecessor:
        for number in range(1300):
            predecessor.inc_nowait(f"k{number}")
    async with LaxInstanceAwareCounter.open(
        "p", store, instance_id="me", inherit=True, detached_start=detached
    ) as heir:
        heir.inc_nowait("k0", 4)
        await heir.flush()
        assert ["", True] == [store.made.pages[0], store.made.pages[-1] != ""]
        assert 2 == store.made.pages.count("") == store.made.connection
        assert (5, 5) == await heir.get("k0")
        assert (1, 1) == await heir.get("k1299")


@pytest.mark.parametrize("detached", [True, False], ids=["detached", "at once"])
async def test_an_heir_whose_namespace_moves_between_pages_inherits_all(
    world: World, detached: bool
) -> None:
    """To the server that has it now the cursor means nothing; the start does not fail for it."""
    first = await world.lax(instance_id="me", on_exit="linger")
    for number in range(1300):
        first.inc_nowait(f"k{number}")
    await first.aclose()
    counter = world.build("lax", instance_id="me", inherit=True, detached_start=detached)
    moved = CursorLostError("the namespace is at another server now")
    wire = world.wire(counter)
    wire.answer(moved, executed=False, when=lambda request: getattr(request, "cursor", ""))
    await world.start(counter)
    counter.inc_nowait("k0", 4)
    await counter.flush()
    pages = [request for request in wire.requests if isinstance(request, Load)]
    assert ["", True, ""] == [pages[0].cursor, pages[1].cursor != "", pages[2].cursor]
    assert pages[1].seq < pages[2].seq
    assert 0 == counter.statistics().outages
    assert (5, 5) == await world.value(counter, "k0")
    assert (1, 1) == await world.value(counter, "k1299")


async def test_an_heir_whose_connection_breaks_behind_each_first_page_fails(world: World) -> None:
    """Each time it begins anew, so the pages before are no progress."""
    first = await world.lax(instance_id="me", on_exit="linger")
    for number in range(1300):
        first.inc_nowait(f"k{number}")
    await first.aclose()
    counter = world.build("lax", instance_id="me", inherit=True)
    world.wire(counter).delay(0.001)
    world.wire(counter).drop_reply(None, when=lambda request: getattr(request, "cursor", ""))
    with trio.fail_after(60), pytest.raises(StoreUnavailableError):
        await counter.run()


async def test_an_heir_who_is_refused_between_pages_begins_to_load_anew(world: World) -> None:
    """Others may have made the connection again when it goes on, and to another server."""
    first = await world.lax(instance_id="me", on_exit="linger")
    for number in range(1300):
        first.inc_nowait(f"k{number}")
    await first.aclose()
    counter = world.build("lax", instance_id="me", inherit=True, detached_start=True)
    wire = world.wire(counter)
    wire.answer(StoreError("OOM"), executed=False, when=lambda r: getattr(r, "cursor", ""))
    await world.start(counter)
    await world.sees(counter, "k1299", 1, 1)
    pages = [request for request in wire.requests if isinstance(request, Load)]
    assert ["", True, ""] == [pages[0].cursor, pages[1].cursor != "", pages[2].cursor]


async def test_a_namespace_that_keeps_moving_fails_the_start(world: World) -> None:
    first = await world.lax(instance_id="me", on_exit="linger")
    await first.inc("k")
    await first.aclose()
    counter = world.build("lax", instance_id="me", inherit=True)
    world.wire(counter).answer(
        CursorLostError("it moves"), None, executed=False, when=lambda r: isinstance(r, Load)
    )
    with pytest.raises(CursorLostError, match="it moves"):
        await counter.run()
    assert 3 == sum(isinstance(request, Load) for request in world.wire(counter).requests)


async def test_a_store_that_refuses_a_detached_start_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """With each heartbeat and each operation, as later; the counts stay, and it is logged once."""
    observer = await world.strict()
    counter = world.build("lax", detached_start=True)
    wire = world.wire(counter)
    wire.refuse(StoreError("the store refuses: NOAUTH"))
    await world.start(counter)
    counter.inc_nowait("k")
    await trio.sleep(10 * world.interval)
    assert 5 < wire.counts["refuse"] < 20
    with pytest.raises(StoreError, match="NOAUTH"):
        await counter.set("j", 1)
    with pytest.raises(StoreError, match="NOAUTH"):
        await counter.flush()
    assert (2, 2) == await counter.inc("k")
    assert ["ERROR"] == [record.levelname for record in caplog.records]
    wire.refuse(None)
    await trio.sleep(1.1 * world.interval)
    assert (2, 0) == await observer.get("k")
    assert "running" == counter.statistics().state


async def test_a_detached_start_under_a_taken_id_ends_the_counter(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``on_conflict="refuse"`` it ends as one that is superseded, and disturbs nobody."""
    holder = await world.lax(instance_id="me")
    holder.inc_nowait("k", 3)
    await holder.flush()
    counter = world.build("lax", instance_id="me", on_conflict="refuse", detached_start=True)
    world.tolerate(counter)
    world.wire(counter).hold()
    await world.start(counter)
    counter.inc_nowait("k")
    async with counter.watch("k") as channel:
        world.wire(counter).release()
        with pytest.raises(InstanceConflictError, match="nothing was changed"):
            await channel.receive()
    with pytest.raises(InstanceConflictError, match="on_conflict is 'refuse'"):
        await counter.set("k", 1)
    with pytest.raises(InstanceConflictError):
        counter.inc_nowait("k")
    assert "superseded" == counter.statistics().state
    assert "ERROR" in [record.levelname for record in caplog.records]
    assert (3, 3) == await world.value(holder, "k")


async def test_the_block_of_a_detached_counter_ends_with_the_conflict(world: World) -> None:
    """The body is cancelled; what is void is said."""
    await world.lax(instance_id="me")
    with pytest.raises(InstanceConflictError, match=r"refuse.*1 counts .* are void"):
        async with LaxInstanceAwareCounter.open(
            world.prefix,
            world.backend.store(),
            instance_id="me",
            on_conflict="refuse",
            detached_start=True,
            dead_instance_threshold=world.threshold,
        ) as counter:
            counter.inc_nowait("k")
            await trio.sleep_forever()


async def test_a_detached_counter_that_never_reached_its_store_says_so_at_the_end(
    world: World,
) -> None:
    """What could not be flushed is raised, and tried for no longer than ``exit_grace``."""
    wire = FaultyStore(world.backend.store())
    wire.cut()
    begun = trio.current_time()
    with pytest.raises(StoreUnavailableError, match="2 counts"):
        async with LaxInstanceAwareCounter.open(
            world.prefix, wire, detached_start=True, exit_grace=3.0
        ) as counter:
            counter.inc_nowait("k")
            counter.inc_nowait("j")
            await trio.sleep(10.0)
    assert 13.0 == pytest.approx(trio.current_time() - begun)
    assert "closed" == counter.statistics().state
    assert 2 == counter.statistics().pending_keys


async def test_a_detached_counter_with_nothing_to_say_ends_at_once(world: World) -> None:
    """A store that is away need not hear of one that it never knew and that counted nothing."""
    wire = FaultyStore(world.backend.store())
    wire.cut()
    begun = trio.current_time()
    async with LaxInstanceAwareCounter.open(world.prefix, wire, detached_start=True):
        await trio.sleep(10.0)
    assert 10.0 == pytest.approx(trio.current_time() - begun)


async def test_a_detached_counter_that_ends_soon_is_flushed(world: World) -> None:
    """It registers, flushes and leaves in its ``exit_grace``."""
    observer = await world.strict()
    tap = Tap(world.backend.store())
    async with LaxInstanceAwareCounter.open(
        world.prefix, tap, detached_start=True, on_exit="linger"
    ) as counter:
        counter.inc_nowait("k", 6)
    assert (6, 0) == await observer.get("k")
    async with LaxInstanceAwareCounter.open(world.prefix, tap, detached_start=True) as counter:
        counter.inc_nowait("k", 6)
    assert (6, 0) == await observer.get("k")


def test_only_lax_counters_start_detached() -> None:
    """A strict one has nothing to answer from."""
    with pytest.raises(TypeError, match="detached_start"):
        StrictInstanceAwareCounter("app", "memory://", detached_start=True)  # type: ignore[call-arg]
