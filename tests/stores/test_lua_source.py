"""The Lua of the scripts keeps the house's rules: constants, includes, names, lengths."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from distkit_actors._stores._redis._lua_constants import CONSTANTS
from distkit_actors._stores._redis._scripts import INCLUDED, SCRIPTS, load_scripts, read_sources
from tests.stores.lua_source import Names, names, statements, tokens

SOURCES = read_sources()
#: What Lua and Redis bring along.
GLOBALS = {"ARGV", "KEYS", "collectgarbage", "error", "ipairs", "math", "pairs", "pcall"}
GLOBALS |= {"redis", "string", "table", "tonumber", "tostring", "type", "unpack"}
IN_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]+")

#: Strings of Lua's own which Python's words happen to be, too.
OTHER_MEANINGS = {"-": "the sign of a number", "l": "which of the Redis keys"}
#: Numbers above 2 that are no place in a list of words, with what they mean.
NUMBERS = {
    ("apply", "12"): "index of the first entry",
    ("apply", "9"): "index of the first key's sum, less one",
    ("apply", "4"): "words of an entry",
    ("archive", "16"): "base of a number in hexadecimal digits",
    ("base", "500"): "CHUNK: Python makes no variadic calls",
    ("base", "65"): "PAD: MemoryStore has no hashes of Redis",
    ("beat", "10"): "tenths",
    ("beats", "3"): "words of a heartbeat",
    ("entries", "3"): "where the sign of a condition ends",
    ("entries", "4"): "words of an entry; where the number of a condition begins",
    ("fast_path", "3"): "where the sign of a condition ends",
    ("fast_path", "4"): "words of an entry, and where they begin",
    ("fast_path", "5"): "index of the first entry in what is written",
    ("fast_path", "7"): "how many space fields there are more than own ones",
    ("fast_path", "8"): "length of ARGV with one entry and the time",
    ("fast_reaper", "3"): "index of :clear",
    ("fast_reaper", "4"): "index of :floor",
    ("fast_reaper", "5"): "index of :latest",
    ("fast_reaper", "7"): "index of :watch",
    ("fast_reaper", "9"): "index of :last, and of the first key's sum, less one",
    ("fast_reaper", "32"): "garbage: Python sweeps its own",
    ("fast_reaper", "1000"): "microseconds of a millisecond",
    ("journal", "4"): "words of an entry",
    ("lone", "6"): "digits of microseconds",
    ("observed", "10"): "tenths",
    ("query", "3"): "words of a row",
    ("query", "500"): "PAGE: MemoryStore gives one page",
    ("query", "7"): "index of the first key",
    ("query", "4500"): "LOOKS: MemoryStore gives one page",
    ("query", "4"): "HASH: MemoryStore gives one page",
    ("query", "8"): "FEWEST: MemoryStore gives one page",
    ("query", "6"): "index of what the asker has observed, which the keys follow",
    ("registry", "24"): "how much garbage is swept",
    ("reaper", "64"): "GARBAGE: Python sweeps its own",
    ("registry", "1000"): "microseconds of a millisecond",
    ("resume", "13"): "index of the words before the moves",
    ("resume", "14"): "index of the words before the epochs",
    ("resume", "15"): "index of the first move",
    ("step", "4"): "words of an entry",
    ("step", "10"): "own fields before the entries'",
    ("words", "3"): "words of an entry behind its first",
    ("words", "4"): "words of an entry, and where they begin",
    ("space", "3600000"): "HOUR: MemoryStore keeps no namespace that nobody has joined",
    ("watch", "1000"): "microseconds of a millisecond",
    ("watch", "60000"): "MINUTE, in milliseconds",
}


def whole(script: str) -> str:
    """A script with what it includes, and its constants still by name."""
    return re.sub(r"(?m)^--@include (\w+)\n", lambda match: SOURCES[match[1]], SOURCES[script])


def includes(script: str) -> list[str]:
    return re.findall(r"(?m)^--@include (\w+)$", SOURCES[script])


def needs(file: str) -> tuple[set[str], set[str]]:
    """The earlier files that a file says it needs, and the names that the script must have made."""
    match = re.match(
        r"-- Needs: ([\w, ]+)(?:; of the script:(?: |\n--   )([\w, ]+))?\n", SOURCES[file]
    )
    if match is None:
        return set(), set()
    return set(match[1].split(", ")), set(match[2].split(", ") if match[2] else ())


# ------------------------------------------------------------------------------ constants


def used() -> dict[str, set[str]]:
    """The constants that each file uses but does not make."""
    return {
        file: {name for name in names(source).foreign - GLOBALS if IN_CAPITALS.fullmatch(name)}
        for file, source in SOURCES.items()
    }


def test_every_constant_that_lua_uses_comes_from_python() -> None:
    made = {name for source in SOURCES.values() for name in names(source).made}
    assert set().union(*used().values()) - made == set(CONSTANTS)


def test_lua_makes_no_constant_that_python_has() -> None:
    for source in SOURCES.values():
        assert not set(names(source).made) & set(CONSTANTS)


def words_by_hand(file: str) -> Iterator[str]:
    """Strings that Python has a name for."""
    words = {value for value in CONSTANTS.values() if isinstance(value, str)}
    for token in tokens(SOURCES[file]):
        if token.kind == "string" and token.text[1:-1] in words - OTHER_MEANINGS.keys():
            yield f"{file}, line {token.line}: {token.text}"


def numbers_by_hand(file: str) -> Iterator[str]:
    """Numbers above 2 that are no index and not accounted for."""
    found = tokens(SOURCES[file])
    for before, token, after in zip(found, found[1:], found[2:], strict=False):
        index = before.text == "[" and after.text == "]"
        if token.kind != "number" or index or float(token.text) <= 2:
            continue
        if (file, token.text) not in NUMBERS:
            yield f"{file}, line {token.line}: {token.text}"


@pytest.mark.parametrize("file", SOURCES)
def test_what_python_knows_is_not_written_by_hand(file: str) -> None:
    assert not [*words_by_hand(file), *numbers_by_hand(file)]


def test_no_number_is_accounted_for_in_vain() -> None:
    written = {
        (file, token.text)
        for file, source in SOURCES.items()
        for token in tokens(source)
        if token.kind == "number"
    }
    assert not NUMBERS.keys() - written


def test_constants_are_written_out_in_what_is_sent() -> None:
    for script in load_scripts().values():
        sent = names(script.source.decode())
        assert sent.foreign <= GLOBALS
        assert not set(sent.made) & set(CONSTANTS)


# ------------------------------------------------------------------------------- includes


@pytest.mark.parametrize("script", SCRIPTS)
def test_files_are_included_in_the_one_order(script: str) -> None:
    included = includes(script)
    assert included == sorted(included, key=INCLUDED.index)
    for name in included:
        earlier, own = needs(name)
        assert earlier <= set(included[: included.index(name)])
        before = SOURCES[script].partition(f"--@include {name}\n")[0]
        assert own <= set(names(before).made)


def test_every_such_file_is_included() -> None:
    assert {name for script in SCRIPTS for name in includes(script)} == set(INCLUDED)


@pytest.mark.parametrize("file", INCLUDED)
def test_what_is_included_needs_what_it_says(file: str) -> None:
    made_by = {
        name: earlier
        for earlier in INCLUDED[: INCLUDED.index(file)]
        for name in names(SOURCES[earlier]).made
    }
    wanted = names(SOURCES[file]).foreign - GLOBALS - CONSTANTS.keys()
    needed = {made_by[name] for name in wanted if name in made_by}
    assert needs(file) == (needed, wanted - made_by.keys())


@pytest.mark.parametrize("file", INCLUDED)
def test_nothing_included_returns_from_the_script(file: str) -> None:
    blocks: list[str] = []
    loops = 0
    for token in tokens(SOURCES[file]):
        if token.text == "do" and loops:
            loops -= 1
        elif token.text in ("function", "if", "for", "while", "do", "repeat"):
            blocks.append(token.text)
            loops += token.text in ("for", "while")
        elif token.text in ("end", "until"):
            blocks.pop()
        elif token.text == "return":
            assert "function" in blocks, token.line
    assert not blocks


# ---------------------------------------------------------------------------------- names


def of(script: str) -> Names:
    return names(whole(script))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_name_is_made_before_it_is_used(script: str) -> None:
    assert of(script).foreign - GLOBALS <= CONSTANTS.keys()


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_name_hides_another_one(script: str) -> None:
    assert of(script).hiding == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_constant_is_bound_again(script: str) -> None:
    assert not [name for name in of(script).assigned if name.isupper()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_is_made_in_vain(script: str) -> None:
    """Of what a script itself makes; what is included serves many."""
    source = whole(script)
    for name in names(SOURCES[script]).made:
        assert len(re.findall(rf"\b{name}\b", source)) > 1, name


# -------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize("file", SOURCES)
def test_lines_and_files_are_short(file: str) -> None:
    lines = SOURCES[file].splitlines()
    assert len(lines) < 300
    assert [line for line in lines if len(line) > 100] == []
    assert [line for line in lines if line != line.rstrip() or "\t" in line] == []


# ------------------------------------------------------------------------------ the reader


def test_the_reader_finds_what_it_is_for() -> None:
    source = """\
-- 'a comment' CONSTANT
local first, second = used, {field = 1, [third] = 2}
local function make(first)
  for index, value in ipairs(first) do
    second = value
  end
  while second do
    local second = second.field
  end
  if first
    or second then
    third[1] = CONSTANT
  else
    FIXED, index = 'it''s', call(
      first)
  end
  return first
end
"""
    found = names(source)
    assert found.made == ["first", "second", "make"]
    assert found.foreign == {"used", "third", "ipairs", "CONSTANT", "FIXED", "index", "call"}
    assert found.hiding == ["first, line 3", "second, line 8"]
    assert found.assigned == ["second", "FIXED", "index"]
    assert [token.line for token in statements(source)] == [2, 3, 4, 5, 7, 8, 10, 12, 14, 17]
