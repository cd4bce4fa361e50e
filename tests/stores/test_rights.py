"""What `distkit-actors acl` prints is enough, and nothing in it is too much."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest
import trio
from click.testing import CliRunner

from distkit_actors import Fleet, RedisStore, StoreError, StrictInstanceAwareCounter
from distkit_actors._cli.commands import cli
from distkit_actors._stores._redis._rights import acl_command, acl_rule
from distkit_actors._stores._redis._scripts import load_scripts
from distkit_actors._stores._redis._wire import KeyNames
from distkit_actors.testing._checks_push import changes_are_told
from tests.harness.cluster import ClusterNode, RedisCluster
from tests.harness.sentinel import SentinelTrio
from tests.harness.server import RedisServer

from .everything import by_counters, by_onlookers, by_watchers, looks

#: A prefix with all that has a meaning in a rule, and in the command that makes it.
ODD = "a:b*?[c]\\ d}%{\"é'\0\n"
RIGHTS = ("reset", "on", ">pw", "resetchannels")


def grant(server: RedisServer, rule: Sequence[str]) -> str:
    """Make a user with these rights and nothing more; return its URL."""
    server.command("ACL", "SETUSER", "user", *RIGHTS, *rule)
    return server.url.replace("redis://", "redis://user:pw@")


def printed(server: RedisServer, *words: str) -> list[str]:
    """Return the rule that the command prints for this server."""
    done = CliRunner().invoke(cli, ["acl", "--json", *words])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    rule: list[str] = told["rule" if server.version >= (7, 0) else "rule_before_redis_7"]
    return rule


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == code, result.output
    return result.output


def commands(url: str, prefix: str) -> None:
    """All that the command line does at a store."""
    run("set", url, prefix, "k", "0")
    run("delete", url, prefix, "k")
    run("clear", "--yes", url, prefix)
    run("forget", url, prefix, "nobody", code=2)
    commands_to_look(url, prefix)


def commands_to_look(url: str, prefix: str) -> None:
    run("get", url, prefix, "k")
    run("get", url, prefix)
    run("instances", url, prefix)
    run("slices", url, prefix, "k")
    run("top", "--once", "--interval", "0.1", url, prefix)
    run("check", url, prefix)


async def one_stops_to_watch(
    store: RedisStore, server: RedisServer, prefix: str, parts: Sequence[int], *, sharded: bool
) -> None:
    """One of those who watch parts of a prefix on one connection goes, and another one comes.

    The channel of the former is given up, and who was there before is told of changes as ever.
    """
    shard, publish = ("SHARD", "SPUBLISH") if sharded else ("", "PUBLISH")
    names = [KeyNames(prefix, part).channel.decode() for part in parts[:3]]

    def channels() -> set[str]:
        found: list[str | bytes] = server.command("PUBSUB", f"{shard}CHANNELS")
        return {name if isinstance(name, str) else name.decode() for name in found} & {*names}

    gone, lasting, coming = (store.part(part) for part in parts[:3])
    async with lasting.subscribe(prefix) as subscription:
        assert subscription is not None
        await subscription.connect()
        async with gone.subscribe(prefix) as another:
            assert another is not None
            await another.connect()
            assert channels() == {*names[:2]}
        async with coming.subscribe(prefix) as another:
            assert another is not None
            await another.connect()  # the server has answered what came before, too
            assert channels() == {*names[1:]}
            server.command(publish, names[1], "k")
            with trio.fail_after(30):
                assert await subscription.wait() == {"k"}


# ------------------------------------------------------------------------------ it is enough


async def test_the_rule_of_a_prefix_in_parts_is_enough_for_all_of_them(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    rule = printed(own_redis, fresh_prefix, "--watch", "--partitions", "3")
    store = RedisStore(grant(own_redis, rule), partitions=3)
    async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
        keys = [f"key {number}" for number in range(20)]
        await counter.inc_all(dict.fromkeys(keys, 1))
        with trio.fail_after(30):
            for key in keys:
                async with counter.watch(key) as values:
                    assert await values.receive() == (1, 1)
    await one_stops_to_watch(store, own_redis, fresh_prefix, range(3), sharded=False)


@pytest.mark.parametrize("odd", ["", ODD])
async def test_the_rule_of_a_prefix_is_enough_to_count(
    odd: str, own_redis: RedisServer, fresh_prefix: str
) -> None:
    prefix = fresh_prefix + odd
    url = grant(own_redis, printed(own_redis, prefix))
    await by_counters(prefix, RedisStore(url), "one", "two")
    await by_onlookers(prefix, RedisStore(url), "one")
    if not odd:
        await trio.to_thread.run_sync(commands, url, prefix)
    with pytest.raises(StoreError, match="the user may not"):
        async with StrictInstanceAwareCounter.open(f"{fresh_prefix}other", url):
            pytest.fail("it is too much")
    with pytest.raises(StoreError, match="grant it SCAN"):
        await Fleet.prefixes(url)


async def test_the_rule_with_watch_is_enough_to_be_told(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    url = grant(own_redis, printed(own_redis, "--watch", fresh_prefix))
    store = RedisStore(url)
    await by_watchers(fresh_prefix, store, "one", "two")
    async with store.subscribe(fresh_prefix) as subscription:
        assert subscription is not None
        await subscription.connect()
    async with store.subscribe(f"{fresh_prefix}other") as subscription:
        assert subscription is not None
        with pytest.raises(StoreError, match="the user may not"):
            await subscription.connect()


async def test_the_rule_of_who_looks_is_enough(own_redis: RedisServer, fresh_prefix: str) -> None:
    async with StrictInstanceAwareCounter.open(
        fresh_prefix, own_redis.url, instance_id="somebody", dead_instance_threshold=300.0
    ) as counter:
        await counter.set("k", 3)
        own_redis.command("SCRIPT", "FLUSH")
        url = grant(own_redis, printed(own_redis, "--read-only", fresh_prefix))
        async with Fleet.open(fresh_prefix, url) as fleet:
            await looks(fleet, "k", 3)
            async with fleet.watch("k") as values:
                assert await values.receive() == (3, 0)
            with pytest.raises(StoreError, match="the user may not"):
                await fleet.forget("somebody")
        await trio.to_thread.run_sync(commands_to_look, url, fresh_prefix)


async def test_the_rule_for_a_cluster_is_enough(cluster: RedisCluster, fresh_prefix: str) -> None:
    words = ("--topology", "cluster", "--watch", "--partitions", "8", fresh_prefix)
    rule = printed(cluster.nodes[0], *words)
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "user", *RIGHTS, *rule)
    url = f"redis+cluster://user:pw@127.0.0.1:{cluster.ports[0]}"
    store = RedisStore(url, partitions=8)
    with trio.fail_after(60):
        await by_counters(fresh_prefix, store, "one", "two")
        await by_watchers(fresh_prefix, store, "one", "two")
        for part in range(store.partitions):
            async with store.part(part).subscribe(fresh_prefix) as subscription:
                assert subscription is not None
                await subscription.connect()
        parts: dict[ClusterNode, list[int]] = {}
        for part in range(store.partitions):
            node = cluster.node_of(KeyNames(fresh_prefix, part).slot)
            parts.setdefault(node, []).append(part)
        node, there = max(parts.items(), key=lambda item: len(item[1]))
        await one_stops_to_watch(store, node, fresh_prefix, there, sharded=node.version >= (7, 0))


async def test_the_rule_for_sentinels_and_replicas_is_enough(fresh_prefix: str) -> None:
    with SentinelTrio() as watched:
        words = ("--topology", "sentinel", "--min-replicas", "--watch", fresh_prefix)
        rule = printed(watched.primary, *words)
        watched.primary.command("ACL", "SETUSER", "user", *RIGHTS, *rule)
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in watched.sentinels)
        url = f"redis+sentinel://user:pw@{hosts}/{watched.service}"
        store = RedisStore(url, min_replicas=1)
        with trio.fail_after(60):
            async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
                assert await counter.inc("k") == (1, 1)
                assert counter.statistics().warnings == ()
            await by_watchers(fresh_prefix, store, "one", "two")


async def test_a_database_takes_a_right_more(own_redis: RedisServer, fresh_prefix: str) -> None:
    url = grant(own_redis, printed(own_redis, "--db", "3", fresh_prefix)).rpartition("/")[0]
    async with StrictInstanceAwareCounter.open(fresh_prefix, f"{url}/3") as counter:
        assert await counter.inc("k") == (1, 1)


async def test_the_command_can_be_given_to_the_server_as_it_is_printed(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    prefix = fresh_prefix + ODD
    line = run("acl", "--user", "new", prefix).rstrip("\n")
    words = [
        re.sub(r"\\x(..)", lambda code: chr(int(code[1], 16)), word).strip('"').encode("latin-1")
        for word in re.findall(r'"[^"]*"|\S+', line)
    ]
    own_redis.command(*words)
    url = own_redis.url.replace("redis://", "redis://new:secret@")
    async with StrictInstanceAwareCounter.open(prefix, url) as counter:
        assert await counter.inc("k") == (1, 1)


# ---------------------------------------------------------------------- nothing is too much


async def everything(url: str, prefix: str, server: RedisServer) -> None:
    server.command("SCRIPT", "FLUSH")
    async with StrictInstanceAwareCounter.open(prefix, url) as counter:
        await counter.inc("k")
    await changes_are_told(RedisStore(url))
    store = RedisStore(url, partitions=3)
    await one_stops_to_watch(store, server, prefix, range(3), sharded=False)
    await Fleet.prefixes(url)
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StoreError, match="evict"):
            async with StrictInstanceAwareCounter.open(prefix, url):
                pass
    finally:
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_every_word_of_the_rule_is_needed(own_redis: RedisServer, fresh_prefix: str) -> None:
    rule = printed(own_redis, "--watch", "--db", "3")
    url = grant(own_redis, rule).rpartition("/")[0] + "/3"
    await everything(url, fresh_prefix, own_redis)
    for missing in rule:
        grant(own_redis, [word for word in rule if word != missing])
        try:
            await everything(url, fresh_prefix, own_redis)
        except (StoreError, AssertionError, pytest.fail.Exception):
            continue
        pytest.fail(f"{missing} is not needed")


async def test_every_word_of_the_rule_of_who_looks_is_needed(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    rule = printed(own_redis, "--read-only")

    async def look() -> None:
        own_redis.command("SCRIPT", "FLUSH")
        async with Fleet.open(fresh_prefix, url) as fleet:
            await looks(fleet, "k", 3)
            await fleet.get_all(["k"])
        await Fleet.prefixes(url)
        own_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(StoreError, match="evict"):
                async with Fleet.open(fresh_prefix, url):
                    pass
        finally:
            own_redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")

    async with StrictInstanceAwareCounter.open(
        fresh_prefix, own_redis.url, instance_id="somebody", dead_instance_threshold=300.0
    ) as counter:
        await counter.set("k", 3)
        url = grant(own_redis, rule)
        await look()
        for missing in rule:
            grant(own_redis, [word for word in rule if word != missing])
            try:
                await look()
            except (StoreError, pytest.fail.Exception):
                continue
            pytest.fail(f"{missing} is not needed")


def test_the_rule_has_what_the_scripts_call() -> None:
    called = set()
    for script in load_scripts().values():
        text = script.source.decode("latin-1")
        called |= set(re.findall(r"\b(?:p?call|spread)\('([A-Z]+)'", text))
        called |= set(re.findall(r"\{'([A-Z]{3,})', [NMLAHD]\b", text))
        called |= set(re.findall(r"'(S?PUBLISH)'", text))
    granted = {word[1:].upper() for word in acl_rule("p", watch=True) if word[0] == "+"}
    assert granted - called == {
        *("EVALSHA", "SCRIPT|LOAD", "INFO", "SUBSCRIBE", "UNSUBSCRIBE", "PING"),
    }
    assert called - granted == {"SPUBLISH"}  # in a cluster only
    assert "+spublish" in acl_rule("p", watch=True, topology="cluster")


# ------------------------------------------------------------------------------ what is said


def test_it_says_what_differs_between_servers() -> None:
    shown = run("acl", "--read-only", "my_app").splitlines()
    assert shown[::2] == ["# Redis 7.0 and newer, Valkey", "# Redis 6.2"]
    assert "+evalsha_ro" in shown[1]
    assert "%R~dk:{p.my_app}:*" in shown[1]
    assert "+evalsha " in shown[3]
    assert len(run("acl", "my_app").splitlines()) == 1


def test_who_looks_is_not_told_and_a_prefix_must_be_one() -> None:
    assert "cannot ask" in run("acl", "--watch", "--read-only", "p", code=2)
    assert "at most 255" in run("acl", "p" * 256, code=2)


def test_words_are_quoted_as_the_servers_command_line_reads_them() -> None:
    rule = acl_rule('a b"\\é*')
    assert rule[0] == '~dk:{p.a?b"\\\\é\\*}:*'
    assert '"~dk:{p.a?b\\x22\\x5c\\x5c\\xc3\\xa9\\x5c*}:*"' in acl_command("u", rule)
