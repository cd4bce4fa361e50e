"""How the public surface looks to a type checker; never run, checked by ``make types``.

A line that must be an error has an ignore for it: if it were none, the ignore would be
unused, which is an error too.
"""

from __future__ import annotations

from typing import Unpack, assert_type

import prometheus_client
import trio
from redis.asyncio import ConnectionPool

import distkit_actors
from distkit_actors import (
    AsyncCredentialProvider,
    BoundCounter,
    BoundLaxCounter,
    Change,
    CounterState,
    CounterStatistics,
    CounterValue,
    CredentialProvider,
    Eq,
    Fleet,
    FleetLimiter,
    FleetLimiterStatistics,
    FleetLimiterUsage,
    InstanceAwareCounter,
    InstanceInfo,
    LaxInstanceAwareCounter,
    LaxOptions,
    Lt,
    MemoryStore,
    OnConflict,
    OnExit,
    RedisStore,
    Store,
    StrictInstanceAwareCounter,
    StrictOptions,
    open_store,
)
from distkit_actors.abc import Apply, Entry, Kind, Namespace, Periods, Reply
from distkit_actors.opentelemetry import CounterInstruments
from distkit_actors.prometheus import CounterCollector


async def onlooker() -> None:
    """A fleet answers as a counter does."""
    async with Fleet.open("p", MemoryStore()) as fleet:
        assert_type(fleet, Fleet)
        assert_type(fleet.partitions, int)
        assert_type(await fleet.instances(), list[InstanceInfo])
        assert_type(await fleet.slices("k"), dict[str, int])
        assert_type(await fleet.keys(), list[str])
        assert_type(await fleet.get("k"), CounterValue)
        assert_type(await fleet.get_all(["k"]), dict[str, CounterValue])
        assert_type(await fleet.wait_until("k", Eq(0)), CounterValue)
        async with fleet.watch("k") as values:
            assert_type(values, trio.abc.ReceiveChannel[CounterValue])
        assert_type(await Fleet.prefixes("redis://localhost"), list[str])


async def generic(counter: InstanceAwareCounter) -> None:
    """Either kind serves where the base is asked for."""
    assert_type(await counter.inc("k"), CounterValue)
    assert_type(await counter.dec("k", 2), CounterValue)
    assert_type(await counter.get("k"), CounterValue)
    assert_type(await counter.set("k", 1), CounterValue)
    assert_type(await counter.set_on_instance("k", 1), CounterValue)
    assert_type(await counter.delete("k"), CounterValue)
    assert_type(await counter.delete_on_instance("k"), CounterValue)
    await counter.clear()
    await counter.clear_on_instance()
    assert_type(counter.bind("k"), BoundCounter)
    assert_type(counter.statistics(), CounterStatistics)
    assert_type(counter.own_slices(), dict[str, int])
    assert_type(counter.statistics().state == "away", bool)
    assert_type(counter.prefix, str)
    assert_type(counter.instance_id, str)
    cumulative, own = await counter.get("k")
    assert_type(cumulative, int)
    assert_type(own, int)


async def several(counter: InstanceAwareCounter) -> None:
    """Operations on several keys take mappings and give dicts."""
    assert_type(await counter.inc_all({"k": 1}), dict[str, CounterValue])
    assert_type(await counter.set_all({"k": 1}), dict[str, CounterValue])
    assert_type(await counter.set_all_on_instance({}), dict[str, CounterValue])
    assert_type(await counter.get_all(["k"]), dict[str, CounterValue])
    assert_type(await counter.get_all({"k": 1}.keys()), dict[str, CounterValue])
    assert_type(await counter.get_all_on_instance(key for key in "kj"), dict[str, int])
    assert_type(await counter.inc_all_if({"k": (Lt(5), 1)}), dict[str, Change])
    assert_type(await counter.set_all_if({"k": (Eq(5), 1)}), dict[str, Change])
    assert_type(await counter.set_all_on_instance_if({"k": (Eq(5), 1)}), dict[str, Change])


async def conditional(counter: InstanceAwareCounter) -> None:
    """A conditional operation says what was, what is, and whether it applied."""
    change = await counter.inc_if("k", Lt(5))
    assert_type(change, Change)
    assert_type(change.previous, CounterValue)
    assert_type(change.current.cumulative, int)
    assert_type(change.applied, bool)
    assert_type(await counter.set_if("k", Eq(0), 5), Change)
    assert_type(await counter.set_on_instance_if("k", Eq(0), 5), Change)
    assert_type(Lt(5).holds(4), bool)
    Lt(5).value = 4  # type: ignore[misc]
    Lt("5")  # type: ignore[arg-type]


async def held(counter: InstanceAwareCounter) -> None:
    """A hold gives the value; a look gives plain collections."""
    async with counter.hold("k") as value, counter.hold("k", 2, limit=10):
        assert_type(value, CounterValue)
    assert_type(await counter.instances(), list[InstanceInfo])
    for info in await counter.instances():
        assert_type(info.label, str | None)
        assert_type(info.host, str | None)
        assert_type(info.pid, int | None)
        assert_type(info.version, str | None)
        assert_type(info.started_at, float | None)
    assert_type((await counter.instances())[0].heartbeat_age, float)
    assert_type(await counter.slices("k"), dict[str, int])
    assert_type(await counter.keys(), list[str])
    await counter.forget("instance")


async def bound(counter: InstanceAwareCounter, lax: LaxInstanceAwareCounter) -> None:
    """A handle has the same, without the key."""
    for handle in (counter.bind("k"), lax.bind("k")):
        assert_type(await handle.inc(), CounterValue)
        assert_type(await handle.inc_if(Lt(5)), Change)
        assert_type(await handle.set_if(Eq(0), 5), Change)
        assert_type(await handle.set_on_instance_if(Eq(0), 5), Change)
        async with handle.hold(2, limit=10) as value:
            assert_type(value, CounterValue)
        assert_type(await handle.slices(), dict[str, int])


async def embedded(nursery: trio.Nursery) -> None:
    """`nursery.start` gives the counter; a block gives its own class."""
    strict = StrictInstanceAwareCounter("app", MemoryStore())
    await nursery.start(strict.run)
    await generic(strict)
    async with StrictInstanceAwareCounter.open("app", "memory://", exit_grace=1.0) as opened:
        assert_type(opened, StrictInstanceAwareCounter)
    async with LaxInstanceAwareCounter.open(
        "app",
        "memory://",
        allowed_lag=0.1,
        instance_id="slot 1",
        on_conflict="refuse",
        start_grace=1,
        detached_start=True,
        label="web",
    ) as lax:
        assert_type(lax, LaxInstanceAwareCounter)
        assert_type(lax.strict, StrictInstanceAwareCounter)
        assert_type(lax.strict.strict, StrictInstanceAwareCounter)
        assert_type(lax.strict.bind("k"), BoundCounter)
        lax.inc_nowait("k")
        assert_type(lax.get_nowait("k"), CounterValue)
        assert_type(lax.age("k"), float)
        assert_type(lax.bind("k").age(), float)
        assert_type(lax.bind("k"), BoundLaxCounter)
        await lax.flush()
        await generic(lax)


async def limits(counter: InstanceAwareCounter) -> None:
    """A limiter takes either kind, and looks like trio's."""
    limiter = FleetLimiter(counter, "k", 5)
    async with limiter as nothing:
        assert_type(nothing, None)
    await limiter.acquire()
    limiter.release()
    limiter.acquire_nowait()
    await limiter.acquire_on_behalf_of("anything hashable")
    limiter.acquire_on_behalf_of_nowait(1)
    limiter.release_on_behalf_of(1)
    assert_type(limiter.total_tokens, int)
    assert_type(limiter.borrowed_tokens, int)
    assert_type(limiter.statistics(), FleetLimiterStatistics)
    assert_type(limiter.statistics().borrowers, tuple[object, ...])
    FleetLimiter(counter, "k", "5")  # type: ignore[arg-type]
    limiter.total_tokens = 6
    limiter.total_tokens = "6"  # type: ignore[assignment]
    assert_type(limiter.available_tokens, int)
    await limiter.acquire(2)
    limiter.acquire_nowait(2)
    await limiter.acquire_on_behalf_of(1, 2)
    limiter.acquire_on_behalf_of_nowait(1, 2)
    assert_type(await limiter.fleet_usage(), FleetLimiterUsage)
    assert_type(FleetLimiter(counter, "k", 1, fencing=True).fencing_number(), int)
    assert_type(limiter.fencing_number_of(1), int)
    view: trio.CapacityLimiter = limiter.as_capacity_limiter()
    assert_type(await trio.to_thread.run_sync(int, limiter=view), int)


def strict_of_ours(**options: Unpack[StrictOptions]) -> StrictInstanceAwareCounter:
    """Options are passed on as they are."""
    return StrictInstanceAwareCounter("app", "memory://", **options)


async def lax_of_ours(**options: Unpack[LaxOptions]) -> None:
    """To a block, too."""
    async with LaxInstanceAwareCounter.open("app", "memory://", **options) as counter:
        assert_type(counter, LaxInstanceAwareCounter)


async def options() -> None:
    """Each has the type that the constructor gives it."""
    on_exit: OnExit = "linger"
    on_conflict: OnConflict = "refuse"
    strict = strict_of_ours(on_exit=on_exit, on_conflict=on_conflict, heartbeat_interval=None)
    state: CounterState = strict.statistics().state
    assert_type(state == "away", bool)
    await lax_of_ours(on_exit=on_exit, flush_interval=0.1)
    strict_of_ours(flush_interval=0.1)  # type: ignore[call-arg]
    StrictInstanceAwareCounter.open("app", "memory://", flush_interval=0.1)  # type: ignore[call-arg]
    LaxInstanceAwareCounter.open("app", "memory://", on_exit="stay")  # type: ignore[arg-type]
    assert_type(distkit_actors.__version__, str)


class Vault:
    """Whatever has the method is a provider."""

    def get_credentials(self) -> tuple[str, str]:
        """Return a user name and a password."""
        return "name", "password"


class AsyncVault:
    """So is whatever has the other one."""

    async def get_credentials_async(self) -> tuple[str]:
        """Return a password."""
        return ("password",)


def stores() -> None:
    """Stores and their options."""
    assert_type(open_store("memory://"), Store)
    assert_type(open_store("memory://", partitions=4).partitions, int)
    assert_type(MemoryStore(partitions=4).part(3), Store)
    RedisStore("redis://", partitions=16)
    RedisStore("redis://", partitions="16")  # type: ignore[arg-type]
    MemoryStore(4)  # type: ignore[call-arg]
    RedisStore("redis://", response_timeout=1.0)
    RedisStore("rediss://", ssl_ca_certs="ca.pem", ssl_check_hostname=False)
    RedisStore("rediss://", ssl_ca_certs=5)  # type: ignore[arg-type]
    RedisStore.from_pool(ConnectionPool(), response_timeout=1.0, partitions=4)
    provider: CredentialProvider = Vault()
    other: AsyncCredentialProvider = AsyncVault()
    RedisStore("redis://", credential_provider=provider)
    RedisStore("redis://", credential_provider=other)
    RedisStore("redis://", credential_provider=Vault)  # type: ignore[arg-type]


def reference() -> None:
    """What a store may run; `docs/examples/own_store.py` is one that does."""
    request = Apply("me", 1, 1, 0, Periods(30, 10, 90), [Entry(Kind.ADD, "k", 1)])
    assert_type(Namespace().execute(request, 0), Reply)
    Namespace().execute("request", 0)  # type: ignore[arg-type]


async def mistakes(strict: StrictInstanceAwareCounter, lax: LaxInstanceAwareCounter) -> None:
    """What must not pass."""
    await strict.inc(1)  # type: ignore[arg-type]
    await strict.inc("k", "1")  # type: ignore[arg-type]
    await strict.flush()  # type: ignore[attr-defined]
    lax.inc_nowait("k", 1.5)  # type: ignore[arg-type]
    await strict.get("k", timeout=1)  # type: ignore[call-arg]
    await strict.inc_all(["k"])  # type: ignore[arg-type]
    await strict.inc_all_if({"k": Lt(5)})  # type: ignore[dict-item]
    await strict.inc_if("k", lambda value: value < 5)  # type: ignore[arg-type]
    await strict.set_if("k", Lt(5))  # type: ignore[call-arg]
    await strict.hold("k")  # type: ignore[misc]
    Lt("5")  # type: ignore[arg-type]
    InstanceAwareCounter("app", "memory://")  # type: ignore[abstract]
    RedisStore("redis://", transport="asyncio")  # type: ignore[call-arg]
    RedisStore.from_pool("redis://")  # type: ignore[arg-type]
    StrictInstanceAwareCounter("app", "memory://", on_exit="stay")  # type: ignore[arg-type]
    StrictInstanceAwareCounter("app", "memory://", on_conflict="wait")  # type: ignore[arg-type]
    StrictInstanceAwareCounter("app", None)  # type: ignore[arg-type]


def monitoring(counter: LaxInstanceAwareCounter) -> None:
    collector = CounterCollector(counter, keys=["k"], max_keys=5)
    prometheus_client.REGISTRY.register(collector)
    collector.add(counter)
    collector.add("app")  # type: ignore[arg-type]
    instruments = CounterInstruments(counter, meter_provider=None)
    instruments.add(counter)
    CounterInstruments(keys=5)  # type: ignore[arg-type]
