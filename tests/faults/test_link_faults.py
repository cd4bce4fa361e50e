"""Whatever the network does, every operation takes effect exactly once."""

import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

import pytest
import trio

from distkit_actors import (
    Change,
    CounterValue,
    Eq,
    LaxInstanceAwareCounter,
    Le,
    Lt,
    StrictInstanceAwareCounter,
)
from tests.faults.fleet import (
    HEARTBEAT,
    OPEN,
    RESPONSE_TIMEOUT,
    SLACK,
    THRESHOLD,
    UNHURRIED,
    Counter,
    Kind,
    lax,
    proxied,
    settle,
    strict,
    until,
)
from tests.faults.lens import Lens
from tests.harness.faults import anything
from tests.harness.logs import events
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer

Slices = dict[str, int]


@dataclass(frozen=True)
class Operation:
    """What to do on a scene where a has 5 of k, −3 of l and b has 7 of k, 2 of l."""

    act: Callable[[Counter], Awaitable[object]]
    value: object
    mine: Slices
    theirs: Slices


#: Seconds for which a counter waits for an answer, in scenes in which it has to give up.
PATIENCE = 0.15
SILENT = frozenset({"reply later than the timeout", "reply never comes", "applied"})

MINE, THEIRS = {"k": 5, "l": -3}, {"k": 7, "l": 2}


def change(current: tuple[int, int] | None) -> Change:
    """Return what becomes of k, or that nothing does."""
    return Change(CounterValue(12, 5), CounterValue(*current or (12, 5)), current is not None)


async def enter(counter: Counter, limit: int) -> object:
    """Begin a hold that does not end."""
    return await counter.hold("k", 2, limit).__aenter__()


OPERATIONS = {
    "inc": Operation(lambda c: c.inc("k", 2), (14, 7), {"k": 7, "l": -3}, THEIRS),
    "dec": Operation(lambda c: c.dec("k", 9), (3, -4), {"k": -4, "l": -3}, THEIRS),
    "set": Operation(lambda c: c.set("k", 100), (100, 100), {"k": 100, "l": -3}, {"l": 2}),
    "delete": Operation(lambda c: c.delete("k"), (12, 5), {"l": -3}, {"l": 2}),
    "clear": Operation(lambda c: c.clear(), None, {}, {}),
    "set_on_instance": Operation(
        lambda c: c.set_on_instance("k", -1), (6, -1), {"k": -1, "l": -3}, THEIRS
    ),
    "delete_on_instance": Operation(lambda c: c.delete_on_instance("k"), (7, 5), {"l": -3}, THEIRS),
    "clear_on_instance": Operation(lambda c: c.clear_on_instance(), None, {}, THEIRS),
    "get": Operation(lambda c: c.get("k"), (12, 5), MINE, THEIRS),
    "inc_all": Operation(
        lambda c: c.inc_all({"k": 2, "l": 1}),
        {"k": (14, 7), "l": (0, -2)},
        {"k": 7, "l": -2},
        THEIRS,
    ),
    "set_all": Operation(
        lambda c: c.set_all({"k": 1, "l": 2}), {"k": (1, 1), "l": (2, 2)}, {"k": 1, "l": 2}, {}
    ),
    "inc_if": Operation(
        lambda c: c.inc_if("k", Le(12), 2), change((14, 7)), {"k": 7, "l": -3}, THEIRS
    ),
    "inc_if that does not apply": Operation(
        lambda c: c.inc_if("k", Lt(12), 2), change(None), MINE, THEIRS
    ),
    "set_if": Operation(
        lambda c: c.set_if("k", Eq(12), 9), change((9, 9)), {"k": 9, "l": -3}, {"l": 2}
    ),
    "hold": Operation(lambda c: enter(c, 14), (14, 7), {"k": 7, "l": -3}, THEIRS),
}


def _several(proxy: FaultProxy) -> None:
    proxy.late_copy(None)
    proxy.drop_reply()
    proxy.drop_request()
    proxy.cut_reply_midframe()


#: By name: how to arm the proxy, and what it counts once the fault has struck.
FAULTS: dict[str, tuple[Callable[[FaultProxy], None], str]] = {
    "request dropped": (lambda p: p.drop_request(), "drop_request"),
    "reply dropped": (lambda p: p.drop_reply(), "drop_reply"),
    "delayed": (lambda p: p.delay(0.05), "delay"),
    "reply later than the timeout": (lambda p: p.delay_reply(2 * PATIENCE), "delay_reply"),
    "duplicated": (lambda p: p.duplicate(), "duplicate"),
    "copy arrives a moment later": (lambda p: p.late_copy(0.01), "late_copy"),
    "copy arrives at the end": (lambda p: p.late_copy(None), "late_copy"),
    "reply cut in the middle": (lambda p: p.cut_reply_midframe(), "cut_reply_midframe"),
    "reply never comes": (lambda p: p.hang_reply(), "hang_reply"),
    "reply dropped thrice": (lambda p: p.drop_reply(3), "drop_reply"),
    "one after the other": (_several, "cut_reply_midframe"),
}

#: One that adds, one that moves, one that decides and one that is to be taken back.
#: In memory, `tests/behaviour` has every operation meet every fault.
EACH_KIND = ("inc", "set", "inc_if", "hold")
#: These leave it in doubt whether the store has executed a request.
DOUBT = ("reply dropped", "one after the other")


def _met(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return who meets which fault: each kind all of them, and each operation what casts doubt."""
    every = itertools.product(names, FAULTS)
    return [(name, fault) for name, fault in every if name in EACH_KIND or fault in DOUBT]


@dataclass
class Scene:
    """Two counters, one of them behind a faulty network."""

    a: Counter
    b: StrictInstanceAwareCounter
    proxy: FaultProxy
    lens: Lens

    def expect(self, mine: Slices, theirs: Slices) -> None:
        snapshot = self.lens.look()
        assert snapshot.of(self.a.instance_id) == mine
        assert snapshot.of(self.b.instance_id) == theirs
        snapshot.check()


async def _scene(
    kind: Kind, server: RedisServer, proxy: FaultProxy, prefix: str, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    # Only where it matters: a busy machine may miss a short timeout, and spoil the plan.
    silent = SILENT.intersection(map(str, request.node.callspec.params.values()))
    patience = PATIENCE if silent else 5.0
    async with (
        OPEN[kind](proxy.url, prefix, threshold=UNHURRIED, response_timeout=patience) as a,
        strict(server.url, prefix, threshold=UNHURRIED, response_timeout=5.0) as b,
    ):
        scene = Scene(a, b, proxy, Lens(server, prefix))
        for counter, slices in ((a, MINE), (b, THEIRS)):
            for key, count in slices.items():
                await counter.inc(key, count)
            await settle(counter)
        await trio.sleep(0.03)  # a lax counter may otherwise answer from before
        for key in MINE:
            await a.get(key)
        yield scene


@pytest.fixture
async def strict_scene(
    redis_server: RedisServer,
    proxy: FaultProxy,
    fresh_prefix: str,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Scene]:
    """A strict counter behind the proxy, and one beside it."""
    async for scene in _scene("strict", redis_server, proxy, fresh_prefix, request):
        yield scene


@pytest.fixture
async def lax_scene(
    redis_server: RedisServer,
    proxy: FaultProxy,
    fresh_prefix: str,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Scene]:
    """A lax counter behind the proxy, and a strict one beside it."""
    async for scene in _scene("lax", redis_server, proxy, fresh_prefix, request):
        yield scene


def _plus(slices: Slices, key: str, count: int) -> Slices:
    total = slices.get(key, 0) + count
    rest = {name: value for name, value in slices.items() if name != key}
    return rest | {key: total} if total else rest


@pytest.mark.parametrize(("name", "fault"), _met(OPERATIONS))
async def test_strict_operation_takes_effect_exactly_once(
    name: str, fault: str, strict_scene: Scene
) -> None:
    """The value returned is right, and so is what the store holds, now and after late copies."""
    scene, operation = strict_scene, OPERATIONS[name]
    arm, counted = FAULTS[fault]
    arm(scene.proxy)
    with trio.fail_after(5):
        assert await operation.act(scene.a) == operation.value
    with trio.fail_after(5):  # the second reply to a duplicate comes after the first
        await scene.proxy.wait_for(counted)
    scene.expect(operation.mine, operation.theirs)
    total = operation.mine.get("k", 0) + operation.theirs.get("k", 0)
    assert (await scene.b.get("k")).cumulative == total
    own = operation.mine.get("k", 0)
    assert await scene.a.inc("k", 3) == (total + 3, own + 3)
    await scene.proxy.release_late_copies()
    if fault == "copy arrives a moment later":
        with trio.fail_after(5):
            await scene.proxy.wait_for("late_copy_delivered")
    scene.expect(_plus(operation.mine, "k", 3), operation.theirs)
    assert await scene.a.dec("k", 3) == (total, own)


@pytest.mark.parametrize("fault", FAULTS)
async def test_lax_flush_takes_effect_exactly_once(fault: str, lax_scene: Scene) -> None:
    """Counts made before and during a flush that fails arrive once, and reads never dip."""
    scene = lax_scene
    counter = scene.a
    assert isinstance(counter, LaxInstanceAwareCounter)
    arm, counted = FAULTS[fault]
    arm(scene.proxy)
    for key, count in (("k", 2), ("l", -4), ("new", 6)):
        counter.inc_nowait(key, count)
    seen = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counter.flush)
            for _ in range(10):
                counter.inc_nowait("k", 1)
                seen.append(counter.get_nowait("k"))
                await trio.sleep(0.002)
    assert seen == [(14 + n, 7 + n) for n in range(1, 11)]
    with trio.fail_after(5):
        await counter.flush()
        while scene.proxy.armed:  # so few requests do not meet every fault of a long plan
            counter.inc_nowait("spare")
            await counter.flush()
            counter.inc_nowait("spare", -1)
            await counter.flush()
    with trio.fail_after(5):  # the second reply to a duplicate comes after the first
        await scene.proxy.wait_for(counted)
    scene.expect({"k": 17, "l": -7, "new": 6}, THEIRS)
    await scene.proxy.release_late_copies()
    if fault == "copy arrives a moment later":
        with trio.fail_after(5):
            await scene.proxy.wait_for("late_copy_delivered")
    scene.expect({"k": 17, "l": -7, "new": 6}, THEIRS)
    assert await scene.b.get("k") == (24, 7)


#: What comes of an operation that finds 2 more of k, counted here and not sent yet.
LAX_OPERATIONS = {
    "set": Operation(lambda c: c.set("k", 100), (100, 100), {"k": 100, "l": -3}, {"l": 2}),
    "delete": Operation(lambda c: c.delete("k"), (14, 7), {"l": -3}, {"l": 2}),
    "clear": Operation(lambda c: c.clear(), None, {}, {}),
    "set_on_instance": Operation(
        lambda c: c.set_on_instance("k", -1), (6, -1), {"k": -1, "l": -3}, THEIRS
    ),
    "delete_on_instance": Operation(lambda c: c.delete_on_instance("k"), (7, 7), {"l": -3}, THEIRS),
    "clear_on_instance": Operation(lambda c: c.clear_on_instance(), None, {}, THEIRS),
}


@pytest.mark.parametrize(("name", "fault"), _met(LAX_OPERATIONS))
async def test_lax_immediate_operation_takes_effect_exactly_once(
    name: str, fault: str, lax_scene: Scene
) -> None:
    """It finds the counts made before it, and those made while it waits outlive it."""
    scene, operation = lax_scene, LAX_OPERATIONS[name]
    counter = scene.a
    assert isinstance(counter, LaxInstanceAwareCounter)
    arm, _ = FAULTS[fault]
    arm(scene.proxy)
    counter.inc_nowait("k", 2)
    with trio.fail_after(5):
        assert await operation.act(counter) == operation.value
        counter.inc_nowait("k", 3)
        await counter.flush()
    mine = _plus(operation.mine, "k", 3)
    scene.expect(mine, operation.theirs)
    await scene.proxy.release_late_copies()
    if fault == "copy arrives a moment later" and scene.proxy.counts["late_copy"]:
        with trio.fail_after(5):
            await scene.proxy.wait_for("late_copy_delivered")
    scene.expect(mine, operation.theirs)
    own = mine.get("k", 0)
    assert await counter.get("k") == (own + operation.theirs.get("k", 0), own)


@pytest.mark.parametrize("name", EACH_KIND)
async def test_operation_survives_a_refusing_network(name: str, strict_scene: Scene) -> None:
    """An operation on its way when the network breaks down is done when it is back."""
    scene, operation = strict_scene, OPERATIONS[name]
    scene.proxy.delay_reply(1.0)
    results: list[object] = []

    async def act() -> None:
        results.append(await operation.act(scene.a))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(act)
            await scene.proxy.wait_for("delay_reply")
            scene.proxy.refuse()
            await trio.sleep(0.1)
            assert not results
            scene.proxy.accept()
    assert results == [operation.value]
    scene.expect(operation.mine, operation.theirs)


@pytest.mark.parametrize("when", ["not sent yet", "on the wire", "applied"])
@pytest.mark.parametrize("name", [*EACH_KIND, "clear", "inc_all"])
async def test_cancelled_caller_leaves_at_once_and_harms_nobody(
    name: str, when: str, strict_scene: Scene
) -> None:
    """It happened once or not at all, before anything sent later, and others get their values."""
    scene, operation = strict_scene, OPERATIONS[name]
    results: list[object] = []

    async def other() -> None:
        results.append(await scene.a.inc("other", 9))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            if when == "not sent yet":
                scene.proxy.pause()
                nursery.start_soon(other)
                await trio.sleep(0.02)
            elif when == "on the wire":
                scene.proxy.pause()
            else:
                scene.proxy.hang_reply()
            start = trio.current_time()
            with trio.move_on_after(0.05) as scope:
                await operation.act(scene.a)
            assert scope.cancelled_caught
            assert trio.current_time() - start < 0.05 + 2 * SLACK
            if when != "not sent yet":
                nursery.start_soon(other)
            await trio.sleep(0.02)
            scene.proxy.resume()
        after = await scene.a.get("k")
    assert results == [(9, 9)] if name != "clear" else results in ([(9, 9)], [(0, 0)])
    mine = _plus(operation.mine, "other", 9)
    if when == "not sent yet" or scene.lens.look().of(scene.a.instance_id) != mine:
        mine, theirs = _plus(MINE, "other", 9), THEIRS
    else:
        theirs = operation.theirs
    scene.expect(mine, theirs)
    assert after == (mine.get("k", 0) + theirs.get("k", 0), mine.get("k", 0))


CUTS: dict[str, tuple[Callable[[FaultProxy], None], Callable[[FaultProxy], None]]] = {
    "refused": (FaultProxy.refuse, FaultProxy.accept),
    "paused": (FaultProxy.pause, FaultProxy.resume),
}


@pytest.mark.parametrize(
    ("first", "cut"),
    [
        ("operation", "paused"),
        ("operation", "refused"),
        ("flush", "paused"),
        ("heartbeat", "refused"),
    ],
)
async def test_cut_off_past_the_threshold_gets_every_slice_back(
    first: str, cut: str, redis_server: RedisServer, proxy: FaultProxy, fresh_prefix: str
) -> None:
    """Negative ones and untouched keys too, whatever comes first, but not keys that moved."""
    sever, mend = CUTS[cut]
    kind: Kind = "lax" if first == "flush" else "strict"
    lens = Lens(redis_server, fresh_prefix)
    async with (
        OPEN[kind](proxy.url, fresh_prefix) as a,
        strict(redis_server.url, fresh_prefix) as b,
    ):
        slices = {"k": 5, "negative": -3, "untouched": 11, "moved": 70}
        for key, count in slices.items():
            await a.inc(key, count)
            await b.inc(key, 1)
        await settle(a)
        results: list[object] = []

        async def operate() -> None:
            results.append(await a.inc("k", 2))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                sever(proxy)
                await trio.sleep(HEARTBEAT / 4)
                if first == "operation":
                    nursery.start_soon(operate)
                elif isinstance(a, LaxInstanceAwareCounter):
                    a.inc_nowait("k", 2)
                await until(lambda: not lens.look().of(a.instance_id), 10)
                assert await b.get("k") == (1, 1)
                assert await b.set("moved", 50) == (50, 50)
                mend(proxy)
            expected = {"k": 5 if first == "heartbeat" else 7, "negative": -3, "untouched": 11}
            await until(
                lambda: lens.look().of(a.instance_id) == expected,
                2 * RESPONSE_TIMEOUT + 2 * HEARTBEAT + SLACK,
            )
            if results:
                assert results == [(8, 7)]
            for key, count in expected.items():
                assert await b.get(key) == (count + 1, 1)
                assert await a.get(key) == (count + 1, count)
            assert await a.get("moved") == (50, 0)
            assert await a.inc("moved", 1) == (51, 1)
            await settle(a)
        lens.look().check()


async def test_whose_answers_are_lost_lives_as_its_requests_arrive(
    redis_server: RedisServer, proxy: FaultProxy, fresh_prefix: str
) -> None:
    """A batch that is sent once more is a sign of life, and counts once."""
    lens = Lens(redis_server, fresh_prefix)
    async with (
        OPEN["lax"](proxy.url, fresh_prefix) as a,
        strict(redis_server.url, fresh_prefix) as b,
    ):
        assert isinstance(a, LaxInstanceAwareCounter)
        await a.inc("k", 5)
        await settle(a)
        proxy.hang_reply(None, when=anything)
        a.inc_nowait("k", 2)
        await until(lambda: lens.look().of(a.instance_id) == {"k": 7}, 10)
        end = trio.current_time() + 3 * THRESHOLD
        while trio.current_time() < end:
            assert await b.get("k") == (7, 0)
            await trio.sleep(HEARTBEAT / 2)
        proxy.disarm()
        await settle(a)
        assert await b.get("k") == (7, 0)
    lens.look().check()


#: Ways in which nobody is heard by anybody.
OUTAGES = CUTS | {
    "never answered": (lambda p: p.hang_reply(None, when=anything), FaultProxy.disarm),
}


@pytest.mark.parametrize("cut", OUTAGES)
async def test_outage_of_twice_the_threshold_shows_no_dip(
    cut: str, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """If nobody can reach the store, whoever is back first reaps nobody (I5)."""
    sever, mend = OUTAGES[cut]
    seen: list[int] = []
    async with (
        proxied(redis_server) as near,
        proxied(redis_server) as far,
        strict(near.url, fresh_prefix) as a,
        lax(far.url, fresh_prefix) as b,
        strict(far.url, fresh_prefix) as idle,
    ):
        for counter in (a, b, idle):
            await counter.inc("k", 10)
            await settle(counter)

        async def watch(counter: Counter) -> None:
            while True:
                seen.append((await counter.get("k")).cumulative)
                await trio.sleep(0.01)

        with trio.fail_after(10):
            await until(lambda: Lens(redis_server, fresh_prefix).look().sums == {"k": 30}, 1)
            for counter in (a, b, idle):
                await trio.sleep(0.03)
                assert (await counter.get("k")).cumulative == 30
            async with trio.open_nursery() as nursery:
                for counter in (a, b, idle):
                    nursery.start_soon(watch, counter)
                sever(near)
                sever(far)
                await trio.sleep(2 * THRESHOLD)
                mend(near)
                await trio.sleep(HEARTBEAT)  # the other is still on its way back
                mend(far)
                await trio.sleep(THRESHOLD + HEARTBEAT)
                enough = len(seen) + 10
                await until(lambda: len(seen) >= enough, 5)
                nursery.cancel_scope.cancel()
    assert set(seen) == {30}


async def test_outage_is_logged_once_and_tried_at_a_bounded_pace(
    redis_server: RedisServer,
    proxy: FaultProxy,
    fresh_prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Retries come often enough for a fresh threshold, and no more often than that."""
    caplog.set_level(logging.INFO, "distkit_actors")
    async with strict(proxy.url, fresh_prefix, response_timeout=5.0) as counter:
        await counter.inc("k", 5)
        connections = proxy.counts["connections"]
        proxy.drop_request(None, when=anything)
        proxy.cut_all()
        times = []
        with trio.move_on_after(4 * THRESHOLD):
            while True:
                await proxy.wait_for("connections", proxy.counts["connections"] + 1)
                times.append(trio.current_time())
        proxy.disarm()
        assert await counter.inc("k", 1) == (6, 6)
        assert counter.statistics().reconnects
    tries = proxy.counts["connections"] - connections
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) < HEARTBEAT / 2 + 2 * SLACK
    assert tries < 4 * THRESHOLD / (HEARTBEAT / 4) + 6
    assert events(caplog) == ["registered", "away", "back", "stopped"]


async def test_return_is_soon_after_an_outage_of_any_length(
    redis_server: RedisServer, proxy: FaultProxy, fresh_prefix: str
) -> None:
    """The pauses between tries grow, but not so far that a fresh threshold is slept through."""
    async with strict(proxy.url, fresh_prefix) as counter:
        await counter.inc("k", 5)
        for outage in (0.1, 1.0):
            proxy.refuse()
            await until(lambda: not counter.statistics().connected, 5)
            await trio.sleep(outage)
            proxy.accept()
            back = await until(lambda: counter.statistics().connected, 2)
            assert back < HEARTBEAT / 2 + 2 * SLACK
    assert counter.statistics().reconnects == 2


@pytest.mark.parametrize("fault", ["drop_request", "drop_reply"])
async def test_requests_that_never_come_through_do_not_hammer_the_store(
    fault: str, redis_server: RedisServer, proxy: FaultProxy, fresh_prefix: str
) -> None:
    """Connections that can be made but do not last are made at the pace of a backoff, too."""
    async with strict(proxy.url, fresh_prefix) as counter:
        await counter.inc("k", 5)
        connections = proxy.counts["connections"]
        getattr(proxy, fault)(None)
        await trio.sleep(2 * THRESHOLD)
        tries = proxy.counts["connections"] - connections
        proxy.disarm()
        with trio.fail_after(2):
            assert await counter.inc("k", 1) == (6, 6)
    assert tries < 2 * THRESHOLD / (HEARTBEAT / 4) + 6


async def test_waiting_operations_come_through_in_order_after_an_outage(
    redis_server: RedisServer, proxy: FaultProxy, fresh_prefix: str
) -> None:
    """A hundred callers that waited get the values of a hundred operations in turn."""
    values: list[int] = []
    async with strict(proxy.url, fresh_prefix, threshold=UNHURRIED) as counter:

        async def inc() -> None:
            values.append((await counter.inc("k", 1)).cumulative)

        with trio.fail_after(5):
            proxy.drop_reply(2)
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(inc)
                await proxy.wait_for("drop_reply")
                proxy.refuse()
                for _ in range(50):
                    nursery.start_soon(inc)
                await trio.sleep(0.1)
                proxy.accept()
        assert sorted(values) == list(range(1, 101))
        assert await counter.get("k") == (100, 100)


async def test_lax_counts_through_an_outage_without_the_store(
    redis_server: RedisServer, proxy: FaultProxy, fresh_prefix: str
) -> None:
    """Nothing waits for the store, and all of it arrives once, in one batch."""
    lens = Lens(redis_server, fresh_prefix)
    async with lax(proxy.url, fresh_prefix, threshold=UNHURRIED) as counter:
        counter.inc_nowait("k0", 1)
        await counter.flush()
        proxy.drop_reply()
        proxy.cut_all()
        counter.inc_nowait("k0", 1)
        await proxy.wait_for("drop_reply")  # in doubt when the outage begins
        proxy.refuse()
        for round_ in range(20):
            for key in range(50):
                counter.inc_nowait(f"k{key}", 1)
            assert counter.get_nowait("k0") == (3 + round_, 3 + round_)
            await trio.sleep(0.005)
        assert counter.statistics().pending_keys == 50
        scripts, connections = proxy.commands["EVALSHA"], proxy.counts["connections"]
        proxy.accept()
        with trio.fail_after(5):
            await counter.flush()
        # What was in doubt, and the rest; on a busy machine an answer may come too late.
        lost = proxy.counts["connections"] - connections - 1
        assert proxy.commands["EVALSHA"] - scripts <= 2 + lost
        assert lens.look().of(counter.instance_id) == {"k0": 22} | {
            f"k{key}": 20 for key in range(1, 50)
        }
