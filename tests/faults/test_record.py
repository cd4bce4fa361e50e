"""What the record of the random histories objects to: one that could not would prove nothing."""

import pytest

from tests.faults.record import Life, Operation, Outcome, Record


@pytest.fixture
def record() -> Record:
    """Nothing has been done yet."""
    return Record()


@pytest.fixture
def life() -> Life:
    """A strict counter."""
    return Life("a")


def over(operation: Operation | None, now: float, outcome: Outcome = "done") -> Operation:
    """Let an operation be over."""
    assert operation is not None
    operation.outcome, operation.end = outcome, now
    return operation


def test_a_hold_counts_until_it_is_left(record: Record, life: Life) -> None:
    hold = over(record.begin(life, "k", "hold", 1.0), 1.1)
    record.check("k", 1)
    with pytest.raises(AssertionError, match="is lost"):
        record.check("k", 0)
    record.end(hold, 2.0)
    record.check("k", 0)  # its end may be on its way,
    record.check("k", 1)  # or not have been sent yet
    record.settle_exits(3.0)
    record.check("k", 0)
    with pytest.raises(AssertionError, match="counts, though voided by a exit k"):
        record.check("k", 1)


def test_a_hold_whose_caller_went_away_counts_for_a_moment_only(record: Record, life: Life) -> None:
    hold = record.begin(life, "k", "hold", 1.0)
    assert hold is not None
    hold.outcome = "unknown"
    record.end(hold, 1.5)
    record.check("k", 1)
    record.settle_exits(2.0)
    record.check("k", 0)
    with pytest.raises(AssertionError, match="counts, though"):
        record.check("k", 1)


def test_the_end_of_a_hold_takes_nothing_else_away(record: Record, life: Life) -> None:
    over(record.begin(life, "k", "inc", 1.0), 1.1)
    hold = over(record.begin(life, "k", "hold", 2.0), 2.1)
    record.end(hold, 3.0)
    record.settle_exits(4.0)
    record.check("k", 1)
    for total in (0, -3, 1 + 4):
        with pytest.raises(AssertionError):
            record.check("k", total)


def test_what_was_refused_must_not_count(record: Record, life: Life) -> None:
    over(record.begin(life, "k", "inc_if", 1.0), 1.1, "refused")
    record.check("k", 0)
    with pytest.raises(AssertionError, match="it was refused"):
        record.check("k", 1)


def test_an_operation_on_two_keys_takes_effect_on_both_or_neither(
    record: Record, life: Life
) -> None:
    twins = record.begin_twins(life, ("k", "l"), "inc_all", 1.0)
    assert twins is not None
    for each in twins:
        each.outcome = "unknown"
    record.check_twins({"k": 0, "l": 0})
    record.check_twins({"k": 1, "l": 1})
    with pytest.raises(AssertionError, match="without its twin"):
        record.check_twins({"k": 1, "l": 0})
    record.begin(life, "l", "delete", 2.0)  # whether or not it takes effect
    record.check_twins({"k": 1, "l": 0})
    with pytest.raises(AssertionError, match="without its twin"):
        record.check_twins({"k": 0, "l": 1})
