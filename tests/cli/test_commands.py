"""Each command, as its user calls it, against a real server."""

from __future__ import annotations

import json
from functools import partial

import pytest
import trio
from click.testing import CliRunner, Result

import distkit_actors
from distkit_actors import RedisStore, StoreError, StrictInstanceAwareCounter
from distkit_actors._cli.commands import cli
from tests.cli.seed import seed
from tests.harness.server import RedisServer

SLICES = {"web-1": {"connections": 1234, "sessions": 17}, "web-2": {"connections": 5}}


@pytest.fixture
def shop(redis_url: str, fresh_prefix: str) -> tuple[str, str]:
    """Where a namespace is in which two instances count."""
    seed(redis_url, fresh_prefix, SLICES, dead_instance_threshold=300.0)
    return redis_url, fresh_prefix


def run(*words: str, code: int = 0, **options: object) -> Result:
    result = CliRunner().invoke(cli, words, **options)  # type: ignore[arg-type]
    assert result.exit_code == code, result.output
    return result


def out(*words: str) -> str:
    return run(*words).stdout


def test_values(shop: tuple[str, str]) -> None:
    assert out("get", *shop, "connections") == "1239\n"
    assert out("get", *shop, "sessions", "no such") == "sessions  17\nno such    0\n"
    assert out("get", *shop) == "connections  1239\nsessions       17\n"
    assert json.loads(out("get", *shop, "--json")) == {"connections": 1239, "sessions": 17}


def test_who_is_there(shop: tuple[str, str]) -> None:
    lines = out("instances", *shop).splitlines()
    assert [line.split()[:2] for line in lines] == [["web-1", "alive"], ["web-2", "alive"]]
    assert {line.split()[-1] for line in lines} == {distkit_actors.__version__}
    told = json.loads(out("instances", *shop, "--json"))
    assert [one["instance_id"] for one in told] == ["web-1", "web-2"]
    assert all(one["alive"] and one["heartbeat_age"] < 60 for one in told)


def test_slices(shop: tuple[str, str]) -> None:
    assert out("slices", *shop, "connections") == "web-1  1234\nweb-2     5\n"
    found = json.loads(out("slices", *shop, "connections", "--json"))
    assert found == {"web-1": 1234, "web-2": 5}
    assert out("slices", *shop, "nothing") == ""


def test_slices_have_the_labels_of_their_instances(redis_url: str, fresh_prefix: str) -> None:
    seed(redis_url, fresh_prefix, {"id-1": {"k": 3}}, label="web\t1")
    seed(redis_url, fresh_prefix, {"id-2": {"k": 12}})
    assert out("slices", redis_url, fresh_prefix, "k") == "id-1   3  web\\t1\nid-2  12\n"
    assert json.loads(out("slices", redis_url, fresh_prefix, "k", "--json")) == {
        "id-1": 3,
        "id-2": 12,
    }


def test_where_nobody_is_it_says_so(redis_url: str, fresh_prefix: str) -> None:
    for words, remark in (
        (("instances",), f"nobody is there in {fresh_prefix}"),
        (("get",), f"nothing is counted in {fresh_prefix}"),
        (("slices", "key"), "nobody contributes to key"),
    ):
        shown = run(words[0], redis_url, fresh_prefix, *words[1:])
        assert (shown.stdout, shown.stderr) == ("", remark + "\n")
        assert run(words[0], "--json", redis_url, fresh_prefix, *words[1:]).stderr == ""


def test_prefixes(shop: tuple[str, str]) -> None:
    url, prefix = shop
    assert prefix in out("prefixes", url).splitlines()
    assert prefix in json.loads(out("prefixes", url, "--json"))


def test_top_prints_keys_and_instances(shop: tuple[str, str]) -> None:
    title, head, beats, *rows = out("top", *shop, "--once", "--interval", "0.1").splitlines()
    assert title == f"{shop[1]}: 2 alive, 2 keys"
    assert head.split() == ["key", "cumulative", "per", "second", "web-1", "web-2"]
    assert beats.startswith("(heartbeat)")
    assert [row.split() for row in rows] == [
        ["connections", "1239", "0", "1234", "5"],
        ["sessions", "17", "0", "17", "·"],
    ]


def test_top_as_json(shop: tuple[str, str]) -> None:
    words = ("top", *shop, "--once", "--interval", "0.1", "--json", "--keys", "1")
    told = json.loads(out(*words))
    assert told["prefix"] == shop[1]
    assert [one["instance_id"] for one in told["instances"]] == ["web-1", "web-2"]
    (row,) = told["keys"]
    assert (row["key"], row["cumulative"], row["rate"]) == ("connections", 1239, 0.0)
    assert row["slices"] == {"web-1": 1234, "web-2": 5}


def test_set_and_delete_move_the_epoch(shop: tuple[str, str]) -> None:
    held = run("set", *shop, "sessions", "-5", "--for", "0")
    assert (held.stdout, held.stderr) == ("-5\n", "holding -5 for 0 s\n")
    assert out("get", *shop, "sessions") == "0\n"  # it went with the one who counted it
    assert out("set", *shop, "connections", "0") == "0\n"
    assert out("get", *shop) == ""
    seed(*shop, {"web-3": {"more": 2}})
    assert out("delete", *shop, "more", "sessions") == "more  2\nsessions  0\n"
    assert out("get", *shop, "more") == "0\n"


def test_what_is_no_number_of_seconds_changes_nothing(shop: tuple[str, str]) -> None:
    wrong = run("set", *shop, "sessions", "5", "--for", "nan", code=2)
    assert "no number of seconds" in wrong.stderr
    assert out("get", *shop, "sessions") == "17\n"


def test_clear_asks(shop: tuple[str, str]) -> None:
    asked = run("clear", *shop, code=1, input="n\n")
    assert "Delete all keys" in asked.output
    assert out("get", *shop, "sessions") == "17\n"
    run("clear", *shop, input="y\n")
    assert out("get", *shop) == ""
    seed(*shop, {"web-3": {"more": 2}})
    assert out("clear", *shop, "--yes") == ""
    assert out("get", *shop) == ""


def test_forget(shop: tuple[str, str]) -> None:
    shown = run("forget", *shop, "nobody", "web-1", code=2)
    assert shown.stdout == ""
    assert shown.stderr == (
        "Error: no instance has the id 'nobody': `instances` prints the ids in its first column\n"
    )
    shown = run("forget", *shop, "DOM\\user", code=2)
    assert "the id 'DOM\\user':" in shown.stderr
    assert out("get", *shop, "connections") == "5\n"
    assert len(out("instances", *shop).splitlines()) == 1


def test_a_namespace_whose_every_member_died_says_so(redis_url: str, fresh_prefix: str) -> None:
    seed(redis_url, fresh_prefix, SLICES, dead_instance_threshold=0.02)
    while "alive" in out("instances", redis_url, fresh_prefix):
        pass
    shown = run("instances", redis_url, fresh_prefix)
    assert [line.split()[1] for line in shown.stdout.splitlines()] == ["dead", "dead"]
    assert shown.stderr == "nobody is alive\n"
    assert out("get", redis_url, fresh_prefix, "connections") == "0\n"
    assert run("get", redis_url, fresh_prefix).stderr == f"nothing is counted in {fresh_prefix}\n"
    top = out("top", redis_url, fresh_prefix, "--once", "--interval", "0.1")
    assert top.splitlines()[0] == f"{fresh_prefix}: 0 alive, 2 dead, 0 keys"
    assert "2 dead instances are still in the store" in out("check", redis_url, fresh_prefix)
    run("check", redis_url, fresh_prefix, "--strict", code=1)


# -------------------------------------------------------------------------------- check


def test_check_finds_nothing_wrong(shop: tuple[str, str]) -> None:
    lines = out("check", *shop).splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert any("the slices of 2 keys add up" in line for line in lines)
    told = json.loads(out("check", *shop, "--json"))
    assert told["ok"]
    assert {finding["level"] for finding in told["findings"]} == {"ok"}


def test_check_finds_what_somebody_did_by_hand(own_redis: RedisServer, fresh_prefix: str) -> None:
    url = own_redis.url
    seed(url, fresh_prefix, SLICES, dead_instance_threshold=300.0)
    own_redis.command("HINCRBY", f"dk:{{p.{fresh_prefix}}}:n", "sessions", 2)
    shown = run("check", url, fresh_prefix, code=1).stdout
    assert "wrong" in shown
    assert "the cumulative of 'sessions' is 19, and its slices add up to 17" in shown
    assert not json.loads(run("check", url, fresh_prefix, "--json", code=1).stdout)["ok"]
    out("delete", url, fresh_prefix, "sessions")  # as it advises
    out("check", url, fresh_prefix)
    own_redis.command("DEL", f"dk:{{p.{fresh_prefix}}}:i:web-2")
    shown = run("check", url, fresh_prefix, code=1).stdout
    assert "is 1239, and its slices add up to 1234" in shown
    own_redis.command("DEL", f"dk:{{p.{fresh_prefix}}}:n")
    assert "there are no instances" in out("check", url, fresh_prefix)


def test_check_names_ten_keys_at_most(own_redis: RedisServer, fresh_prefix: str) -> None:
    counts = {f"key-{number:02}": 1 for number in range(15)}
    seed(own_redis.url, fresh_prefix, {"a": counts}, dead_instance_threshold=300.0)
    own_redis.command("HDEL", f"dk:{{p.{fresh_prefix}}}:n", *counts)
    shown = run("check", own_redis.url, fresh_prefix, code=1).stdout
    assert shown.count("its slices add up to") == 10
    assert "5 more keys" in shown


def test_check_knows_who_may_only_look(own_redis: RedisServer, fresh_prefix: str) -> None:
    seed(own_redis.url, fresh_prefix, SLICES, dead_instance_threshold=300.0)
    rights = ("-@all", "+@read", "+@connection", "+time", "+evalsha", "+script")
    own_redis.command("ACL", "SETUSER", "eye", "reset", "on", ">pw", "~dk:*", *rights)
    url = own_redis.url.replace("redis://", "redis://eye:pw@")
    shown = out("check", url, fresh_prefix)
    assert "may look, but not count" in shown
    assert "how the store is set up cannot be seen: the server does not tell" in shown


def test_set_takes_the_parts_that_it_is_told_if_nobody_is_alive(
    own_redis: RedisServer, fresh_prefix: str
) -> None:
    words = ("set", own_redis.url, fresh_prefix, "k", "7", "--for", "0", "--partitions", "16")
    assert out(*words) == "7\n"
    assert len(own_redis.command("KEYS", f"dk:*{fresh_prefix}*:n")) == 16


def test_an_error_is_said_with_its_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(_: object) -> None:
        error = StoreError("out\nof memory")
        error.add_note("it has taken effect in 11 of 16 parts")
        raise error

    monkeypatch.setattr(StrictInstanceAwareCounter, "clear", refused)
    said = run("clear", "memory://", "p", "--yes", code=2).stderr
    assert "out of memory; it has taken effect in 11 of 16 parts" in said


def test_words_after_two_dashes_are_no_options(
    shop: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, prefix = shop
    monkeypatch.setenv("DISTKIT_ACTORS_URL", url)
    assert out("get", prefix, "--", "--help") == "0\n"


def test_a_user_has_a_name_that_can_be_sent() -> None:
    assert "cannot be the name" in run("acl", "p", "--user", "\udcff", code=2).stderr


def test_check_refuses_a_server_that_evicts(own_redis: RedisServer, fresh_prefix: str) -> None:
    own_redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    shown = run("check", own_redis.url, fresh_prefix, code=2)
    assert "evict any key" in shown.stderr


def test_check_of_nobody(redis_url: str, fresh_prefix: str) -> None:
    assert "there are no instances" in out("check", redis_url, fresh_prefix)
    assert fresh_prefix not in out("prefixes", redis_url).splitlines()


# --------------------------------------------------------------------------- bad words


def test_the_url_may_be_in_the_environment(
    shop: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, prefix = shop
    assert "DISTKIT_ACTORS_URL" in run("get", prefix, code=2).stderr
    monkeypatch.setenv("DISTKIT_ACTORS_URL", url)
    assert out("get", prefix, "sessions") == "17\n"
    assert out("get", "--json", prefix, "sessions") == '{"sessions": 17}\n'
    assert prefix in out("prefixes").splitlines()
    monkeypatch.setenv("DISTKIT_ACTORS_URL", "redis://127.0.0.1:1")
    assert out("get", url, prefix, "sessions") == "17\n"
    assert "Usage" in out("get", "-h")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("get", "redsi://h", "p", "k"), "begins with redis://"),
        (("get", "redis:/h", "p", "k"), "must begin with redis://"),
        (("get", "h:6379", "p", "k"), "for the store there write redis://h:6379;"),
        (("top", "localhost", "p"), "for the store there write redis://localhost;"),
        (("clear", "--yes", "a.example:7000/1"), "there write redis://a.example:7000/1;"),
        (("check", "[::1]:6379"), "for the store there write redis://[::1]:6379;"),
        (("set", "me:pw@h:6379", "p", "k", "-1"), "there write redis://user:password@h:6379;"),
        (("get", "p", "redis://h", "k"), "the URL of the store is the first argument"),
        (("set", "p", "redis://h", "k", "-1"), "the URL of the store is the first argument"),
        (("redis://me:pw@h", "top", "p"), "a command comes first, and the URL of the store behind"),
        (("me:pw@h:6379", "top", "p"), "a command comes first, and the URL of the store behind"),
        (("demo", "redis://me:pw@h"), "the URL of a store stands behind --url"),
        (("demo", "--ur1=redis://me:pw@h"), "the URL of a store stands behind --url"),
        (("get", "me:pw/@h:6379", "k"), "there write redis://user:password@h:6379;"),
        (("get", "redis//me:pw@h", "k"), "begins with redis://"),
        (("check", "p", "me:pw@h:6379", "more"), "too many arguments: …, 'more'"),
        (("check", "redis://h", "p", "redis://h?password=me:pw"), "too many arguments: …"),
    ],
)
def test_a_mistyped_url_is_no_prefix(
    words: tuple[str, ...],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
) -> None:
    """It would be one, as the URL in the environment would be taken for the one that is meant."""
    monkeypatch.setenv("DISTKIT_ACTORS_URL", redis_url)
    shown = run(*words, code=2)
    assert complaint in shown.stderr
    assert shown.stdout == ""
    assert "me:pw" not in shown.output


def test_prefixes_and_keys_with_colons_are_what_they_are(
    redis_url: str, fresh_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{fresh_prefix}.example:6379"
    short = [f"{fresh_prefix}:42", f"{fresh_prefix}:2042", f"{fresh_prefix}.acme:2042"]
    for prefix in (*short, f"{fresh_prefix}://", address):
        seed(redis_url, prefix, {"a": {"user:1": 1, "https://x": 2, "localhost:6379": 3}})
        assert out("get", redis_url, prefix, "user:1") == "1\n"  # behind a URL all is possible
    monkeypatch.setenv("DISTKIT_ACTORS_URL", redis_url)
    for prefix in short:
        assert out("get", prefix, "user:1") == "1\n"
        assert out("get", "--json", prefix, "https://x") == '{"https://x": 2}\n'
        assert out("slices", prefix, "localhost:6379") == "a  3\n"
    assert f"if '{address}' is a prefix" in run("get", address, "user:1", code=2).stderr


def test_the_rights_are_of_a_prefix_and_not_of_a_url() -> None:
    secret = ("redis://me:pw@h", "me:pw@h:6379", "redis://h?password=me:pw", "redis//me:pw@h")
    for words in (("redis://localhost", "p"), *((one,) for one in secret), ("p", secret[0])):
        shown = run("acl", *words, code=2)
        assert "acl asks no store: leave the URL out" in shown.stderr
        assert "me:pw" not in shown.output
    shown = run("acl", "redis://localhost")
    assert "~dk:{p.redis://localhost}:*" in shown.stdout
    assert shown.stderr == "these are the rights for a prefix 'redis://localhost'\n"
    assert run("acl", "tenant:42").stderr == ""
    assert "~dk:{p.celery@10.0.0.1}:" in run("acl", "--", "celery@10.0.0.1").stdout
    assert "~dk:{p.-tenant}:" in run("acl", "--", "-tenant").stdout
    for words in (("p", "--", secret[0]), (secret[0], "--")):
        assert "me:pw" not in run("acl", *words, code=2).output


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("get", "redis://127.0.0.1:1", "p"), "cannot be reached"),
        (("prefixes", "redis://127.0.0.1:1"), "cannot be reached"),
        (("check", "redis://127.0.0.1:1", "p"), "cannot be reached"),
        (("set", "redis://127.0.0.1:1", "p", "k", "0"), "cannot be reached"),
        (("get", "memory://", ""), "a prefix must not be empty"),
        (("get", "memory://", "p", ""), "a key must not be empty"),
        (("get", "http://x", "p"), "begins with redis://"),
        (("get", "p", "k"), "where is the store? Give its URL first, such as redis://localhost,"),
        (("get", "localhost:6379", "p"), "Give its URL first, such as redis://localhost:6379,"),
        (("get", "p", "redis://h"), "the URL of the store is the first argument"),
        (("get", "10.0.0.1:6379/1", "p"), "Give its URL first, such as redis://10.0.0.1:6379/1,"),
        (("top", "localhost", "p"), "Give its URL first, such as redis://localhost,"),
        (("set", "memory://", "p", "k", str(2**63)), "64 bits"),
        (("set", "memory://", "p", "k", "x"), "not a valid int"),
        (("forget", "memory://", "p"), "Missing argument"),
    ],
)
def test_trouble_is_told_in_a_line(words: tuple[str, ...], complaint: str) -> None:
    shown = run(*words, code=2)
    assert complaint in shown.stderr
    assert "Traceback" not in shown.output


def test_what_a_terminal_would_obey_is_not_printed(redis_url: str, fresh_prefix: str) -> None:
    seed(redis_url, fresh_prefix, {"a\x1b[2J": {"k\n\x07": 1}}, dead_instance_threshold=300.0)
    for words in (("get",), ("instances",), ("top", "--once", "--interval", "0.1")):
        shown = out(words[0], redis_url, fresh_prefix, *words[1:])
        assert shown.isprintable() or all(line.isprintable() for line in shown.splitlines())


def test_the_demo_is_still_there() -> None:
    assert "COMMAND" in run("--help").stdout
    run("demo", "--seconds", "1", code=2)


def test_a_prefix_in_parts_is_found_to_be(redis_url: str, fresh_prefix: str) -> None:
    """Though the URL does not say so."""
    store = RedisStore(redis_url, partitions=4)
    counts = {f"key-{number}": number for number in range(1, 9)}

    async def meanwhile() -> None:
        async with StrictInstanceAwareCounter.open(fresh_prefix, store) as counter:
            await counter.inc_all(counts)
            run_in_thread = partial(trio.to_thread.run_sync, out)
            shown = await run_in_thread("get", redis_url, fresh_prefix)
            assert dict(map(str.split, shown.splitlines())) == {
                k: str(n) for k, n in counts.items()
            }
            assert await run_in_thread("get", redis_url, fresh_prefix, "key-5") == "5\n"
            assert "1 alive" in await run_in_thread("check", redis_url, fresh_prefix)
            assert await run_in_thread("delete", redis_url, fresh_prefix, "key-7") == "key-7  7\n"
            assert await run_in_thread("set", redis_url, fresh_prefix, "key-8", "0") == "0\n"
            assert await counter.keys() == [f"key-{number}" for number in range(1, 7)]
            await run_in_thread("clear", redis_url, fresh_prefix, "--yes")
            assert await counter.keys() == []

    trio.run(meanwhile)
