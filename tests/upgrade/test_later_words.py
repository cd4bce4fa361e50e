"""What a later version may add, today's package leaves alone, and does all it did."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import redis

from distkit_actors._stores._redis._lua_constants import Word
from distkit_actors._stores._redis._scripts import Script, load_scripts
from distkit_actors._stores._redis._subscription import changed_keys
from distkit_actors._stores._redis._wire import KeyNames
from tests.upgrade import words
from tests.upgrade.conversation import PREFIX
from tests.upgrade.words import Mark, Record, Step

#: What an instance's record has room for.
LATER = [b":%d" % number for number in range(1, 9)]

# Adds them to what is there: to the namespace, and to the record of each instance.
_ADD = f"""
local base = ARGV[1]
for _, name in ipairs(redis.call('KEYS', base .. '*')) do
  if name == base .. 'n' or string.sub(name, 1, #base + 2) == base .. 'i:' then
    for number = 1, {len(LATER)} do
      redis.call('HSET', name, ':' .. number, 'something')
    end
  end
end
return {{'added'}}
""".encode()
ADD = Script(_ADD, hashlib.sha1(_ADD, usedforsecurity=False).hexdigest().encode())


def without_later(told: Step | Mark) -> Step | Mark:
    """Return what was there besides the fields of a later version."""
    if isinstance(told, Step):
        return told
    data = {
        name: (kind, [pair for pair in pairs if pair[0] not in LATER], expires)
        for name, (kind, pairs, expires) in told.data.items()
    }
    return replace(told, data=data)


def fields_of(mark: Mark) -> list[list[bytes]]:
    return [pair for _, pairs, _ in mark.data.values() for pair in pairs]


def test_fields_of_a_later_version_change_nothing(client: redis.Redis, today: Record) -> None:
    """In what is kept of the namespace and of each instance; a `clear` may take them away."""
    base = f"{KeyNames.base(PREFIX)}:".encode()
    add = (ADD, (), [base])
    story = words.play(client, today, lambda _: load_scripts(), before_each=add)
    assert [without_later(now) for now in story] == today.story
    there = {pair[0] for now in story if isinstance(now, Mark) for pair in fields_of(now)}
    assert there.issuperset(LATER)


@pytest.mark.parametrize("payload", [b"\xff", b"\xff?a", b"\xff*a\xffb", b"\xff\xff"])
def test_an_announcement_of_a_later_version_is_of_any_key(payload: bytes) -> None:
    """Whatever it names; those of today name keys, which are not empty, or say that it is any."""
    assert changed_keys(payload) is None
    assert changed_keys(Word.ANY_KEY) is None
    assert changed_keys(b"a\xffb") == {"a", "b"}
