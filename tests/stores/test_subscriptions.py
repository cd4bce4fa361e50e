"""Word of changes: what is announced, when, and what becomes of it when things go wrong."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import redis
import trio
import trio.testing

from distkit_actors._errors import StoreError, StoreUnavailableError
from distkit_actors._instance._session import Phase, Session
from distkit_actors._protocol._messages import (
    MAX_CHANGED,
    Applied,
    Apply,
    Entry,
    Kind,
    Periods,
    Rejection,
    Watch,
    Watched,
)
from distkit_actors._stores._contract import Link, Store, Subscription
from distkit_actors._stores._memory import MemoryStore
from distkit_actors._stores._redis._shared_feeds import SharedSubscription
from distkit_actors._stores._redis._store import RedisStore
from distkit_actors._stores._redis._subscription import RedisSubscription, _keys
from distkit_actors._stores._redis._wire import KeyNames
from tests.behaviour.world import run_on_real_clock
from tests.faults.fleet import until
from tests.harness.ports import LOOPBACK
from tests.harness.pressure import pressure
from tests.harness.proxy import FaultProxy, named
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, store_at
from tests.stores.listener import listen

SECOND = 1_000_000
PERIODS = Periods(60 * SECOND, 20 * SECOND, 600 * SECOND)
SHORT = Periods(SECOND // 20, SECOND // 60, 600 * SECOND)
LEASE = 60 * SECOND

#: No test waits for ever for what does not come.
pytestmark = pytest.mark.trio(run=run_on_real_clock)


@pytest.fixture(params=["memory", *BOTH])
def store(request: pytest.FixtureRequest, redis_url: str) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return store_at(redis_url, request.param)


class Member:
    """An instance that does one thing after the other."""

    def __init__(self, link: Link, session: Session) -> None:
        self.link = link
        self.session = session

    async def do(self, *entries: Entry, leave: bool = False, budget: int = 0) -> None:
        self.session.begin(entries, leave=leave, budget=budget)
        if Rejection.RETRY in await self.settle():  # taken for dead on a busy machine, and back
            await self.do(*entries, leave=leave, budget=budget)

    async def settle(self) -> list[object]:
        results: list[object] = []
        while (request := self.session.request()) is not None:
            update = self.session.receive(await self.link.exchange(request))
            results += update.results or ()
        return results

    async def add(self, key: str, value: int = 1) -> None:
        await self.do(Entry(Kind.ADD, key, value))

    async def watch(self, lease: int = LEASE) -> None:
        assert await self.link.exchange(Watch(self.session.instance, lease)) == Watched()


@asynccontextmanager
async def member(
    store: Store, prefix: str, instance: str = "i", periods: Periods = PERIODS, nonce: str = "nonce"
) -> AsyncIterator[Member]:
    async with store.link(prefix) as link:
        await link.connect()
        one = Member(link, Session(instance, nonce, periods))
        await one.settle()
        await one.do(budget=1)  # from here on, steps that only add take the quick way
        yield one


@asynccontextmanager
async def subscribed(store: Store, prefix: str) -> AsyncIterator[Subscription]:
    async with store.subscribe(prefix) as subscription:
        assert subscription is not None
        await subscription.connect()
        yield subscription


async def heard(subscription: Subscription, one: Member) -> set[str]:
    """Every key announced up to now. Ends by a change that is announced behind all others."""
    await one.watch()
    await one.add("end")
    keys: set[str] = set()
    while "end" not in keys:
        changed = await subscription.wait()
        assert changed is not None, "any key may have changed"
        keys |= changed
    return keys - {"end"}


def wipe(store: Store, prefix: str, redis_url: str) -> None:
    if isinstance(store, MemoryStore):
        store.wipe()
        return
    with redis.Redis.from_url(redis_url) as client:
        base = f"dk:{{p.{prefix}}}:"
        client.delete(*(key for key in client.keys("dk:*") if key.decode().startswith(base)))


# ---------------------------------------------------------------------- what is announced


async def test_another_instances_change_is_announced(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix, "watcher") as watcher,
        member(store, fresh_prefix, "other") as other,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await watcher.watch()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.add, "ключ")
            assert await subscription.wait() == {"ключ"}
        await other.add("a")
        await other.add("b")
        assert await heard(subscription, watcher) == {"a", "b"}


@pytest.mark.parametrize(
    "entry",
    [
        Entry(Kind.ADD, "a", 1),
        Entry(Kind.ADD, "a", -5),  # the own slice goes
        Entry(Kind.ADD, "b", 3),
        Entry(Kind.PUT, "a", 2),
        Entry(Kind.PUT, "a", 0),
        Entry(Kind.MOVE, "a", 2),
        Entry(Kind.MOVE, "a", 5),  # the sum stays what it is, but slices do not
        Entry(Kind.MOVE, "a", 0),
        Entry(Kind.MOVE, "new", 0),
    ],
    ids=lambda entry: f"{entry.kind.name} {entry.key} {entry.value}",
)
async def test_every_change_of_a_key_is(store: Store, fresh_prefix: str, entry: Entry) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.add("a", 5)
        await one.watch()
        await one.do(entry)
        assert await subscription.wait() == {entry.key}


async def test_what_changes_nothing_is_not(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.add("a", 5)
        await one.watch()
        await one.do()
        await one.do(Entry(Kind.ADD, "a", 0), Entry(Kind.PUT, "b", 0), Entry(Kind.ADD, "c", 0))
        await one.do(Entry(Kind.PUT, "a", 5))
        await one.add("a", 2**63 - 1)  # does not fit
        assert await heard(subscription, one) == set()


async def test_a_clear_may_have_changed_any_key(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.watch()
        await one.do(Entry(Kind.CLEAR, "", 0))
        assert await subscription.wait() is None
        await one.add("a")  # the lease goes on
        assert await subscription.wait() == {"a"}


@pytest.mark.parametrize("kind", [Kind.ADD, Kind.PUT])
async def test_many_keys_are_not_named(store: Store, fresh_prefix: str, kind: Kind) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.watch()
        keys = [f"k{number}" for number in range(MAX_CHANGED + 1)]
        await one.do(*(Entry(kind, key, 1) for key in keys[1:]))
        assert await subscription.wait() == set(keys[1:])
        await one.do(*(Entry(kind, key, 2) for key in keys))
        assert await subscription.wait() is None


async def test_death_and_return_are_announced(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix, "mortal", SHORT) as mortal,
        member(store, fresh_prefix, "survivor") as survivor,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await mortal.add("a")
        await survivor.watch()
        while not (changed := await heard(subscription, survivor)):
            await survivor.do(budget=32)
        assert changed == {"a"}
        await mortal.do()
        assert mortal.session.slices["a"].value == 1
        assert await heard(subscription, survivor) == {"a"}


async def test_leaving_is_announced(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix, "leaver") as leaver,
        member(store, fresh_prefix, "stayer") as stayer,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await leaver.do(Entry(Kind.ADD, "a", 1), Entry(Kind.ADD, "b", 1))
        await stayer.watch()
        await leaver.do(Entry(Kind.PUT, "a", 0), Entry(Kind.PUT, "b", 0), leave=True)
        assert leaver.session.phase is Phase.LEFT
        assert await heard(subscription, stayer) == {"a", "b"}


async def test_a_takeover_is_announced(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.add("a")
        await one.watch()
        async with member(store, fresh_prefix, nonce="another"):
            assert await subscription.wait() == {"a"}


async def test_a_clear_that_the_store_had_lost_is_announced(
    store: Store, fresh_prefix: str, redis_url: str
) -> None:
    async with member(store, fresh_prefix) as one:
        await one.do(Entry(Kind.CLEAR, "", 0))
        await one.add("a")
        wipe(store, fresh_prefix, redis_url)
        async with subscribed(store, fresh_prefix) as subscription:
            await one.watch()  # the lease was lost too
            await one.do()
            assert await subscription.wait() is None


async def test_what_is_reaped_by_a_step_that_runs_no_entry_is_announced(
    store: Store, fresh_prefix: str
) -> None:
    """It is a heartbeat of one who has missed more moves than one answer tells."""
    async with (
        member(store, fresh_prefix, "mortal", SHORT) as mortal,
        member(store, fresh_prefix, "mover") as mover,
        member(store, fresh_prefix, "behind") as behind,
        subscribed(store, fresh_prefix) as subscription,
    ):
        for first in range(0, 1002, 501):
            moves = (Entry(Kind.MOVE, f"k{first + n}", 0) for n in range(501))
            await mover.do(*moves)
        await mortal.add("a")
        await mover.watch()
        changed: frozenset[str] | None = frozenset()
        while not changed:
            # Nobody else reaps. Whoever is silent may be given time, so it is asked until it does.
            behind.session.begin([], budget=32)
            request = behind.session.request()
            assert isinstance(request, Apply)
            reply = await behind.link.exchange(request)
            assert isinstance(reply, Applied)
            behind.session.receive(reply)
            changed = await heard(subscription, mover)
        assert changed == {"a"}


# ------------------------------------------------------------------------ who asked for it


async def test_without_a_lease_nothing_is_announced(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.add("before")
        await one.watch(1)
        await trio.sleep(0.001)
        await one.add("after")
        await one.do(Entry(Kind.MOVE, "after", 2))
        assert await heard(subscription, one) == set()


async def test_the_longest_lease_counts(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.watch(LEASE)
        await one.watch(1)
        await trio.sleep(0.001)
        await one.add("a")
        assert await subscription.wait() == {"a"}


async def test_a_namespace_can_be_watched_before_anybody_is_in_it(
    store: Store, fresh_prefix: str
) -> None:
    async with store.link(fresh_prefix) as link, subscribed(store, fresh_prefix) as subscription:
        await link.connect()
        assert await link.exchange(Watch("nobody", LEASE)) == Watched()
        async with member(store, fresh_prefix) as one:
            await one.add("a")
        assert await subscription.wait() == {"a"}


async def test_all_who_listen_hear_it_but_only_of_their_namespace(
    store: Store, fresh_prefix: str
) -> None:
    other_prefix = f"{fresh_prefix}x"
    async with (
        member(store, fresh_prefix) as here,
        member(store, other_prefix) as there,
        subscribed(store, fresh_prefix) as first,
        subscribed(store, fresh_prefix) as second,
        subscribed(store, other_prefix) as apart,
    ):
        await here.watch()
        await there.watch()
        await here.add("a")
        assert await first.wait() == {"a"}
        assert await second.wait() == {"a"}
        assert await heard(apart, there) == set()


# ------------------------------------------------------------------------ the subscription


async def test_connect_comes_first(store: Store, fresh_prefix: str) -> None:
    async with store.subscribe(fresh_prefix) as subscription, member(store, fresh_prefix) as one:
        assert subscription is not None
        await one.watch()
        await one.add("early")
        with pytest.raises(StoreUnavailableError):
            await subscription.wait()
        await subscription.connect()
        await subscription.connect()
        assert await heard(subscription, one) == set()


async def test_a_cancelled_wait_loses_nothing_in_silence(store: Store, fresh_prefix: str) -> None:
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.watch()
        seen = 0
        for attempt in range(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.add, f"k{attempt}")
                with trio.move_on_after(0.00005 * attempt):
                    assert await subscription.wait() == {f"k{attempt}"}
                    seen += 1
                    continue
            try:
                with trio.move_on_after(2):
                    assert await subscription.wait() == {f"k{attempt}"}
                    continue
                pytest.fail("nothing came, and nothing said so")
            except StoreUnavailableError:
                await subscription.connect()
        assert seen


async def test_a_cancelled_connect(store: Store, fresh_prefix: str) -> None:
    async with store.subscribe(fresh_prefix) as subscription, member(store, fresh_prefix) as one:
        assert subscription is not None
        for attempt in range(20):
            with trio.move_on_after(0.0001 * attempt):
                await subscription.connect()
        await subscription.connect()
        await one.watch()
        assert await heard(subscription, one) == set()


async def test_nothing_is_left_when_the_block_is_cancelled(store: Store, fresh_prefix: str) -> None:
    async def cancel(scope: trio.CancelScope) -> None:
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with subscribed(store, fresh_prefix) as subscription:
                nursery.start_soon(cancel, scope)
                await subscription.wait()
        assert scope.cancelled_caught
        with pytest.raises(StoreUnavailableError):
            await subscription.wait()


async def test_the_bodys_exception_comes_out_as_it_is(store: Store, fresh_prefix: str) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with subscribed(store, fresh_prefix):
            raise KeyError("mine")


async def test_a_store_that_cannot_push() -> None:
    class Mute(Store):
        @asynccontextmanager
        async def link(self, prefix: str) -> AsyncGenerator[Link]:
            raise NotImplementedError
            yield

    async with Mute().subscribe("p") as subscription:
        assert subscription is None


# ----------------------------------------------------------------------------- in memory


async def test_a_wiped_memory_says_so(fresh_prefix: str) -> None:
    store = MemoryStore()
    async with subscribed(store, fresh_prefix) as subscription, trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await subscription.wait() is None

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        store.wipe()


async def test_memory_keeps_only_so_many_keys(fresh_prefix: str) -> None:
    store = MemoryStore()
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.watch()
        for number in range(MAX_CHANGED + 1):
            await one.add(f"k{number}")
        await one.add("last")
        assert await subscription.wait() is None


# ------------------------------------------------------------------------------ on a server


@pytest.mark.usefixtures("transport")
async def test_nobody_there(own_redis: RedisServer, fresh_prefix: str) -> None:
    own_redis.kill()
    async with RedisStore(own_redis.url).subscribe(fresh_prefix) as subscription:
        assert subscription is not None
        with pytest.raises(StoreUnavailableError, match="onnect"):
            await subscription.connect()
        with pytest.raises(StoreUnavailableError):
            await subscription.wait()


@pytest.mark.usefixtures("transport")
async def test_a_lost_connection_is_noticed_and_made_again(
    proxy: FaultProxy, fresh_prefix: str, redis_url: str
) -> None:
    async with (
        subscribed(RedisStore(proxy.url), fresh_prefix) as subscription,
        member(RedisStore(redis_url), fresh_prefix) as one,
    ):
        await one.watch()
        proxy.cut_all()
        await one.add("unheard")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await subscription.wait()
        await subscription.connect()
        await one.add("a")
        assert await subscription.wait() == {"a"}


@pytest.mark.usefixtures("transport")
async def test_a_lost_confirmation(proxy: FaultProxy, fresh_prefix: str) -> None:
    async with RedisStore(proxy.url).subscribe(fresh_prefix) as subscription:
        assert subscription is not None
        for faults in (proxy.drop_request, proxy.drop_reply, proxy.cut_reply_midframe):
            faults(when=named("SUBSCRIBE"))
            with pytest.raises(StoreUnavailableError):
                await subscription.connect()
            with pytest.raises(StoreUnavailableError):
                await subscription.wait()
        await subscription.connect()


@pytest.mark.usefixtures("transport")
async def test_a_connection_that_died_in_silence_is_noticed(
    proxy: FaultProxy, fresh_prefix: str
) -> None:
    async with subscribed(
        RedisStore(proxy.url, response_timeout=0.1), fresh_prefix
    ) as subscription:
        proxy.pause()
        before = trio.current_time()
        with pytest.raises(StoreUnavailableError, match=r"no answer for 0\.1 s"):
            await subscription.wait()
        assert trio.current_time() - before > 0.15  # it has asked once, and waited
        proxy.resume()
        while True:
            with suppress(StoreUnavailableError):  # a busy machine may need longer to answer
                await subscription.connect()
                break


@pytest.mark.usefixtures("transport")
async def test_silence_is_no_failure(proxy: FaultProxy, fresh_prefix: str, redis_url: str) -> None:
    store = RedisStore(proxy.url, response_timeout=0.3 * pressure())
    async with (
        subscribed(store, fresh_prefix) as subscription,
        member(RedisStore(redis_url), fresh_prefix) as one,
        trio.open_nursery() as nursery,
    ):
        asked = proxy.commands["PING"]
        await one.watch()

        async def wait() -> None:
            assert await subscription.wait() == {"a"}

        nursery.start_soon(wait)
        while proxy.commands["PING"] < asked + 3:
            await proxy.wait_for("requests", proxy.counts["requests"] + 1)
        await one.add("a")


@pytest.mark.usefixtures("transport")
async def test_giving_up_to_listen_takes_no_message_away(redis_url: str, fresh_prefix: str) -> None:
    """It is given up in a silence, to ask for a sign of life."""
    store = RedisStore(redis_url)
    keys = [f"k{number}" for number in range(300)]
    async with (
        subscribed(store, fresh_prefix) as subscription,
        member(store, fresh_prefix) as one,
        trio.open_nursery() as nursery,
    ):
        await one.watch()

        async def change() -> None:
            for key in keys:
                await one.add(key)

        nursery.start_soon(change)
        given_up = 0
        heard: set[str] = set()
        while len(heard) < len(keys):
            with trio.move_on_after(0.00001 * (given_up % 50)) as scope:
                heard |= await _listened(subscription)
            given_up += scope.cancelled_caught
    assert given_up
    assert heard == set(keys)


async def _listened(subscription: Subscription) -> frozenset[str]:
    if isinstance(subscription, RedisSubscription):
        # A connection of its own is dropped when `wait` is cancelled.
        return _keys(await subscription._connection._messages()) or frozenset()
    return await subscription.wait() or frozenset()


@pytest.mark.usefixtures("transport")
async def test_without_the_right_to_publish_everything_else_works(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    own_redis.command("ACL", "SETUSER", "u", "reset", "on", ">pw", "~dk:*", "+@all")
    own_redis.command("ACL", "SETUSER", "u", "resetchannels")
    store = RedisStore(f"redis://u:pw@{own_redis.host}:{own_redis.port}")
    async with (
        member(store, fresh_prefix) as one,
        subscribed(RedisStore(own_redis.url), fresh_prefix) as subscription,
        member(RedisStore(own_redis.url), fresh_prefix, "able") as able,
    ):
        await one.watch()
        await one.add("a", 3)
        await one.do(Entry(Kind.PUT, "b", 2))
        await one.do(Entry(Kind.CLEAR, "", 0))
        await one.do(Entry(Kind.MOVE, "a", 4))
        assert one.session.slices["a"].value == 4
        assert await heard(subscription, able) == set()
        async with store.subscribe(fresh_prefix) as deaf:
            assert deaf is not None
            with pytest.raises(StoreError, match="&dk:") as caught:
                await deaf.connect()
            assert not isinstance(caught.value, StoreUnavailableError)
            with pytest.raises(StoreUnavailableError):
                await deaf.wait()


@pytest.mark.usefixtures("transport")
async def test_just_enough_rights_to_listen(own_redis: RedisServer, fresh_prefix: str) -> None:
    rights = ["+ping", "+subscribe", "&dk:*"]
    for missing in [None, *rights]:
        granted = [right for right in rights if right != missing]
        own_redis.command("ACL", "SETUSER", "u", "reset", "on", ">pw", "resetchannels", *granted)
        store = RedisStore(f"redis://u:pw@{own_redis.host}:{own_redis.port}")
        async with store.subscribe(fresh_prefix) as subscription:
            assert subscription is not None
            if missing:
                with pytest.raises(StoreError, match="PING, SUBSCRIBE"):
                    await subscription.connect()
            else:
                await subscription.connect()


async def test_one_who_may_not_give_a_channel_up_harms_no_other(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    rights = ["+ping", "+subscribe", "&dk:*"]
    own_redis.command("ACL", "SETUSER", "u", "reset", "on", ">pw", "resetchannels", *rights)
    store = RedisStore(f"redis://u:pw@{own_redis.host}:{own_redis.port}")
    passing = f"{fresh_prefix}.passing"
    async with (
        member(RedisStore(own_redis.url), fresh_prefix) as one,
        member(RedisStore(own_redis.url), passing) as other,
        subscribed(store, fresh_prefix) as subscription,
    ):
        await one.watch()
        await other.watch()
        for number in range(3):
            async with subscribed(store, passing) as another:
                await other.add(f"k{number}")
                assert await another.wait() == {f"k{number}"}
            await one.add(f"k{number}")
            assert await subscription.wait() == {f"k{number}"}
        assert listening(own_redis) == 1
        assert KeyNames(passing).channel in channels(own_redis)  # it may not give that up


@pytest.mark.usefixtures("transport")
async def test_a_right_that_is_taken_away(own_redis: RedisServer, fresh_prefix: str) -> None:
    rights = ["+ping", "+subscribe", "&dk:*"]
    own_redis.command("ACL", "SETUSER", "u", "on", ">pw", "resetchannels", *rights)
    url = f"redis://u:pw@{own_redis.host}:{own_redis.port}"
    async with subscribed(RedisStore(url, response_timeout=0.1), fresh_prefix) as subscription:
        own_redis.command("ACL", "SETUSER", "u", "-ping")
        with pytest.raises(StoreError, match="PING, SUBSCRIBE"):
            await subscription.wait()


@pytest.mark.usefixtures("transport")
async def test_what_others_publish_there_does_no_harm(redis_url: str, fresh_prefix: str) -> None:
    store = RedisStore(redis_url)
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
    ):
        with redis.Redis.from_url(redis_url) as client:
            for junk in (b"a\xff\xfe", b"", b"::", b"junk"):
                client.publish(KeyNames(fresh_prefix).channel, junk)
        assert "junk" in await heard(subscription, one)


@pytest.mark.usefixtures("transport")
async def test_a_server_that_does_not_subscribe(nursery: trio.Nursery, fresh_prefix: str) -> None:
    port = await listen(nursery, _confirm_everything)
    async with RedisStore(f"redis://{LOOPBACK}:{port}").subscribe(fresh_prefix) as subscription:
        assert subscription is not None
        with pytest.raises(StoreError, match="answers a subscription as no Redis"):
            await subscription.connect()


async def _confirm_everything(stream: trio.abc.Stream) -> None:
    while await stream.receive_some():
        await stream.send_all(b"+OK\r\n")


@pytest.mark.parametrize("options", ["u:pw@|", "|/3", "|?client_name=me"])
async def test_a_server_that_refuses_who_we_are_loses_the_connection(
    options: str, nursery: trio.Nursery, fresh_prefix: str
) -> None:
    """At once, and not only when somebody connects again."""
    closed = trio.Event()

    async def refuse(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            await stream.send_all(b"-NOPERM no permissions\r\n")
        closed.set()

    port = await listen(nursery, refuse)
    before, _, behind = options.partition("|")
    url = f"redis://{before}{LOOPBACK}:{port}{behind}"
    async with RedisStore(url).subscribe(fresh_prefix) as subscription:
        assert subscription is not None
        with pytest.raises(StoreError, match="NOPERM"):
            await subscription.connect()
        with trio.fail_after(20):
            await closed.wait()


# ------------------------------------------------------------------------ one connection


def listening(server: RedisServer) -> int:
    """How many connections have subscribed to something."""
    return len(re.findall(r" sub=[1-9]", str(server.command("CLIENT", "LIST"))))


def channels(server: RedisServer) -> set[bytes]:
    """What somebody has subscribed to."""
    found = server.command("PUBSUB", "CHANNELS")
    return {name.encode() if isinstance(name, str) else name for name in found}


async def test_all_who_listen_have_one_connection(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    """And a channel is given up with the last one who listens to it."""
    store = RedisStore(own_redis.url)
    names = [f"{fresh_prefix}.{number}" for number in range(5)]
    async with AsyncExitStack() as stack, AsyncExitStack() as inner:
        for name in names:
            await stack.enter_async_context(subscribed(store, name))
            await inner.enter_async_context(subscribed(store, name))
        (lasting,) = [await inner.enter_async_context(subscribed(store, "lasting"))]
        assert listening(own_redis) == 1
        async with subscribed(store, "passing"):
            assert KeyNames("passing").channel in channels(own_redis)
        await until(lambda: KeyNames("passing").channel not in channels(own_redis), 20)
        await stack.aclose()
        assert channels(own_redis) == {KeyNames(name).channel for name in [*names, "lasting"]}
        async with member(store, "lasting") as one:
            await one.watch()
            await one.add("a")
            assert await lasting.wait() == {"a"}
        await inner.aclose()
        await until(lambda: not channels(own_redis), 20)
        assert listening(own_redis) == 0


async def test_who_listens_again_hears_all_from_then_on(store: Store, fresh_prefix: str) -> None:
    """Though the channel had just been given up."""
    async with member(store, fresh_prefix) as one, subscribed(store, f"{fresh_prefix}x"):
        await one.watch()
        for number in range(20):
            async with subscribed(store, fresh_prefix) as subscription:
                await one.add(f"k{number}")
                assert await subscription.wait() == {f"k{number}"}


async def test_one_who_is_cancelled_leaves_the_others_what_they_hear(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    store = RedisStore(own_redis.url)
    heard: dict[int, set[str]] = {number: set() for number in range(3)}
    keys = {f"k{number}" for number in range(100)}

    async def listen_on(number: int, task_status: trio.TaskStatus[None]) -> None:
        async with subscribed(store, fresh_prefix) as subscription:
            task_status.started()
            while heard[number] < keys:
                with trio.move_on_after(0.0003 * number or float("inf")):
                    heard[number] |= await subscription.wait() or set()

    async with member(store, fresh_prefix) as one:
        await one.watch()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                await nursery.start(lambda number=number, **kw: listen_on(number, **kw))
            for key in keys:
                await one.add(key)
    assert listening(own_redis) == 0
    assert heard == dict.fromkeys(range(3), keys)


async def test_who_receives_for_all_and_is_cancelled_lets_another_one_do_that(
    redis_url: str, fresh_prefix: str
) -> None:
    store = RedisStore(redis_url)
    scope = trio.CancelScope()

    async def receive(subscription: Subscription) -> None:
        with scope:
            await subscription.wait()

    async def wait(subscription: Subscription) -> None:
        assert await subscription.wait() == {"a"}

    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as first,
        subscribed(store, fresh_prefix) as second,
        trio.open_nursery() as nursery,
    ):
        await one.watch()
        nursery.start_soon(receive, first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, second)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await one.add("a")


async def test_who_is_told_to_listen_hears_all_from_then_on(
    proxy: FaultProxy, fresh_prefix: str, redis_url: str
) -> None:
    """Though an earlier subscription, which was given up, is confirmed first."""
    async with (
        member(RedisStore(redis_url), fresh_prefix) as one,
        RedisStore(proxy.url).subscribe(fresh_prefix) as subscription,
    ):
        assert subscription is not None
        await one.watch()
        await subscription.connect()
        proxy.forward(when=named("SUBSCRIBE"))
        proxy.delay(0.3, when=named("SUBSCRIBE"))
        assert isinstance(subscription, SharedSubscription)
        subscription.leave()  # the connection stays
        proxy.pause()
        with trio.move_on_after(0.05):
            await subscription.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscription.connect)
            await trio.testing.wait_all_tasks_blocked(0.01)
            proxy.resume()
        await one.add("a")
        with trio.fail_after(20):
            assert await subscription.wait() == {"a"}


async def test_one_that_is_lost_is_lost_for_all_and_made_again_once(
    proxy: FaultProxy, fresh_prefix: str
) -> None:
    store = RedisStore(proxy.url)
    told: list[int] = []
    before = proxy.counts["connections"]

    async def listen_on(name: str, task_status: trio.TaskStatus[None]) -> None:
        async with subscribed(store, name) as subscription:
            task_status.started()
            with pytest.raises(StoreUnavailableError) as caught:
                await subscription.wait()
            told.append(id(caught.value))
            await subscription.connect()
            await everybody.wait()
            with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
                await subscription.wait()

    everybody = trio.Event()
    async with trio.open_nursery() as nursery:
        for number in range(4):
            await nursery.start(
                lambda number=number, **kw: listen_on(f"{fresh_prefix}.{number // 2}", **kw)
            )
        assert proxy.counts["connections"] == before + 1
        proxy.cut_all()
        await until(lambda: len(told) == 4, 20)
        await trio.testing.wait_all_tasks_blocked(0.05)
        everybody.set()
    assert proxy.counts["connections"] == before + 2


async def test_a_silence_is_broken_once_for_all(proxy: FaultProxy, fresh_prefix: str) -> None:
    store = RedisStore(proxy.url, response_timeout=0.2 * pressure())
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for number in range(5):
            subscription = await stack.enter_async_context(
                subscribed(store, f"{fresh_prefix}.{number}")
            )
            nursery.start_soon(subscription.wait)
        before, begun = proxy.commands["PING"], trio.current_time()
        while proxy.commands["PING"] < before + 3:
            await proxy.wait_for("requests", proxy.counts["requests"] + 1)
        assert trio.current_time() - begun > 0.5 * pressure()
        nursery.cancel_scope.cancel()


async def test_one_whose_channel_is_refused_harms_no_other(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    mine = KeyNames(fresh_prefix).channel.decode()
    own_redis.command(
        "ACL", "SETUSER", "u", "reset", "on", ">pw", "~dk:*", "+@all", "resetchannels", f"&{mine}"
    )
    store = RedisStore(f"redis://u:pw@{own_redis.host}:{own_redis.port}")
    async with (
        member(store, fresh_prefix) as one,
        subscribed(store, fresh_prefix) as subscription,
        store.subscribe("other") as refused,
    ):
        assert refused is not None
        await one.watch()
        for number in range(3):
            with pytest.raises(StoreError, match="&dk:"):
                await refused.connect()
            with pytest.raises(StoreUnavailableError):
                await refused.wait()
            await one.add(f"k{number}")
            assert await subscription.wait() == {f"k{number}"}
        assert listening(own_redis) == 1
