"""A proxy that understands the protocol answers in the server's place, and all counts stay exact.

Some lines are known to be sent before anything is executed. All others prove nothing: the request
is sent again, on another connection. The first kind may be wrong here too, as some proxies lie.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import product

import pytest
import trio

from distkit_actors import (
    FleetLimiter,
    InstanceAwareCounter,
    StoreError,
    StoreUnavailableError,
    StrictInstanceAwareCounter,
)
from distkit_actors._stores._redis._scripts import load_scripts
from tests.faults.fleet import OPEN, Kind, lax, proxied, settle, strict, until
from tests.faults.lens import Lens
from tests.faults.together import of
from tests.harness.faults import is_script
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, OTHER

pytestmark = pytest.mark.usefixtures("transport")

PROVE_NOTHING = (
    "-upstream failure",
    "-ERR Connection timed out",
    "-ERR server returned OOM, LOADING or READONLY",
    "-EXECABORT Transaction discarded because of previous errors.",
    "-",
    "+OK",
    ":1",
    "$-1",
    "*0",
    "*1\r\n$4\r\nwhat",
    "*2\r\n$4\r\ndone\r\n$1\r\nx",
    "?what",
)
NOT_NOW = (
    "-LOADING Redis is loading the dataset in memory",
    "-READONLY You can't write against a read only replica.",
    "-BUSY Redis is busy running a script.",
    "-CLUSTERDOWN The cluster is down",
    "-TRYAGAIN Multiple keys request during rehashing of slot",
    "-ERR max number of clients reached",
    "-ERR max number of clients + cluster connections reached",  # what a node of a cluster says
)
REFUSE = (
    "-OOM command not allowed when used memory > 'maxmemory'.",
    "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
    "-NOPERM this user has no permissions to run the 'evalsha' command",
    "-NOAUTH Authentication required.",
    "-MOVED 3999 127.0.0.1:6381",
)
#: Seconds for what takes a heartbeat or a threshold, on a busy machine.
PATIENCE = 10.0
EXECUTED = pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])


#: Command, script, number of keys, keys, and what comes before the first entry.
WORDS_OF_A_BEAT = 3 + 2 + 3


@EXECUTED
@pytest.mark.parametrize(
    ("line", "transport"),
    [
        (line, (BOTH[0], OTHER)[number % 2])
        for number, line in enumerate((*PROVE_NOTHING[:4], *PROVE_NOTHING[7:11:3], *NOT_NOW[:3]))
    ],
    indirect=["transport"],
)
async def test_a_line_that_proves_nothing_changes_no_value(
    line: str, executed: bool, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Nor does one that says that nothing was done though it was."""
    lens = Lens(redis_server, fresh_prefix)
    async with (
        proxied(redis_server) as proxy,
        strict(redis_server.url, fresh_prefix) as other,
        strict(proxy.url, fresh_prefix) as a,
        lax(proxy.url, fresh_prefix) as b,
    ):
        limiter = FleetLimiter(a, "tokens", 2)

        def strike(counter: InstanceAwareCounter) -> None:
            proxy.answer(line, executed=executed, when=of(counter))

        await other.inc("k", 1)
        with trio.fail_after(2 * PATIENCE):
            strike(a)
            assert await a.inc("k", 10) == (11, 10)
            assert await a.get("k") == (11, 10)
            strike(a)
            assert await a.dec("k", 9) == (2, 1)
            strike(a)
            assert await a.inc_all({"k": 1, "l": 2}) == {"k": (3, 2), "l": (2, 2)}
            strike(a)
            assert await a.set("moved", 5) == (5, 5)
            strike(a)
            async with a.hold("held", 3, limit=3) as value:
                assert value == (3, 3)
                await limiter.acquire_on_behalf_of("before")
                strike(a)
            limiter.release_on_behalf_of("before")
            b.inc_nowait("k", 20)
            strike(b)
            await b.flush()
            strike(b)
            assert await b.delete("gone") == (0, 0)
            beats = proxy.counts["replies"]
            strike(a)
            strike(b)
            await until(lambda: not proxy.armed, PATIENCE)  # heartbeats
            await until(lambda: proxy.counts["replies"] > beats + 2, PATIENCE)
            kept = {
                a.instance_id: {"k": 2, "l": 2, "moved": 5},
                b.instance_id: {"k": 20},
                other.instance_id: {"k": 1},
            }
            await until(lambda: lens.look().slices == kept, PATIENCE)
        lens.look().check()


@EXECUTED
@pytest.mark.parametrize("line", REFUSE)
async def test_what_is_said_to_be_refused_leaves_nothing_behind(
    line: str, executed: bool, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Even if it was executed: the next batch is not taken for it, and undoes it."""
    lens = Lens(redis_server, fresh_prefix)
    async with (
        proxied(redis_server) as proxy,
        strict(redis_server.url, fresh_prefix) as other,
        # Nothing else must cast doubt on what is refused.
        strict(proxy.url, fresh_prefix, response_timeout=PATIENCE) as a,
        lax(proxy.url, fresh_prefix, response_timeout=PATIENCE) as b,
    ):
        await other.inc("k", 1)

        def strike(counter: InstanceAwareCounter) -> None:
            matches = of(counter)
            proxy.answer(
                line,
                executed=executed,
                when=lambda request: matches(request) and len(request.args) > WORDS_OF_A_BEAT,
            )

        async def refused(call: Callable[[], object]) -> None:
            strike(a)
            with pytest.raises(StoreError) as caught:
                await call()  # type: ignore[misc]
            assert line[1:] in str(caught.value)
            assert not isinstance(caught.value, StoreUnavailableError)

        with trio.fail_after(3 * PATIENCE):
            await a.inc("k", 5)
            await refused(lambda: a.inc("k", 10))
            assert await a.get("k") == (6, 5)
            await refused(lambda: a.inc("k", 10))
            assert await a.dec("k", 1) == (5, 4)
            await refused(lambda: a.inc_all({"k": 1, "l": 2}))
            assert await a.inc("other", 1) == (1, 1)
            await refused(lambda: a.set_on_instance("k", 100))
            assert await a.inc_all({"k": 1, "l": 2}) == {"k": (6, 5), "l": (2, 2)}
            await refused(a.hold("held", 3, limit=3).__aenter__)
            async with a.hold("held", 3, limit=3) as value:
                assert value == (3, 3)
                strike(a)
            b.inc_nowait("k", 20)
            strike(b)
            with pytest.raises(StoreError):
                await b.flush()
            await b.flush()
            kept = {
                a.instance_id: {"k": 5, "l": 2, "other": 1},
                b.instance_id: {"k": 20},
                other.instance_id: {"k": 1},
            }
            await until(lambda: lens.look().slices == kept, PATIENCE)
        lens.look().check()


@EXECUTED
@pytest.mark.parametrize("script", ["peek", "open", "load"])
async def test_any_line_while_it_opens_fails_the_start_and_the_next_one_is_exact(
    script: str, executed: bool, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """The error repeats the line, or what came instead of one.

    If it proves nothing, it is like a lost connection: the start asks three times.
    """
    async with (
        proxied(redis_server) as proxy,
        strict(redis_server.url, fresh_prefix, threshold=20.0) as other,
    ):
        await other.inc("k", 1)
        sha = load_scripts()[script].sha
        for number, line in enumerate((*PROVE_NOTHING[:6], *NOT_NOW[:2], *REFUSE[:2])):
            options = {"instance_id": f"i{number}", "dead_instance_threshold": 20.0}
            first = StrictInstanceAwareCounter.open(
                fresh_prefix, redis_server.url, on_exit="linger", **options
            )
            async with first as predecessor:
                await predecessor.inc("k", 5)
            times = 3 if line in PROVE_NOTHING else 1
            proxy.answer(line, times, executed=executed, when=lambda request: sha in request.args)
            second = StrictInstanceAwareCounter.open(
                fresh_prefix, proxy.url, inherit=True, **options
            )
            with trio.fail_after(5), pytest.raises(StoreError) as caught:
                async with second:
                    pytest.fail("it started")
            if line.startswith("-"):
                assert line[1:] in str(caught.value)
            assert isinstance(caught.value, StoreUnavailableError) is (line not in REFUSE)
            assert not proxy.armed
            third = StrictInstanceAwareCounter.open(
                fresh_prefix, proxy.url, inherit=True, **options
            )
            async with third as counter:
                assert await counter.inc("k", 1) == (7, 6)
            assert await other.get("k") == (1, 1)
    Lens(redis_server, fresh_prefix).look().check()


#: What each line means is in `tests/stores`; so each is met by one kind, in one way, of these.
QUARTERS = [(*each, quarter) for quarter, each in enumerate(product(OPEN, BOTH))]


@EXECUTED
@pytest.mark.parametrize(("kind", "transport", "quarter"), QUARTERS, indirect=["transport"])
async def test_any_line_while_it_returns_asks_watches_or_leaves(
    kind: Kind, quarter: int, executed: bool, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Every slice comes back, and goes in the end."""
    lens = Lens(redis_server, fresh_prefix)
    async with (
        proxied(redis_server) as proxy,
        strict(redis_server.url, fresh_prefix) as other,
    ):
        await other.inc("k", 1)
        for line in (*PROVE_NOTHING, *NOT_NOW, *REFUSE)[quarter::4]:
            with trio.fail_after(3 * PATIENCE):
                async with AsyncExitStack() as stack:
                    a = await stack.enter_async_context(OPEN[kind](proxy.url, fresh_prefix))
                    await a.inc("k", 5)
                    await a.inc("l", -2)
                    await settle(a)
                    proxy.answer(line, executed=executed, when=of(a, "resume"))
                    await other.forget(a.instance_id)
                    await until(
                        lambda a=a: lens.look().of(a.instance_id) == {"k": 5, "l": -2},  # type: ignore[misc]
                        PATIENCE,
                    )
                    assert not proxy.armed
                    if line not in REFUSE:
                        proxy.answer(line, executed=executed, when=of(a, "query"))
                        found = {instance.instance_id for instance in await a.instances()}
                        assert found >= {a.instance_id, other.instance_id}
                        proxy.answer(line, executed=executed, when=of(a, "watch"))
                        async with a.watch("k") as seen:
                            assert (await seen.receive()).cumulative == 6
                            await until(lambda: not proxy.armed, PATIENCE)
                            await other.inc("k", 1)
                            while (await seen.receive()).cumulative != 7:
                                pass
                            await other.dec("k", 1)
                    proxy.answer(line, executed=executed, when=of(a))
                proxy.disarm()
                await until(
                    lambda: lens.look().slices == {other.instance_id: {"k": 1}},
                    PATIENCE,  # for the threshold, if it could not say good-bye
                )
    lens.look().check()


async def test_one_line_again_and_again_is_like_a_store_that_is_away(
    redis_server: RedisServer, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; strict operations wait, and are done when it ends."""
    async with proxied(redis_server) as proxy, strict(proxy.url, fresh_prefix) as a:
        await a.inc("k", 1)
        proxy.answer("-upstream failure", None, executed=False)
        async with trio.open_nursery() as nursery:

            async def inc() -> None:
                assert await a.inc("k", 10) == (11, 11)

            nursery.start_soon(inc)
            await proxy.wait_for("answer_instead", 5)
            assert not a.statistics().connected
            proxy.disarm()
        said = [r.getMessage() for r in caplog.records if "upstream failure" in r.getMessage()]
        assert len(said) == 1
        assert "trying again" in said[0]


# --------------------------------------------------------------- one with another role


async def test_who_is_demoted_is_left_though_the_connection_stays_open(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """The name leads to the new primary by then: it is looked up again, and nothing is lost."""
    with RedisServer(replica_of=own_redis) as replica, trio.fail_after(20):
        async with (
            proxied(own_redis) as proxy,
            strict(proxy.url, fresh_prefix) as a,
            lax(proxy.url, fresh_prefix) as b,
        ):
            await a.inc("k", 5)
            b.inc_nowait("k", 7)
            await b.flush()
            replica.wait_in_sync()
            replica.promote()
            proxy.point_at(replica, cut=False)
            own_redis.command("REPLICAOF", replica.host, replica.port)
            open_ones = proxy.connections
            assert open_ones == 2
            with trio.fail_after(10):
                assert await a.inc("k", 1) == (13, 6)
                b.inc_nowait("k", 1)
                await b.flush()
            assert a.statistics().reconnects >= 1
            lens = Lens(replica, fresh_prefix)
            assert lens.look().slices == {a.instance_id: {"k": 6}, b.instance_id: {"k": 8}}
            lens.look().check()


@pytest.mark.parametrize(
    "line",
    [
        "-READONLY You can't write against a read only replica.",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "-CLUSTERDOWN Hash slot not served",
        "-NOREPLICAS Not enough good replicas to write.",
        "-LOADING Redis is loading the dataset in memory",
        "-BUSY Redis is busy running a script.",
        "-MISCONF Redis is configured to save RDB snapshots",
        "-MOVED 3999 127.0.0.1:6381",
    ],
)
async def test_who_cannot_serve_is_left(
    line: str, redis_server: RedisServer, fresh_prefix: str
) -> None:
    """Even if it answers so for ever: whoever the name leads to next is asked."""
    async with proxied(redis_server) as proxy, strict(proxy.url, fresh_prefix) as a:
        await a.inc("k", 1)
        made = proxy.counts["connections"]
        proxy.answer(
            line,
            None,
            executed=False,
            when=lambda request: is_script(request) and proxy.counts["connections"] == made,
        )
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    assert await a.inc("k", 10) == (11, 11)
                except StoreError:
                    continue  # refused, and the connection is another one from now on
                break
        assert proxy.counts["answer_instead"] <= 3


# -------------------------------------------------------------------- scripts by source


def forbid(proxy: FaultProxy, *commands: str) -> None:
    for command in commands:
        proxy.answer(
            f"-ERR unknown command '{command}', with args beginning with: 'x'",
            None,
            executed=False,
            when=lambda request, command=command: request.name == command,  # type: ignore[misc]
        )


async def _counts(url: str, server: RedisServer, prefix: str) -> None:
    with trio.fail_after(10):
        async with strict(url, prefix) as a, lax(url, prefix) as b:
            for number in range(1, 8):
                assert await a.inc("k") == (number, number)
            b.inc_nowait("k", 10)
            await b.flush()
            server.command("SCRIPT", "FLUSH")
            b.inc_nowait("l", 10)
            await b.flush()
            async with a.hold("h", limit=1), a.watch("k") as seen:
                assert await seen.receive() == (17, 7)
            assert len(await a.instances()) == 2
            assert await a.get("k") == (17, 7)
        Lens(server, prefix).look().check()


@pytest.mark.parametrize(
    "which",
    ["no SCRIPT", "no EVALSHA", "neither", "SCRIPT closes", "SCRIPT elsewhere", "all elsewhere"],
)
async def test_scripts_go_along_where_they_cannot_be_kept(
    which: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    """A proxy may pass EVAL alone, or have another node load what it is asked to load."""
    async with proxied(own_redis) as proxy:
        match which:
            case "no SCRIPT":
                forbid(proxy, "SCRIPT")
            case "no EVALSHA":
                forbid(proxy, "EVALSHA")
            case "neither":
                forbid(proxy, "SCRIPT", "EVALSHA")
            case "SCRIPT closes":
                proxy.drop_request(None, when=lambda request: request.name == "SCRIPT")
            case _:
                answer = f"${40}\r\n{'0' * 40}"
                proxy.answer(
                    answer, None, executed=False, when=lambda request: request.name == "SCRIPT"
                )
        if which == "all elsewhere":
            proxy.answer(
                "-NOSCRIPT No matching script. Please use EVAL.",
                None,
                executed=False,
                when=lambda request: request.name == "EVALSHA",
            )
        await _counts(proxy.url, own_redis, fresh_prefix)


async def test_who_may_not_send_scripts_along_has_them_loaded(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """Though the connection was cut the first time."""
    rights = ("~*", "&*", "+@all", "-eval")
    own_redis.command("ACL", "SETUSER", "poor", "on", ">pw", *rights)
    async with proxied(own_redis) as proxy:
        url = f"redis://poor:pw@{proxy.host}:{proxy.port}/0"
        async with strict(url, fresh_prefix) as a:
            assert await a.inc("k") == (1, 1)
            own_redis.command("SCRIPT", "FLUSH")
            proxy.drop_request(when=lambda request: request.name == "SCRIPT")
            with trio.fail_after(PATIENCE):
                assert await a.inc("k") == (2, 2)
        await _counts(url, own_redis, fresh_prefix)


@pytest.mark.parametrize("fault", [FaultProxy.drop_request, FaultProxy.hang_reply])
async def test_scripts_are_loaded_again_though_they_could_not_be_once(
    fault: Callable[..., None], own_redis: RedisServer, fresh_prefix: str
) -> None:
    """What happened to a connection once says nothing of the server."""
    async with proxied(own_redis) as proxy, strict(proxy.url, fresh_prefix) as a:
        assert await a.inc("k") == (1, 1)
        own_redis.command("SCRIPT", "FLUSH")
        fault(proxy, when=lambda request: request.name == "SCRIPT")
        with trio.fail_after(PATIENCE):
            assert await a.inc("k") == (2, 2)
        own_redis.command("SCRIPT", "FLUSH")
        loaded, sent_along = proxy.commands["SCRIPT"], proxy.commands["EVAL"]
        with trio.fail_after(PATIENCE):
            assert await a.inc("k") == (3, 3)
        assert proxy.commands["SCRIPT"] > loaded
        assert proxy.commands["EVAL"] == sent_along


async def test_a_server_that_knows_no_scripts_is_refused(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    async with proxied(own_redis) as proxy:
        forbid(proxy, "SCRIPT", "EVALSHA", "EVAL")
        with trio.fail_after(5), pytest.raises(StoreError, match="EVALSHA or EVAL") as caught:
            async with StrictInstanceAwareCounter.open(fresh_prefix, proxy.url):
                pytest.fail("it started")
        assert not isinstance(caught.value, StoreUnavailableError)
