"""What a server refuses changes nothing, and is done when it is allowed again."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio

from distkit_actors import (
    FleetLimiter,
    Ge,
    RedisStore,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._fleet._audit import audit
from tests.faults import fleet
from tests.faults.fleet import (
    HEARTBEAT,
    PATIENCE,
    RESPONSE_TIMEOUT,
    SLACK,
    Counter,
    until,
)
from tests.faults.lens import Lens
from tests.faults.refusals import REFUSALS
from tests.harness.server import RedisServer

# An operation whose answer is late is in doubt, and a refusal of its repetition ends no doubt: it
# would wait until the store accepts again. So no answer here is late, however slow the machine is.
strict = partial(fleet.strict, response_timeout=30.0)
lax = partial(fleet.lax, response_timeout=30.0)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("reason", REFUSALS)
async def test_what_is_refused_changes_nothing(
    reason: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Strict operations get a `StoreError`; lax counts wait until they are allowed."""
    refusal = REFUSALS[reason]
    lens = Lens(own_redis, fresh_prefix)
    async with strict(own_redis.url, fresh_prefix) as a, lax(own_redis.url, fresh_prefix) as b:
        await a.inc("k", 5)
        b.inc_nowait("k", 7)
        await b.flush()
        await refusal.begin(own_redis)
        b.inc_nowait("k", 10)
        b.inc_nowait("l", 1)
        with trio.fail_after(PATIENCE):
            for operate in (a.inc, a.set, a.set_on_instance):
                with refusal.raised():
                    await operate("k", 1)
            with refusal.raised():
                await b.flush()
        b.inc_nowait("k", 100)
        await trio.sleep(HEARTBEAT)
        assert b.get_nowait("k").instance_count == 117
        assert b.statistics().pending_keys == 2
        await refusal.end(own_redis)
        with trio.fail_after(PATIENCE):
            took = await until(lambda: b.statistics().pending_keys == 0, 2)
            assert took < HEARTBEAT + SLACK
            await b.flush()
            assert await a.inc("k", 1) == (123, 6)
        snapshot = lens.look()
        assert snapshot.of(a.instance_id) == {"k": 6}
        assert snapshot.of(b.instance_id) == {"k": 117, "l": 1}
        snapshot.check()


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("reason", ["out of memory", "cannot save"])
async def test_check_says_that_a_store_takes_no_writes(
    reason: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    async with strict(own_redis.url, fresh_prefix):
        await REFUSALS[reason].begin(own_redis)
        found = await audit(fresh_prefix, RedisStore(own_redis.url))
        await REFUSALS[reason].end(own_redis)
    ((level, text),) = [(level, text) for level, about, text in found if about == "rights"]
    assert level == "wrong"
    assert REFUSALS[reason].message in text


def _at_once(counter: Counter) -> list[Callable[[], Awaitable[object]]]:
    """Return what needs the store's answer: on a strict counter everything."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: counter.set_all({"k": 1, "l": 1}),
        lambda: counter.inc_if("k", Ge(0), 1),
        lambda: counter.set_if("k", Ge(0), 1),
        lambda: counter.set_on_instance_if("k", Ge(0), 1),
        lambda: counter.inc_all_if({"k": (Ge(0), 1), "l": (Ge(0), 1)}),
        lambda: counter.hold("k", 1, limit=100).__aenter__(),
        FleetLimiter(counter, "tokens", 100).acquire,
    ]
    if isinstance(counter, StrictInstanceAwareCounter):
        calls += [
            lambda: counter.inc_all({"k": 1, "l": 1}),
            lambda: counter.set_all_on_instance({"k": 1, "l": 1}),
            lambda: counter.hold("k", 1).__aenter__(),
        ]
    return calls


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("reason", REFUSALS)
async def test_refused_batches_and_conditions_change_nothing_and_holds_end_all_the_same(
    reason: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """What was held before can be let go at any time; what is watched is heard of afterwards."""
    refusal = REFUSALS[reason]
    url, lens = own_redis.url, Lens(own_redis, fresh_prefix)
    async with strict(url, fresh_prefix) as a, lax(url, fresh_prefix) as b:
        limiters = [FleetLimiter(counter, "tokens", 3) for counter in (a, b)]
        async with AsyncExitStack() as held, a.watch("k") as seen, b.watch("k") as seen_by_b:
            assert await a.inc_all({"k": 5, "l": 1}) == {"k": (5, 5), "l": (1, 1)}
            for counter, limiter in zip((a, b), limiters, strict=True):
                await held.enter_async_context(counter.hold("held", 3))
                await held.enter_async_context(counter.hold("limited", 3, limit=6))
                await limiter.acquire_on_behalf_of("before")
            await b.flush()
            await refusal.begin(own_redis)
            assert await b.inc_all({"k": 2, "l": 3})  # in memory
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    for call in (*_at_once(a), *_at_once(b)):
                        nursery.start_soon(refusal.expected, call)
            start = trio.current_time()
            await held.aclose()
            limiters[0].release_on_behalf_of("before")
            assert trio.current_time() - start < SLACK
            await trio.sleep(HEARTBEAT)  # it is tried, and refused again
            await refusal.end(own_redis)
            with trio.fail_after(PATIENCE):
                kept = {a.instance_id: {"k": 5, "l": 1}}
                kept[b.instance_id] = {"k": 2, "l": 3, "tokens": 1}
                took = await until(lambda: lens.look().slices == kept, 2)
                assert took < 2 * HEARTBEAT + SLACK  # the first beat may meet a lost connection
                await b.flush()
                assert await a.inc_all({"k": 1, "l": 1}) == {"k": (8, 6), "l": (5, 2)}
                for name in range(2):
                    await limiters[0].acquire_on_behalf_of(name)
                for values in (seen, seen_by_b):
                    while (await values.receive()).cumulative != 8:
                        pass
        lens.look().check()


# Not HSET and HDEL, with which a step ends: docs/guarantees.md asks not to take these away.
WRITES = ("hincrby", "zadd", "zrem", "persist", "pexpire", "del", "unlink")


@pytest.mark.parametrize("command", WRITES)
async def test_right_to_one_command_of_the_scripts_is_taken_away(
    command: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """A script that fails in its midst leaves nothing that is not healed afterwards."""
    lens = Lens(own_redis, fresh_prefix)
    async with (
        strict(own_redis.url, fresh_prefix) as a,
        strict(own_redis.url, fresh_prefix) as b,
    ):
        counted = {"k": 5, "l": 5}
        for key in counted:
            await a.inc(key, 5)
            await b.inc(key, 7)
        own_redis.command("ACL", "SETUSER", "default", f"-{command}")
        with trio.fail_after(5):
            for key, count in list(counted.items()):
                for amount in (1, 10, -count - 11):
                    try:
                        await a.inc(key, amount)
                    except StoreError:
                        pass
                    else:
                        counted[key] += amount
        own_redis.command("ACL", "SETUSER", "default", f"+{command}")
        await trio.sleep(HEARTBEAT + 0.1)
        with trio.fail_after(2):
            for key, count in counted.items():
                assert await a.get(key) == (count + 7, count)
        snapshot = lens.look()
        snapshot.check()
        assert snapshot.of(a.instance_id) == {k: n for k, n in counted.items() if n}


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    ("userinfo", "message"),
    [("", "NOAUTH"), (":wr0ng-secret@", "NOAUTH|WRONGPASS"), ("weak:s3cret@", "NOPERM")],
)
async def test_start_with_bad_credentials_fails_at_once(
    userinfo: str, message: str, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With an error that names the reason and no secret."""
    with RedisServer(config={"requirepass": "right"}) as server:
        server.command("ACL", "SETUSER", "weak", "on", ">s3cret", "~*", "+@all", "-evalsha")
        url = f"redis://{userinfo}{server.host}:{server.port}/0"
        with trio.fail_after(2), pytest.raises(StoreError, match=message) as caught:
            async with strict(url, fresh_prefix):
                pytest.fail("it started")
    assert not isinstance(caught.value, StoreUnavailableError)
    for secret in ("wr0ng-secret", "s3cret"):
        assert secret not in str(caught.value)
        assert secret not in caplog.text
        assert secret not in repr(RedisStore(url))


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("reason", ["nobody listens", "nobody answers"])
async def test_start_without_a_server_fails_soon(
    reason: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """`open` does not wait for a store that is away; one that may be slow is asked three times."""
    if reason == "nobody listens":
        own_redis.kill()
        longest = RESPONSE_TIMEOUT
    else:
        own_redis.pause()
        longest = (1 + 2 + 4) * RESPONSE_TIMEOUT
    start = trio.current_time()
    with trio.fail_after(20), pytest.raises(StoreUnavailableError):
        async with StrictInstanceAwareCounter.open(
            fresh_prefix, RedisStore(own_redis.url, response_timeout=RESPONSE_TIMEOUT)
        ):
            pytest.fail("it started")
    assert trio.current_time() - start < longest + 2 * SLACK
