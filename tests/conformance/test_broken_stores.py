"""The conformance kit finds what is wrong with each bad store that somebody has thought of."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from distkit_actors import MemoryStore
from distkit_actors._namespace._namespace import Namespace
from distkit_actors.testing import _check_store, check_store
from distkit_actors.testing._check_store import CHECKS, check_name
from tests.conformance.mutants import MUTANTS, NamespaceStore
from tests.conformance.mutants_of_entries import BY_CHECK

#: Checks that take as long as all others together. Most mutants are found without them.
LONG = {
    "many_at_once",
    "a_thousand_entries",
    "thousands_of_slices",
    "conditions_are_exact",
    "queries_come_in_pages",
}


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_broken_store_fails(
    mutant: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_last = sorted(CHECKS, key=lambda check: check_name(check) in LONG)
    assert {check_name(check) for check in long_last[-len(LONG) :]} == LONG
    monkeypatch.setattr(_check_store, "CHECKS", tuple(long_last))
    with pytest.raises(AssertionError) as caught:
        await check_store(MUTANTS[mutant])
    assert str(caught.value)
    assert "TypeError" not in str(caught.value)  # it is the mutant that is broken
    (note,) = caught.value.__notes__
    assert any(repr(check_name(check)) in note for check in CHECKS)


@pytest.mark.parametrize(
    ("name", "mutant"), [(name, mutant) for name, kinds in BY_CHECK.items() for mutant in kinds]
)
async def test_a_check_finds_what_it_is_for(
    name: str, mutant: type[Namespace], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself: whatever other checks may find."""
    (check,) = [check for check in CHECKS if check_name(check) == name]
    monkeypatch.setattr(_check_store, "CHECKS", (check,))
    await check_store(MemoryStore)
    with pytest.raises(AssertionError) as caught:
        await check_store(lambda: NamespaceStore(mutant))
    assert "TypeError" not in str(caught.value)
