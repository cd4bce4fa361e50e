"""The documented limits: each is still needed, and none hides more than it says."""

from typing import Any
from unittest import mock

import pytest

from tests.model.conceivable import conceivable
from tests.model.explore import explore
from tests.model.oracle import EVERYONE, Comparisons, Oracle, Violation
from tests.model.scope import Scope
from tests.model.scopes import LONG, SHORT
from tests.model.scopes_of_holds import LONG_OF_HOLDS, SHORT_OF_HOLDS

_SCOPES = {scope.name: scope for scope in (*SHORT, *SHORT_OF_HOLDS, *LONG, *LONG_OF_HOLDS)}


def _nothing(*_: Any, **__: Any) -> None:
    """Excuse nothing."""


@pytest.mark.parametrize(
    ("excuse", "scope"),
    [
        pytest.param("doubt", "wipe", id="L1"),
        pytest.param("_excuse_orphans", "orphans", id="L2"),
        pytest.param("_excuse_absent", "absent", id="L3"),
        pytest.param("unsure", "wipe", id="L4"),
    ],
)
def test_each_limit_is_needed(excuse: str, scope: str) -> None:
    """A history in which the package does what is excused: without the excuse it is found."""
    with mock.patch.object(Oracle, excuse, _nothing):
        report = explore(_SCOPES[scope])
    assert report.violation, "nothing needs this excuse any more: take it away"
    print(report)


def test_a_limit_does_not_excuse_what_nobody_counted() -> None:
    """Counts may be missing, or be there although a move has voided them; nothing is doubled."""
    scope = Scope("", menu=("inc a", "set a", "A: put a"), operations=2)
    may_be = conceivable(scope, "B", (1,), "a")
    assert may_be == {0, 10, 20, 70, 80}
    assert conceivable(scope, "A", (0,), "a") == {0, 1, 2, 3, 4, 7, 8}
    assert conceivable(scope, "B", (1,), "other") == {0}
    assert conceivable(scope, "B", (1, 2), "a") >= {0, 10, 100, 110, 210}

    oracle = Oracle()
    oracle.excused.add(("a", EVERYONE))
    for value in (*may_be, 5, 15):  # 5 is held
        oracle.compare("B", {"a": value}, ["a"], Comparisons(), {"a": [5]}, lambda *_: may_be)
    with pytest.raises(Violation, match="which nobody can have counted"):
        oracle.compare("B", {"a": 40}, ["a"], Comparisons(), {"a": [5]}, lambda *_: may_be)
