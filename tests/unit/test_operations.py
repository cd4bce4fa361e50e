"""What a caller's operation is to trio: the outcome of the caller's sleep, and its abort."""

from __future__ import annotations

from unittest import mock

import outcome
import pytest
import trio

from distkit_actors._actor import _operations
from distkit_actors._actor._operations import Operation
from distkit_actors._protocol._messages import Kind


class Rescheduled:
    """Takes the place of trio, and notes what a sleeper is woken with."""

    def __init__(self) -> None:
        self.outcomes: list[object] = []

    def __call__(self, task: object, next_send: object) -> None:
        self.outcomes.append(next_send)


@pytest.fixture
def rescheduled() -> Rescheduled:
    return Rescheduled()


def asked(rescheduled: Rescheduled) -> Operation:
    operation = Operation(Kind.ADD, "k", 1)
    operation.task = mock.sentinel.task
    return operation


def test_a_caller_is_woken_with_an_outcome_that_has_the_values(rescheduled: Rescheduled) -> None:
    operation = asked(rescheduled)
    with mock.patch.object(_operations, "reschedule", rescheduled):
        operation.done(5, 2)
    (woken,) = rescheduled.outcomes
    assert isinstance(woken, outcome.Outcome)
    assert woken.unwrap() == (5, 2)


def test_a_caller_is_woken_with_an_outcome_that_has_the_error(rescheduled: Rescheduled) -> None:
    operation, error = asked(rescheduled), ValueError("no")
    with mock.patch.object(_operations, "reschedule", rescheduled):
        operation.fail(error)
    (woken,) = rescheduled.outcomes
    assert isinstance(woken, outcome.Error)
    with pytest.raises(ValueError, match="no") as caught:
        woken.unwrap()
    assert caught.value is error


def test_an_operation_is_all_that_an_outcome_is() -> None:
    """Trio unwraps it today; it may send it into a generator as well."""
    operation = Operation(Kind.ADD, "k", 1)
    operation.done(5, 2)

    def sleeper() -> object:
        received = yield "asleep"
        yield received

    generator = sleeper()
    assert next(generator) == "asleep"
    assert operation.send(generator) == (5, 2)

    async def asleep():
        received = yield "asleep"
        yield received

    async def main() -> None:
        agen = asleep()
        assert await anext(agen) == "asleep"
        assert await operation.asend(agen) == (5, 2)
        await agen.aclose()

    trio.run(main)


def test_operations_are_equal_to_themselves_only() -> None:
    one, other = Operation(Kind.ADD, "k", 1), Operation(Kind.ADD, "k", 1)
    assert one == one
    assert one != other
    assert len({one: None, other: None}) == 2
