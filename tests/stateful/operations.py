"""What may be asked of a counter, by name: the method, its arguments, and what the model is told.

Every operation takes a key and a count, so that any rule may draw any of them. Those on several
keys count on a second one too, and those with a condition make it from the count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from distkit_actors import Eq, Ge, Gt, Le, Lt, Ne

SMALL, EXTREME = ("a", "b"), "x"
KEYS = (*SMALL, EXTREME)

METHODS: Final = {
    "inc": "inc",
    "dec": "dec",
    "get": "get",
    "set": "set",
    "delete": "delete",
    "put": "set_on_instance",
    "remove": "delete_on_instance",
    "clear": "clear",
    "remove_all": "clear_on_instance",
    "inc_if": "inc_if",
    "set_if": "set_if",
    "put_if": "set_on_instance_if",
    "inc_all": "inc_all",
    "get_all": "get_all",
    "set_all": "set_all",
    "put_all": "set_all_on_instance",
    "inc_all_if": "inc_all_if",
    "set_all_if": "set_all_if",
    "put_all_if": "set_all_on_instance_if",
    "hold": "hold",
    "hold_below": "hold",
}
HOLDS: Final = {"hold", "hold_below", "hold!", "hold_below!"}
OF_EVERY_KEY: Final = {"clear", "remove_all"}
#: What a lax counter answers from its memory.
LOCAL: Final = {"inc", "dec", "get", "put", "inc_all", "get_all", "put_all", "hold"}
READS: Final = {"get", "get_all"}
#: What has no condition, and leaves the others' slices alone.
COUNTS: Final = {"inc", "dec", "get", "put", "inc!", "dec!", "get!", "put!"}
#: What the strict face does in another way.
METHODS.update({f"{name}!": METHODS[name] for name in sorted(LOCAL | {"hold_below"})})

_CONDITIONS: Final = {"==": Eq, "!=": Ne, "<": Lt, "<=": Le, ">": Gt, ">=": Ge}


@dataclass(frozen=True)
class Effect:
    """What an operation does to one key, in the words of the model."""

    kind: str
    count: int = 0
    condition: tuple[str, int] | None = None
    of_own: bool = False


@dataclass
class Wanted:
    """One call that somebody wants made."""

    name: str
    effects: dict[str, Effect]  # {key: effect}
    method: str = ""
    arguments: list[object] = field(default_factory=list)


def wanted(asked: str, key: str, count: int) -> Wanted:
    """Say how to make a call, and what it does."""
    name = asked.removesuffix("!")
    simple = name
    if name not in OF_EVERY_KEY:
        simple = name.removesuffix("_if").removesuffix("_all").removesuffix("_below")
    keys = KEYS if name in OF_EVERY_KEY else _pair(key) if "_all" in name else (key,)
    counts = {each: _count(simple, count, place) for place, each in enumerate(keys)}
    conditional = name.endswith("_if")
    effects = {
        each: Effect(
            {"dec": "inc", "hold": "enter"}.get(simple, simple),
            -number if simple == "dec" else number,
            _condition(name, number) if conditional or name == "hold_below" else None,
            of_own=simple == "put" and conditional,
        )
        for each, number in counts.items()
    }
    return Wanted(asked, effects, METHODS[name], _arguments(name, counts, effects))


def _arguments(name: str, counts: Mapping[str, int], effects: Mapping[str, Effect]) -> list[object]:
    if name in OF_EVERY_KEY:
        return []
    if name == "get_all":
        return [list(counts)]
    if name.endswith("_all"):
        return [dict(counts)]
    key, count = next(iter(counts.items()))
    condition = effects[key].condition
    if name == "hold_below":
        assert condition is not None
        return [key, count, condition[1] + count]
    if condition is None:
        return [key] if name in ("get", "delete", "remove") else [key, count]
    pairs = {each: (_met(effects[each]), number) for each, number in counts.items()}
    return [pairs] if "_all" in name else [key, pairs[key][0], count]


def _pair(key: str) -> tuple[str, str]:
    return (key, "b" if key == "a" else "a")


def _count(simple: str, count: int, place: int) -> int:
    if simple in ("get", "delete", "remove", "clear"):
        return 0
    return count if not place else count % 7 - 2


def _condition(name: str, count: int) -> tuple[str, int]:
    """Return a condition that often holds, and often does not."""
    number = count % 5
    return ("<=", number) if name == "hold_below" else (list(_CONDITIONS)[count % 6], number)


def _met(effect: Effect) -> object:
    assert effect.condition is not None
    sign, number = effect.condition
    return _CONDITIONS[sign](number)
