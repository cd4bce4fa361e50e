"""What `top` makes of what it sees; no store, no terminal."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from distkit_actors import Fleet, InstanceInfo, MemoryStore, StrictInstanceAwareCounter
from distkit_actors._cli.text import age, columns, printable, shortened
from distkit_actors._cli.top import Picture, Row, lines, look, name_of, room_for_keys
from distkit_actors._limiter._names import TICKETS, companion
from distkit_actors._protocol._messages import QueryKind
from distkit_actors.testing import FaultyStore


def picture(instances: int = 3, keys: int = 2, hidden: int = 0) -> Picture:
    infos = [InstanceInfo(f"web-{n}", 1.5 * n, alive=n != 1) for n in range(instances)]
    rows = [
        Row(f"key-{k}", 10 * k, 2.5 * k, {info.instance_id: k for info in infos[1:]})
        for k in range(keys)
    ]
    values = {f"key-{k}": 10 * k for k in range(keys + hidden)}
    return Picture("shop", 0.0, infos, rows, values)


def test_all_of_it_in_a_pipe() -> None:
    assert lines(picture(hidden=3), None) == [
        "shop: 2 alive, 1 dead, 5 keys",
        "key          cumulative  per second  web-2  web-0       web-1",
        "(heartbeat)                          3.0 s  0.0 s  dead 1.5 s",
        "key-0                 0           0      0      ·           0",
        "key-1                10        +2.5      1      ·           1",
        "and 3 more keys",
    ]


def test_instances_that_do_not_fit_beside_each_other_stand_below_each_other() -> None:
    assert lines(picture(hidden=3), 40) == [
        "shop: 2 alive, 1 dead, 5 keys",
        "key    cumulative  per second",
        "key-0           0           0",
        "key-1          10        +2.5",
        "instance   heartbeat  key-0  key-1",
        "web-2          3.0 s      0      1",
        "web-0          0.0 s      ·      ·",
        "web-1     dead 1.5 s      0      1",
        "and 3 more keys",
    ]


@pytest.mark.parametrize("width", [10, 20, 30, 40, 60, 80])
def test_a_terminal_gets_what_fits(width: int) -> None:
    shown = lines(picture(instances=20), width)
    assert len(shown) == 1 + (1 + 2) + (1 + 20)
    assert all(len(line) <= width for line in shown)


@pytest.mark.parametrize(
    ("height", "keys", "instances", "hint"),
    [
        (100, 9, 20, "and 1 more key"),
        (24, 9, 10, "and 1 more key, 10 more instances"),
        (15, 5, 5, "and 5 more keys, 15 more instances"),
        (3, 1, 1, "and 9 more keys, 19 more instances"),
    ],
)
def test_a_low_terminal_says_what_does_not_fit(
    height: int, keys: int, instances: int, hint: str
) -> None:
    *shown, last = lines(picture(instances=20, keys=9, hidden=1), 40, height)
    assert last == hint
    assert sum(line.startswith("key-") for line in shown) == keys
    assert sum(line.startswith("web-") for line in shown) == instances
    assert len(shown) + 1 < max(height, 7)


def test_few_instances_leave_room_for_keys() -> None:
    shown = lines(picture(instances=3, keys=30), 40, 24)
    assert sum(line.startswith("key-") for line in shown) == 16


def test_one_is_no_plural() -> None:
    assert lines(picture(1, 1), None)[0] == "shop: 1 alive, 1 key"
    assert lines(picture(1, 0), None)[0] == "shop: 1 alive, 0 keys"


def test_long_names_are_cut_on_a_terminal_only() -> None:
    info = InstanceInfo("b3d1c0de-0000-4000-8000-000000000000", 0.0, alive=True)
    one = Picture("p", 0.0, [info], [Row("k" * 50, 1, None, {})], {"k" * 50: 1})
    assert info.instance_id in lines(one, None)[1]
    assert "b3d1c…000000" in lines(one, 200)[1]
    assert "k" * 27 + "…  " in lines(one, 200)[3]


def test_a_label_is_a_name() -> None:
    class Labelled(InstanceInfo):
        label = "checkout"

    assert name_of(Labelled("id", 0.0, alive=True)) == "checkout"
    assert name_of(InstanceInfo("id", 0.0, alive=True)) == "id"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.04, "0.0 s"), (9.9, "9.9 s"), (45, "45 s"), (119, "119 s")),
        *((300, "5 min"), (7200, "2 h"), (86_400 * 7, "7 d")),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_columns_of_wide_characters() -> None:
    assert columns([("键", "1"), ("abc", "22")], ["left", "right"]) == ["键    1", "abc  22"]
    assert columns([], ["left"]) == []


def test_what_is_printable() -> None:
    assert printable("a\x1b[2J\n\u202e") == r"a\x1b[2J\n\u202e"
    assert printable("键键键", 4) == "键…"
    assert printable("ünï", 3) == "ünï"


def test_names_that_differ_in_their_ends_still_do_so_when_they_are_cut() -> None:
    assert shortened("shop-7d9f8c6b5d-x2x4k", 12) == "shop-…-x2x4k"
    assert shortened("shop\n", 6) == r"shop\n"
    assert shortened("键键键", 5) == "键…键"


def test_there_is_room_for_one_key_at_least() -> None:
    assert room_for_keys(3) == 1
    assert room_for_keys(24) == 19


async def test_rates_are_by_time(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("p", store, instance_id="a") as counter,
        Fleet.open("p", store) as fleet,
    ):
        await counter.inc_all({"big": 100, "small": -200, "third": 1})
        first = await look(fleet, 2, None)
        assert [(row.key, row.rate) for row in first.rows] == [("small", None), ("big", None)]
        assert first.rows[1].slices == {"a": 100}
        await trio.sleep(2)
        await counter.inc_all({"big": 10, "new": 500})
        second = await look(fleet, None, first)
        rates = {row.key: row.rate for row in second.rows}
        assert rates == {"new": 250.0, "small": 0.0, "big": 5.0, "third": 0.0}
        assert second.alive == 1


async def test_tickets_of_limiters_are_left_out() -> None:
    """They are times, and would stand above all that is counted."""
    store = MemoryStore()
    async with (
        StrictInstanceAwareCounter.open("p", store) as counter,
        Fleet.open("p", store) as fleet,
    ):
        await counter.inc_all({"jobs": 1, companion("jobs", TICKETS, 1): 1_750_000_000_000})
        seen = await look(fleet, None, None)
        assert [row.key for row in seen.rows] == ["jobs"]
        assert lines(seen, None)[0] == "p: 1 alive, 1 key"


async def test_rates_are_those_of_when_the_values_were_read(autojump_clock: MockClock) -> None:
    """The store is away between the first and the last question of a look."""
    store = MemoryStore()
    wire = FaultyStore(store)
    async with (
        StrictInstanceAwareCounter.open("p", store, instance_id="a") as counter,
        Fleet.open("p", wire) as fleet,
    ):
        await counter.inc("k", 100)
        first = await look(fleet, None, None)
        await trio.sleep(1)
        wire.drop_request(1, when=lambda request: getattr(request, "kind", "") is QueryKind.KEYS)
        async with trio.open_nursery() as nursery:

            async def count() -> None:
                while not wire.counts["drop_request"]:
                    await trio.lowlevel.checkpoint()
                wire.cut()
                await trio.sleep(50)
                await counter.inc("k", 500)
                wire.heal()

            nursery.start_soon(count)
            second = await look(fleet, None, first)
        await trio.sleep(10)
        third = await look(fleet, None, second)
    (rate,), (none,) = [row.rate for row in second.rows], [row.rate for row in third.rows]
    assert 9 < rate <= 10
    assert none == 0
