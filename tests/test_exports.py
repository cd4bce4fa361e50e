"""The public names are deliberate, documented, and say where they are to be imported from."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import distkit_actors

PACKAGE = distkit_actors.__name__
CLASSES = [
    name for name in distkit_actors.__all__ if inspect.isclass(getattr(distkit_actors, name, None))
]


def public_members(cls: type) -> Iterator[tuple[str, object]]:
    """Methods, properties and the like that come from this package and are not private."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] != PACKAGE:
            continue
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            if callable(member) or isinstance(member, (classmethod, property, staticmethod)):
                yield name, getattr(cls, name)


def test_all_is_sorted_and_without_repetition() -> None:
    assert sorted(set(distkit_actors.__all__)) == list(distkit_actors.__all__)


def test_every_public_name_is_in_all() -> None:
    public = {
        name
        for name, value in vars(distkit_actors).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public <= set(distkit_actors.__all__)


@pytest.mark.parametrize("name", distkit_actors.__all__)
def test_it_can_be_imported_and_says_from_where(name: str) -> None:
    value = getattr(distkit_actors, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == PACKAGE
        assert value.__qualname__ == name


@pytest.mark.parametrize("name", distkit_actors.__all__)
def test_it_has_a_docstring(name: str) -> None:
    value = getattr(distkit_actors, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        # A class must have its own: an inherited one describes something else.
        assert (value.__doc__ or "").strip()


@pytest.mark.parametrize("name", CLASSES)
def test_its_methods_have_docstrings(name: str) -> None:
    members = public_members(getattr(distkit_actors, name))
    assert [member for member, value in members if not inspect.getdoc(value)] == []
