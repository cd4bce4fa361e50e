"""The public names are deliberate, documented, complete, and say where to import them from."""

from __future__ import annotations

import ast
import builtins
import collections.abc
import contextlib
import importlib.metadata
import inspect
import pickle
import re
import types
import typing
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import opentelemetry.metrics
import prometheus_client.core
import pytest
import redis.asyncio
import trio

import distkit_actors
import distkit_actors.abc
import distkit_actors.opentelemetry
import distkit_actors.prometheus
import distkit_actors.testing
from distkit_actors import Condition
from distkit_actors._protocol import _immutable, _messages

PACKAGE = distkit_actors.__name__
MODULES = (
    distkit_actors,
    distkit_actors.abc,
    distkit_actors.opentelemetry,
    distkit_actors.prometheus,
    distkit_actors.testing,
)
NAMES = [(module, name) for module in MODULES for name in module.__all__]

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)

#: Where else a name in a signature may come from.
ELSEWHERE = (
    builtins,
    collections.abc,
    contextlib,
    opentelemetry.metrics,
    prometheus_client.core,
    redis.asyncio,
    trio,
    trio.abc,
    types,
    typing,
)


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


def members_of(name: str, value: object) -> Iterator[tuple[str, object]]:
    """The public members of a class, or a function itself."""
    return public_members(value) if inspect.isclass(value) else iter([(name, value)])


def classes_of(module: ModuleType) -> list[type]:
    """The classes that a module exports."""
    return [value for name in module.__all__ if inspect.isclass(value := getattr(module, name))]


def home_of(value: type | types.FunctionType) -> ModuleType:
    """The module that `value` says it is from: the first that exports it."""
    return next(m for m in MODULES if value in [getattr(m, name) for name in m.__all__])


@each_module
def test_all_is_without_repetition(module: ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)


@each_module
def test_every_public_name_is_in_all(module: ModuleType) -> None:
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public <= set(module.__all__)


@each_module
def test_names_can_be_imported_and_say_from_where(module: ModuleType) -> None:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert (value.__module__, value.__qualname__) == (home_of(value).__name__, name)
            assert pickle.loads(pickle.dumps(value)) is value


@each_module
def test_names_have_docstrings(module: ModuleType) -> None:
    # A class must have its own: an inherited one describes something else.
    docs = {
        name: (value.__doc__ or "").strip()
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name)) or inspect.isfunction(value)
    }
    # One that begins so is what a dataclass or a tuple makes up.
    assert [name for name, doc in docs.items() if not doc or doc.startswith(f"{name}(")] == []


@each_module
def test_methods_have_docstrings(module: ModuleType) -> None:
    silent = [
        f"{cls.__name__}.{member}"
        for cls in classes_of(module)
        for member, value in public_members(cls)
        if not inspect.getdoc(value)
    ]
    assert silent == []


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of a public class or function, those of attributes included."""
    names = {name for _, name in NAMES}
    for path in sorted(Path(distkit_actors.__file__).parent.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for comment, name in re.findall(r"^((?:#: .*\n)+)(\w+)", source, re.MULTILINE):
            if name in names:
                yield f"{path.name}, {name}", comment
        for node in ast.parse(source).body:
            name = getattr(node, "name", "")
            if name in names or name.endswith("Mixin"):
                members = [m for m in node.body if not getattr(m, "name", "_").startswith("_")]
                for part in [node, *members]:
                    for line in getattr(part, "body", ()):
                        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
                            yield f"{path.name}, line {line.lineno}", str(line.value.value)


def test_docstrings_need_no_other_text() -> None:
    """A hover shows one of them alone, and users do not know our rules by their numbers."""
    found = list(docstrings())
    assert len(found) > 250
    assert [where for where, text in found if re.search(r"\b[PIHLA]\d+\b", text)] == []
    assert [where for where, text in found if re.search(r"\ASee |: The same\.", text)] == []
    leads_away = r"See `\w+\.\w+`\.\s*\Z"  # to another class, for all that matters
    assert [where for where, text in found if re.search(leads_away, text)] == []


def fields() -> Iterator[tuple[str, bool]]:
    """Every public field of a public class, and whether it has a docstring, which a hover shows."""
    names = {cls.__name__ for module in MODULES for cls in classes_of(module)}
    for path in sorted(Path(distkit_actors.__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                for field, after in pairwise([*node.body, ast.Pass()]):
                    match field, after:
                        case ast.AnnAssign(target=ast.Name(id=name)), _ if name[0] == "_":
                            pass
                        case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str())):
                            yield f"{node.name}.{name}", True
                        case ast.AnnAssign(target=ast.Name(id=name)), _:
                            yield f"{node.name}.{name}", False
                        case _:
                            pass


def test_each_field_has_a_docstring() -> None:
    found = dict(fields())
    assert len(found) > 100
    assert [name for name, documented in found.items() if not documented] == []


def test_help_explains_each_field_of_what_users_are_given() -> None:
    """It does not show the docstrings of fields, so that of the class lists them."""
    for cls in classes_of(distkit_actors):
        if issubclass(cls, Condition):
            continue
        names = getattr(cls, "_fields", ()) or tuple(getattr(cls, "__dataclass_fields__", ()))
        lists = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
        assert (cls, tuple(re.findall(r"^    (\w+): \S", lists, re.MULTILINE))) == (cls, names)


@each_module
def test_what_is_async_says_whether_it_is_a_checkpoint(module: ModuleType) -> None:
    """And what is left of it when it is cancelled, as a hover shows one docstring alone."""
    docs = {
        f"{name}.{member}": inspect.getdoc(function) or ""
        for name in module.__all__
        for member, function in members_of(name, getattr(module, name))
        if inspect.iscoroutinefunction(inspect.unwrap(function))  # type: ignore[arg-type]
    }
    silent = [m for m, doc in docs.items() if not re.search("checkpoint", doc, re.IGNORECASE)]
    assert silent == []
    assert [m for m, doc in docs.items() if not re.search("cancel", doc, re.IGNORECASE)] == []


# ------------------------------------------------------------------------------- complete


def public_functions(value: object) -> Iterator[types.FunctionType]:
    """What somebody calls who holds `value`: itself, or its methods and properties."""
    if isinstance(value, types.FunctionType):
        yield value
    if not inspect.isclass(value):
        return
    members = [("__init__", vars(value).get("__init__")), *public_members(value)]
    for _, member in members:
        function = member.fget if isinstance(member, property) else member
        function = inspect.unwrap(getattr(function, "__func__", function))  # type: ignore[arg-type]
        if isinstance(function, types.FunctionType):
            yield function


def classes_in(hint: object) -> Iterator[type]:
    """Every class that an annotation mentions, however deep."""
    if isinstance(hint, type):
        yield hint
    for part in typing.get_args(hint):
        yield from classes_in(part)
    if isinstance(hint, list):  # the parameters of a callable
        for part in hint:
            yield from classes_in(part)


def public_hints(value: object) -> dict[str, object]:
    """The annotations of public attributes and parameters: {where: type}."""
    hints: dict[str, object] = {}
    if inspect.isclass(value):
        hints |= typing.get_type_hints(value)
    for function in public_functions(value):
        # What a module imports for type checkers only is public, or it is not found.
        found = typing.get_type_hints(function, localns={n: getattr(m, n) for m, n in NAMES})
        hints |= {f"{function.__qualname__}({name})": hint for name, hint in found.items()}
    return {name: hint for name, hint in hints.items() if name.rpartition("(")[2][0] != "_"}


def exported() -> list[object]:
    return [getattr(module, name) for module, name in NAMES]


@each_module
def test_whatever_is_mentioned_is_public_too(module: ModuleType) -> None:
    """Who subclasses, wraps or annotates it has to import nothing private."""
    public = exported()
    values = {name: getattr(module, name) for name in module.__all__}
    hints = {
        f"{name}: {where}": hint
        for name, value in values.items()
        for where, hint in (
            public_hints(value) | ({"alias": value} if typing.get_args(value) else {})
        ).items()
    }
    private = [
        f"{where}: {cls.__qualname__}"
        for where, hint in hints.items()
        for cls in classes_in(hint)
        if cls.__module__.partition(".")[0] == PACKAGE and cls not in public
    ]
    bases = [
        base
        for value in values.values()
        for base in getattr(value, "__bases__", ())
        if is_private_part(base) and any(member[0] != "_" for member in vars(base))
    ]
    assert private == []
    assert bases == [] or module is distkit_actors  # mixins show their methods in the class


def is_private_part(base: type) -> bool:
    return base.__module__.partition(".")[0] == PACKAGE and base not in exported()


@each_module
def test_the_words_of_signatures_are_public_too(module: ModuleType) -> None:
    """Names of aliases, too: they are what a hover shows."""
    public = {name for _, name in NAMES}
    words = {
        (function.__qualname__, node.id)
        for name in module.__all__
        for function in public_functions(getattr(module, name))
        for parameter, annotation in function.__annotations__.items()
        if not parameter.startswith("_") and isinstance(annotation, str)
        for node in ast.walk(ast.parse(annotation))
        if isinstance(node, ast.Name)
        and not isinstance(function.__globals__.get(node.id), (ModuleType, typing.TypeVar))
    }
    unknown = [
        (where, word)
        for where, word in words
        if word not in public and not any(hasattr(other, word) for other in ELSEWHERE)
    ]
    assert unknown == []


def test_every_word_of_the_protocol_is_public() -> None:
    """Constants, too: a store has to keep them."""
    words = {name for name in vars(_messages) if name.isidentifier() and name[0].isupper()}
    foreign = {name for module in (*ELSEWHERE, _immutable) for name in vars(module)}
    assert words - foreign <= set(distkit_actors.abc.__all__)


# -------------------------------------------------------------------------------- version


def test_the_version_is_that_of_the_installed_package() -> None:
    assert distkit_actors.__version__ == importlib.metadata.version("distkit-actors")


def test_the_version_is_written_down_once() -> None:
    """The wheel's is read from the source, so neither can be without the other."""
    root = Path(__file__).resolve().parent.parent
    places = [root / "pyproject.toml", *sorted((root / PACKAGE).rglob("*.py"))]
    version = repr(distkit_actors.__version__).strip("'")
    found = [path.name for path in places if f'"{version}"' in path.read_text(encoding="utf-8")]
    assert found == ["_version.py"]
