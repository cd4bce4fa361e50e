"""Heartbeats that one script executes: each as if it were alone, whatever the others are."""

from __future__ import annotations

import pytest
import redis
import trio
import trio.testing

from distkit_actors import RedisStore, StoreError, StoreUnavailableError
from distkit_actors._instance._session import Session
from distkit_actors._protocol._messages import (
    Apply,
    Entry,
    Kind,
    Peek,
    Peeked,
    Periods,
    Stale,
    Watch,
)
from distkit_actors._stores._redis._connection import Answer, ErrorReplyError
from distkit_actors._stores._redis._correlation import reply_of
from distkit_actors._stores._redis._heartbeats import NOT_DONE
from distkit_actors._stores._redis._replicas import Replicas
from distkit_actors._stores._redis._scripts import load_scripts
from distkit_actors._stores._redis._wire import decode, encode
from tests.harness import unique_prefix
from tests.stores.fakes import Fake, started
from tests.stores.nodes import PEEKED, linked
from tests.stores.test_redis_limits import SECOND, add, run, session_of
from tests.stores.twin import ID, START, Scripts, Twin


def beat(twins: list[Twin], sessions: list[Session]) -> list[bool]:
    """Have all of them beat in one script, and then alone who was left; return who was not."""
    now = max(twin.now for twin in twins)
    keys: list[bytes] = []
    heads: list[bytes] = []
    limits, requests = b"", []
    ids = [b"%d" % number for number in range(len(twins))]
    for twin, session, own_id in zip(twins, sessions, ids, strict=True):
        twin.now = now
        session.begin([], budget=10)
        request = session.request()
        assert isinstance(request, Apply)
        _, (before, after, limits) = encode(request)
        keys += twin.lua.names.main_keys(request.instance)
        heads += (own_id, before, after)
        requests.append(request)
    words = (len(keys), *keys, limits, *heads, b"%d" % now)
    answers = twins[0].lua.call("beats", *words)
    replies = [reply_of(answer, own_id) for answer, own_id in zip(answers, ids, strict=True)]
    for twin, session, request, reply in zip(twins, sessions, requests, replies, strict=True):
        expected = twin.namespace.execute(request, now)
        if reply:
            actual = decode(reply)
        else:
            actual = decode(twin.lua.call("apply", 2, *_apply(twin, request)))
        assert actual == expected
        session.receive(actual)
        twin.compare()
    return list(map(bool, replies))


def _apply(twin: Twin, request: Apply) -> tuple[bytes, ...]:
    return (*twin.lua.names.main_keys(request.instance), *encode(request)[1], b"%d" % twin.now)


def together(client: redis.Redis, scripts: Scripts | None = None) -> None:
    """Let several beat, of which some have more to do than that."""
    names = ("usual", "clock put back", "watched", "moved", "with a dead one", "usual, too")
    twins = [Twin(client, unique_prefix(), scripts) for _ in names]
    sessions = [session_of("i") for _ in names]
    by_name = dict(zip(names, zip(twins, sessions, strict=True), strict=True))
    for twin, session in zip(twins, sessions, strict=True):
        run(twin, session, add("a"), budget=10)
    twin, session = by_name["clock put back"]
    twin.now += SECOND
    run(twin, session, add("a"), budget=10)
    twin.now -= SECOND // 10
    run(twin, session, add("a"), budget=10)
    by_name["watched"][0].execute(Watch("i", 1000 * SECOND))
    twin, session = by_name["moved"]
    run(twin, session, Entry(Kind.MOVE, "a", 3), budget=10)
    run(twin, session, add("a"), budget=10)  # it knows its own move now
    dead, _ = by_name["with a dead one"]
    run(dead, session_of("j"), add("b"), budget=0)
    # Steps of a second from now on: each beats at its pace.
    for twin in twins:
        twin.now = START + SECOND + SECOND // 10
    assert beat(twins, sessions) == [True] * len(names)
    for _ in range(2):
        for twin in twins:
            twin.now += SECOND
        assert beat(twins, sessions)[:4] == [True] * 4
    assert dead.namespace.registry.records["j"].state.value == "dead"
    twins[0].lua.client.set(twins[0].lua.base + b"a", "no sorted set")
    twins[-1].lua.wipe()
    twins[-1].namespace = type(twins[-1].namespace)()
    keys = [key for twin in twins for key in twin.lua.names.main_keys("i")]
    heads: list[bytes] = []
    limits = b""
    for session in sessions:
        session.begin([], budget=10)
        request = session.request()
        assert request is not None
        _, (before, after, limits) = encode(request)
        heads += (ID, before, after)
    now = b"%d" % (twins[0].now + SECOND)
    answers = twins[0].lua.call("beats", len(keys), *keys, limits, *heads, now)
    assert [answer != ID + NOT_DONE for answer in answers] == [False, True, True, True, True, False]
    for twin in twins:
        twin.wipe()


def test_each_is_executed_as_if_it_were_alone(client: redis.Redis) -> None:
    together(client)


# --------------------------------------------------------------- what a proxy says of them


async def test_nothing_more_is_asked_behind_an_error_that_nobody_knows(
    nursery: trio.Nursery,
) -> None:
    """A proxy that adds a line to the answers would shift them all."""
    server = Fake(_standalone)
    await started(nursery, server)
    async with linked(RedisStore(f"redis://{server.node}"), "p", "q") as (p, q):
        for _ in range(2):
            await add_a_line(server)
            await p.connect()
            await p.send(BEAT)
            assert await p.receive(BEAT) == Stale()
            *before, last = [scripts(said) for said in server.conversations]
            assert before[-1] == 3  # two of other kinds, and the one that was answered so
            assert last == 1
            await q.connect()
            assert isinstance(await q.exchange(Peek("i")), Peeked)
        # A proxy that says it of each script for many heartbeats says it twice.
        await add_a_line(server)
        await p.send(BEAT)
        with pytest.raises(StoreUnavailableError):
            await p.receive(BEAT)


@pytest.mark.parametrize("says", ["LOADING wait", "WRONGPASS invalid username-password pair"])
async def test_a_heartbeat_is_in_doubt_whatever_is_said_to_the_next_connection(
    says: str, nursery: trio.Nursery
) -> None:
    """It may have been executed behind the error that nobody knows."""
    server = Fake(_standalone)
    await started(nursery, server)
    async with linked(RedisStore(f"redis://:pw@{server.node}"), "p") as (p,):
        await add_a_line(server)

        def refuses(*words: str) -> object:
            return Exception(says) if words[0] == "AUTH" else _standalone(*words)

        server.answer = refuses
        await p.send(BEAT)
        with pytest.raises(StoreUnavailableError) as caught:
            await p.receive(BEAT)
        assert type(caught.value) is StoreUnavailableError


async def test_an_error_that_nobody_knows_in_answer_to_a_look_ends_the_connection(
    nursery: trio.Nursery,
) -> None:
    """The server's own answer may come later, and would shift all others."""
    server = Fake(_standalone)

    def no_info(*words: str) -> object:
        return Exception("ERR Connection timed out") if words[0] == "INFO" else _standalone(*words)

    await started(nursery, server)
    async with linked(RedisStore(f"redis://{server.node}"), "p") as (link,):
        server.answer = no_info
        with pytest.raises(StoreError):
            await link.inspect()
        assert not link.connected


async def test_an_error_that_nobody_knows_in_answer_to_the_first_look_has_it_asked_again(
    nursery: trio.Nursery,
) -> None:
    said = [Exception("ERR Connection timed out")]

    def once_no_info(*words: str) -> object:
        if words[:2] == ("INFO", "memory"):
            return b"maxmemory_policy:noeviction\r\n"
        return said.pop() if words[0] == "INFO" and said else _standalone(*words)

    server = Fake(once_no_info)
    await started(nursery, server)
    async with linked(RedisStore(f"redis://{server.node}"), "p") as (link,):
        assert await link.inspect() == ()
        assert len(server.conversations) == 2


async def test_one_that_knows_no_look_from_the_beginning_is_not_asked_again(
    nursery: trio.Nursery,
) -> None:
    """Such as a proxy that knows some commands only: it would end the connection each time."""

    def no_info(*words: str) -> object:
        return Exception("invalid request") if words[0] == "INFO" else _standalone(*words)

    server = Fake(no_info)
    await started(nursery, server)
    async with linked(RedisStore(f"redis://{server.node}"), "p") as (link,):
        asked = len(server.said)
        with pytest.raises(StoreError, match="does not tell"):
            await link.inspect()
        assert link.connected
        assert len(server.said) == asked


async def test_an_error_that_nobody_knows_in_answer_to_wait_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What was written stands. A server that is no primary any more says so once, others again."""
    lane, replicas = _Timed(), Replicas()
    for waits in (1, 2, 2, 3, 4, 4):
        await replicas.confirm(lane, 1, 1, 2.0)
        assert lane.waits == lane.drops == waits
        assert replicas.warnings()
        await trio.sleep(50)


class _Timed:
    """A lane behind something that says so itself if an answer takes long."""

    number = 1

    def __init__(self) -> None:
        self.waits = self.drops = 0

    async def call(self, *words: bytes, patience: float | None = None) -> Answer:
        self.waits += 1
        raise ErrorReplyError.read("ERR Connection timed out")

    async def drop(self) -> None:
        self.drops += 1


BEAT = Apply("i", 1, 1, 0, Periods(1, 1, 1), [])


async def add_a_line(server: Fake) -> None:
    await trio.testing.wait_all_tasks_blocked()  # nothing is being said there
    await server.streams[-1].send_all(b"-ERR Connection timed out\r\n")


def scripts(said: list[list[str]]) -> int:
    """How many scripts were asked for on a connection."""
    return sum(words[0] == "EVALSHA" for words in said)


def _standalone(*words: str) -> object:
    match words:
        case ["INFO", *_]:
            return b"redis_mode:standalone\r\n"
        case ["EVALSHA", sha, *_] if sha.encode() == load_scripts()["peek"].sha:
            return PEEKED
        case ["EVALSHA", *_]:
            return ["stale"]
        case _:
            return "OK"
