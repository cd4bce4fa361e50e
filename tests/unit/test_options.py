"""A counter's options are written down three times, and say the same each time.

Where the constructor and `open` are called, each parameter shows in help and hovers; the typed
dicts are for those who pass options on. So all three are written out, and compared here.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping

import pytest

from distkit_actors import (
    InstanceAwareCounter,
    LaxInstanceAwareCounter,
    LaxOptions,
    StrictInstanceAwareCounter,
    StrictOptions,
)

OPTIONS: dict[type[InstanceAwareCounter], type] = {
    InstanceAwareCounter: StrictOptions,
    StrictInstanceAwareCounter: StrictOptions,
    LaxInstanceAwareCounter: LaxOptions,
}
EACH = pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)


def parameters(function: object) -> Mapping[str, inspect.Parameter]:
    """What a public caller may give."""
    found = inspect.signature(function).parameters  # type: ignore[arg-type]
    return {n: p for n, p in found.items() if n not in {"self", "cls"} and not n.startswith("_")}


@EACH
def test_open_takes_what_the_constructor_takes(kind: type[InstanceAwareCounter]) -> None:
    constructor, opener = parameters(kind.__init__), parameters(kind.open)
    assert list(constructor) == list(opener)
    for name, parameter in constructor.items():
        assert opener[name].default == parameter.default, name
        assert opener[name].kind == parameter.kind, name
    hints = {name: typing.get_type_hints(kind.open)[name] for name in opener}
    assert hints == {name: typing.get_type_hints(kind.__init__)[name] for name in constructor}


@EACH
def test_the_typed_dict_has_every_option(kind: type[InstanceAwareCounter]) -> None:
    hints = typing.get_type_hints(kind.__init__)
    options = {
        name: hints[name]
        for name, parameter in parameters(kind.__init__).items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert typing.get_type_hints(OPTIONS[kind]) == options
    assert OPTIONS[kind].__required_keys__ == frozenset()  # type: ignore[attr-defined]


@EACH
def test_every_option_is_explained(kind: type[InstanceAwareCounter]) -> None:
    documented = kind if kind is not StrictInstanceAwareCounter else InstanceAwareCounter
    doc = inspect.getdoc(documented) or ""
    assert [name for name in parameters(kind.__init__) if f"\n    {name}: " not in doc] == []


@EACH
def test_open_hands_every_option_on(
    kind: type[InstanceAwareCounter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own value, so that none can stand for another."""
    given: dict[str, object] = {}
    real = kind.__init__

    class Noted(Exception):  # noqa: N818 - it is no error
        pass

    def noted(self: InstanceAwareCounter, *arguments: object, **options: object) -> None:
        bound = inspect.signature(real).bind(self, *arguments, **options)
        given.update(bound.arguments)
        raise Noted

    wanted = {name: object() for name in parameters(kind.open)}
    monkeypatch.setattr(kind, "__init__", noted)
    monkeypatch.setattr(kind, "__abstractmethods__", frozenset())
    with pytest.raises(Noted):
        kind.open(**wanted)  # type: ignore[arg-type]
    del given["self"]
    assert given == wanted
