"""An installed compiled build is one, and its users see no difference but speed.

Not among the other tests, as it fails where nothing is compiled: ``make test-compiled`` runs it.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

import distkit_actors
from distkit_actors import (
    BoundLaxCounter,
    CounterClosedError,
    LaxInstanceAwareCounter,
    MemoryStore,
)
from distkit_actors._counters import _compiled

PACKAGE = Path(distkit_actors.__file__).parent
#: As in `hatch_build.py`.
MODULES = {
    "_actor/_partitioned_buffer",
    "_counters/_compiled",
    "_instance/_buffered_key",
    "_instance/_holds",
    "_instance/_write_buffer",
}


def test_these_modules_are_compiled_and_no_others() -> None:
    extensions = [*PACKAGE.rglob("*.so"), *PACKAGE.rglob("*.pyd")]
    found = {path.relative_to(PACKAGE).as_posix().partition(".")[0] for path in extensions}
    assert found == MODULES
    assert _compiled.COMPILED
    assert not isinstance(_compiled.CompiledCounts.inc_nowait, FunctionType)


def test_the_sources_are_beside_them() -> None:
    assert [name for name in MODULES if not (PACKAGE / f"{name}.py").is_file()] == []


def test_counters_and_handles_count_with_them() -> None:
    counter = LaxInstanceAwareCounter("p", MemoryStore())
    for inc_nowait in (counter.inc_nowait, counter.bind("k").inc_nowait):
        assert inspect.isbuiltin(inc_nowait)


def frames(error: BaseException) -> list[tuple[str, str, str]]:
    """Return file and function of each frame, and what is on its line in our sources."""
    found: list[tuple[str, str, str]] = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if not path.is_absolute():
            path = PACKAGE.parent / path
        if path.is_relative_to(PACKAGE) and frame.lineno is not None:
            line = path.read_text(encoding="utf-8").splitlines()[frame.lineno - 1]
            found.append((path.relative_to(PACKAGE).as_posix(), frame.name, line.strip()))
    return found


def test_a_traceback_shows_file_and_line_of_what_is_compiled() -> None:
    counter = LaxInstanceAwareCounter("p", MemoryStore())
    with pytest.raises(CounterClosedError) as keyed:
        counter.inc_nowait("k")
    with pytest.raises(CounterClosedError) as bound:
        counter.bind("k").inc_nowait()

    file = "_counters/_compiled.py"
    (first, second, *_) = frames(keyed.value)
    assert first == (file, "inc_nowait", "self._inc_nowait(key, count)")
    assert second[:2] == ("_counters/_lax.py", "inc_nowait")
    assert frames(bound.value)[0] == (file, "inc_nowait", "self._inc_nowait(buffered.key, count)")


def public_methods() -> Iterator[FunctionType]:
    """Return what users read of in both classes."""
    for kind in (LaxInstanceAwareCounter, BoundLaxCounter):
        for name in dir(kind):
            if not name.startswith("_"):
                member = inspect.getattr_static(kind, name)
                member = member.__func__ if isinstance(member, classmethod) else member
                if not isinstance(member, property):
                    yield member


def test_public_methods_have_their_docstrings_and_annotations() -> None:
    methods = [method for method in public_methods() if callable(method)]
    assert len(methods) > 40
    for method in methods:
        assert isinstance(method, FunctionType)
        assert method.__doc__
        assert "return" in method.__annotations__


def test_what_counts_instead_has_the_same_parameters() -> None:
    counter = LaxInstanceAwareCounter("p", MemoryStore())
    handle = counter.bind("k")
    for has, kind in ((counter, LaxInstanceAwareCounter), (handle, BoundLaxCounter)):
        wanted = list(inspect.signature(kind.inc_nowait).parameters.values())[1:]
        found = inspect.signature(has.inc_nowait).parameters.values()
        assert [(p.name, p.kind, p.default) for p in found] == [
            (p.name, p.kind, p.default) for p in wanted
        ]


async def test_a_wrong_number_of_arguments_is_refused_before_anything_changes() -> None:
    async with LaxInstanceAwareCounter.open("p", MemoryStore()) as counter:
        handle = counter.bind("k")
        # The checker of types refuses them, too.
        for call in (
            counter.inc_nowait,
            lambda: counter.inc_nowait("k", 1, 1),  # type: ignore[call-arg]
            lambda: counter.inc_nowait("k", number=1),  # type: ignore[call-arg]
            lambda: handle.inc_nowait(1, 1),  # type: ignore[call-arg]
            lambda: handle.inc_nowait(key="k"),  # type: ignore[call-arg]
        ):
            with pytest.raises(TypeError, match="argument"):
                call()  # type: ignore[call-arg]
        counter.inc_nowait(key="k", count=2)
        handle.inc_nowait(count=3)
        assert await counter.get("k") == (5, 5)


async def test_who_overrides_counting_is_asked() -> None:
    class Noting(LaxInstanceAwareCounter):  # type: ignore[misc]  # final, but who checks that
        def inc_nowait(self, key: str, count: int = 1) -> None:
            super().inc_nowait(key, 10 * count)

    async with Noting("p", MemoryStore())._running() as counter:
        counter.inc_nowait("k")
        counter.bind("k").inc_nowait(2)
        assert await counter.get("k") == (30, 30)


async def test_a_copy_counts_with_its_original() -> None:
    async with LaxInstanceAwareCounter.open("p", MemoryStore()) as counter:
        handle = counter.bind("k")
        handle.inc_nowait()
        copy.copy(handle).inc_nowait()
        copy.copy(counter).inc_nowait("k")
        assert await counter.get("k") == (3, 3)
        assert repr(handle) == f"<BoundLaxCounter 'k' of {counter!r}>"
