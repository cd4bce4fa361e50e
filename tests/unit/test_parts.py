"""Which part a key is in, and where in a cluster the parts are (P44, parts)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import product
from string import ascii_lowercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkit_actors import InvalidKeyError, MemoryStore, RedisStore, open_store
from distkit_actors._protocol._partitions import MAX_PARTITIONS, part_of
from distkit_actors._protocol._values import checked_name
from distkit_actors._stores._redis._parts import TAGS, hash_tag, slot_of
from distkit_actors._stores._redis._wire import KeyNames

SLOTS = 16384


def is_name(text: str) -> bool:
    try:
        checked_name(text)
    except InvalidKeyError:
        return False
    return True


names = st.text(min_size=1, max_size=12).filter(is_name)
#: Those that stand in a hash tag as they are.
plain_names = names.filter(lambda name: not {"}", "%"}.intersection(name))
parts = st.integers(0, MAX_PARTITIONS - 1)


def crc16(text: bytes) -> int:
    """What the specification of Redis Cluster says, bit by bit."""
    crc = 0
    for byte in text:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return crc


def made_table() -> list[str]:
    """For each block of 64 slots the first pair whose slot is in it."""
    table: dict[int, str] = {}
    for pair in map("".join, product(digits + ascii_lowercase, repeat=2)):
        table.setdefault(crc16(pair.encode()) % SLOTS // 64, pair)
    return [table[block] for block in range(SLOTS // 64)]


def slots_of(prefix: str, partitions: int) -> list[int]:
    return [slot_of(hash_tag(prefix.encode(), part)) for part in range(partitions)]


def test_the_table_is_what_makes_it() -> None:
    """As data lie where it says, it stays as it is."""
    assert made_table() == TAGS
    assert TAGS[:4] == ["cv", "14", "6y", "10"]


@given(st.binary(max_size=40))
def test_slots_are_those_of_the_servers(text: bytes) -> None:
    assert slot_of(text) == crc16(text) % SLOTS
    assert crc16(b"123456789") == 0x31C3  # as in the specification


@given(plain_names, st.sampled_from([2, 4, 8, 16, 32, 64, 128, 256]))
def test_parts_lie_evenly_whatever_the_prefix_is(prefix: str, partitions: int) -> None:
    slots = slots_of(prefix, partitions)
    assert sorted(slot * partitions // SLOTS for slot in slots) == list(range(partitions))
    for nodes in range(2, 10):
        on_each = Counter(slot * nodes // SLOTS for slot in slots)
        shares = [on_each[node] - partitions / nodes for node in range(nodes)]
        assert max(map(abs, shares)) < 2


@given(plain_names, st.integers(1, MAX_PARTITIONS), st.integers(2, 6))
def test_any_number_of_parts_lies_nearly_so(prefix: str, partitions: int, nodes: int) -> None:
    on_each = Counter(slot * nodes // SLOTS for slot in slots_of(prefix, partitions))
    assert max(abs(on_each[node] - partitions / nodes) for node in range(nodes)) < 4


@given(plain_names, names, parts)
def test_all_keys_of_a_part_are_in_one_slot(prefix: str, instance: str, part: int) -> None:
    found = KeyNames(prefix, part)
    tags = {
        name.partition(b"{")[2].partition(b"}")[0]
        for name in (*found.keys(instance), found.channel)
    }
    assert tags == {hash_tag(prefix.encode(), part)}


@given(plain_names, plain_names, parts, parts, names)
def test_no_two_parts_share_a_name(
    prefix: str, other: str, part: int, another: int, instance: str
) -> None:
    one, two = KeyNames(prefix, part), KeyNames(other, another)
    if (prefix, part) != (other, another):
        mine, theirs = {*one.keys(instance), one.channel}, {*two.keys(instance), two.channel}
        assert mine.isdisjoint(theirs)


@given(names, parts)
def test_a_prefix_is_found_in_the_names_of_every_part(prefix: str, part: int) -> None:
    (name,) = [key for key in KeyNames(prefix, part).keys("me") if key.endswith(b"}:h")]
    assert KeyNames.prefix_of(name) == prefix


def test_what_looks_like_a_part_and_is_none_has_no_prefix() -> None:
    for name in (b"dk:{px.app.00}:h", b"dk:{p1.}:h", b"dk:{p1}:h"):
        assert KeyNames.prefix_of(name) is None


@given(names)
def test_part_0_is_where_a_namespace_with_one_part_is(prefix: str) -> None:
    assert KeyNames(prefix, 0).keys("me") == KeyNames(prefix).keys("me")


def test_a_key_stays_in_its_part() -> None:
    """As data lie where it says, it can never change."""
    assert [part_of(key, 16) for key in ("jobs", "é", "a b", "x" * 255)] == [5, 14, 3, 9]
    assert part_of("anything", 1) == 0


@pytest.mark.parametrize(
    "keys",
    [
        [f"user-{number}" for number in range(20_000)],
        [f"{number:08}" for number in range(0, 320_000, 16)],
        [f"2001-db8--{number:x}" for number in range(20_000)],
        ["".join(letters) for letters in product(ascii_lowercase, repeat=3)],
    ],
    ids=["numbered", "strides", "hexadecimal", "letters"],
)
@pytest.mark.parametrize("partitions", [2, 3, 16, 100])
def test_keys_that_are_like_each_other_are_spread_evenly(
    keys: Iterable[str], partitions: int
) -> None:
    sizes = Counter(part_of(key, partitions) for key in keys)
    even = sum(sizes.values()) / partitions
    assert all(0.75 * even < sizes[part] < 1.25 * even for part in range(partitions))


@pytest.mark.parametrize("partitions", [0, -1, 257])
def test_a_number_that_is_none(partitions: int) -> None:
    for make in (MemoryStore, lambda *, partitions: RedisStore("redis://h", partitions=partitions)):
        with pytest.raises(ValueError, match="partitions must be from 1 to 256"):
            make(partitions=partitions)


@pytest.mark.parametrize("partitions", [True, 2.0, "2", None])
def test_what_is_no_number(partitions: int) -> None:
    with pytest.raises(TypeError, match="partitions must be an int"):
        MemoryStore(partitions=partitions)


@pytest.mark.parametrize("url", ["memory://", "redis://localhost"])
def test_a_store_by_its_url(url: str) -> None:
    assert open_store(url).partitions == 1
    store = open_store(url, partitions=16)
    assert store.partitions == 16
    assert store.part(3) is store.part(3)
    assert repr(store.part(3)) == f"<part 3 of {store!r}>"
