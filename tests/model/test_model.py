"""Every rule of the protocol, in every interleaving of a small scope; and each is needed."""

import time

import pytest

from tests.model import timed
from tests.model.explore import explore, main
from tests.model.mutants import MUTANTS, Mutant
from tests.model.mutants_of_holds import MUTANTS_OF_HOLDS
from tests.model.mutants_of_times import MUTANTS_OF_TIMES, MutantOfTimes
from tests.model.oracle import Violation
from tests.model.scope import Scope
from tests.model.scopes import LONG, SHORT
from tests.model.scopes_of_holds import LONG_OF_HOLDS, SHORT_OF_HOLDS
from tests.model.timed import GRIDS, Grid


@pytest.mark.parametrize("scope", [*SHORT, *SHORT_OF_HOLDS], ids=lambda scope: scope.name)
def test_no_history_breaks_a_promise(scope: Scope) -> None:
    report = explore(scope)
    print(report)
    assert not report.violation, report
    assert report.complete
    assert report.comparisons.compared > 4 * report.comparisons.exempt


@pytest.mark.parametrize("mutant", [*MUTANTS, *MUTANTS_OF_HOLDS], ids=lambda mutant: mutant.name)
def test_no_rule_can_be_left_out(mutant: Mutant) -> None:
    with mutant.active():
        report = explore(mutant.scope)
    assert report.violation, f"{report.states} states, and nobody noticed"
    print(f"{mutant.name}: {len(report.history)} steps")
    print(report)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_silent_die_in_time_and_nobody_else(grid: Grid) -> None:
    start = time.process_time()
    print(timed.explore(grid), "states", time.process_time() - start, "s")


@pytest.mark.parametrize("mutant", MUTANTS_OF_TIMES, ids=lambda mutant: mutant.name)
def test_no_rule_of_observed_time_can_be_left_out(mutant: MutantOfTimes) -> None:
    with mutant.active(), pytest.raises(Violation, match=mutant.violation):
        timed.explore(mutant.grid)


def test_the_command_prints_the_shortest_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scope", SHORT[3].name, "--seconds", "1"]) == 0
    (mutant,) = (each for each in MUTANTS if "gaps" in each.name)
    with mutant.active():
        assert main(["--scope", SHORT[3].name, "--seconds", "20"]) == 1
    out = capsys.readouterr().out
    assert "VIOLATION" in out
    assert "1. " in out


def test_scopes_have_names_of_their_own() -> None:
    names = [scope.name for scope in (*SHORT, *SHORT_OF_HOLDS, *LONG, *LONG_OF_HOLDS)]
    assert len(set(names)) == len(names)
