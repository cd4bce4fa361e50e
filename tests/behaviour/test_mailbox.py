"""Where operations wait: who may still withdraw, and who comes after whom."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

import pytest
import trio

from distkit_actors._actor._mailbox import Mailbox
from distkit_actors._actor._operations import ExclusiveKind, Operation
from distkit_actors._protocol._messages import Kind
from tests.harness.effort import effort

#: Stands for the task of a caller who waits.
CALLER: Final = cast("trio.lowlevel.Task", object())


class Box:
    """A mailbox, and operations with names."""

    def __init__(self) -> None:
        self.mailbox = Mailbox(100)
        self.names: dict[Operation, str] = {}

    def put(self, name: str, kind: Kind | ExclusiveKind = Kind.ADD, key: str = "k") -> Operation:
        operation = Operation(kind, key, 1)
        operation.task = CALLER
        self.names[operation] = name
        self.mailbox.enter(operation)
        return operation

    def take(self) -> str:
        """Take what may travel now."""
        if self.mailbox.next_exclusive() is not None:
            return self.names[self.mailbox.take_exclusive()]
        taken = self.mailbox.take(10, {})
        return " ".join(
            self.names[operation] for coalesced in taken for operation in coalesced.operations
        )


@pytest.mark.parametrize("kind", [Kind.ADD, ExclusiveKind.CLEAR])
def test_what_was_taken_along_cannot_withdraw(kind: Kind | ExclusiveKind) -> None:
    box = Box()
    early, late = box.put("early", kind), box.put("late", kind)
    assert early.waits
    assert late.withdraw()
    assert not late.waits
    assert not late.withdraw()
    assert box.mailbox.length == 1
    assert box.take() == "early"
    assert not early.waits
    assert not early.withdraw()
    assert box.mailbox.length == 0


def test_who_waits_behind_what_was_given_back_can_withdraw() -> None:
    box = Box()
    first = box.put("first")
    assert box.take() == "first"
    second, third = box.put("second"), box.put("third")
    box.mailbox.give_back([first])
    assert first.waits
    assert second.withdraw()
    assert box.mailbox.length == 2
    assert box.take() == "first third"
    assert not third.waits


def test_what_was_given_back_can_withdraw() -> None:
    box = Box()
    first, second = box.put("first"), box.put("second")
    assert box.take() == "first second"
    box.mailbox.give_back([first, second])
    assert first.withdraw()
    assert box.take() == "second"


def test_what_is_given_back_without_its_caller_is_gone() -> None:
    box = Box()
    first, second = box.put("first"), box.put("second")
    assert box.take() == "first second"
    first(None)
    box.mailbox.give_back([first, second])
    assert box.mailbox.length == 1
    assert box.take() == "second"


def test_what_did_not_fit_in_waits_on() -> None:
    """A queue of which a part was taken is still a queue."""
    box = Box()
    box.put("one"), box.put("put", Kind.PUT), box.put("two")  # only the first can go
    assert box.take() == "one"
    last = box.put("last")
    assert box.take() == "put"
    assert last.withdraw()
    assert box.take() == "two"
    assert box.mailbox.length == 0


@pytest.mark.parametrize("plain", [False, True])
async def test_who_stands_in_line_can_withdraw(plain: bool) -> None:
    mailbox = Mailbox(1)
    first, last = Operation(Kind.ADD, "k", 1), Operation(Kind.ADD, "k", 4)
    mailbox.put(first)
    second = mailbox.add("k", 2) if plain else Operation(Kind.PUT, "k", 2)
    if not plain:
        mailbox.put(second)
    mailbox.put(last)
    assert mailbox.length == 1
    assert second.withdraw()
    assert not second.waits
    for operation in (first, last):
        (coalesced,) = mailbox.take(10, {})
        assert coalesced.operations == [operation]
    assert mailbox.length == 0


def test_nothing_that_was_drained_waits() -> None:
    box = Box()
    box.put("one"), box.put("clear", ExclusiveKind.CLEAR), box.put("two")
    drained = box.mailbox.drain()
    assert [box.names[operation] for operation in drained] == ["one", "clear", "two"]
    for operation in drained:
        assert not operation.withdraw()
    assert box.mailbox.length == 0
    assert box.mailbox.peak == 3
    assert box.take() == ""


# ------------------------------------------------------------------------------- bounds


def queued(mailbox: Mailbox) -> int:
    """Return how many objects it holds, the last queues not counted."""
    items = [item for item in mailbox._sections if item is not mailbox._queues]
    return len(items) + len(mailbox._queues) + len(mailbox._line)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("between", [False, True])
def test_i10_operations_that_were_given_up_leave_nothing_behind(
    backwards: bool, between: bool
) -> None:
    """Exclusive operations and what waits between them, whoever goes first."""
    box = Box()
    operations: list[Operation] = []
    for number in range(50):
        operations.append(box.put("", ExclusiveKind.ATOMIC_BATCH))
        if between:
            operations.append(box.put("", key=f"k{number % 7}"))
    for operation in reversed(operations) if backwards else operations:
        assert operation.withdraw()
    assert box.mailbox.length == 0
    assert queued(box.mailbox) == 0
    assert len(box.mailbox._sections) == 1
    box.put("late")
    assert box.take() == "late"


def test_i10_a_barrier_that_is_given_up_parts_nobody() -> None:
    """Those behind it join those before it, if they come later."""
    box = Box()
    box.put("early")
    assert box.put("", ExclusiveKind.ATOMIC_BATCH).withdraw()
    box.put("late")
    assert box.take() == "early late"


def test_i10_what_comes_between_barriers_keeps_its_turn() -> None:
    box = Box()
    gone = [box.put("", ExclusiveKind.ATOMIC_BATCH)]
    box.put("one"), box.put("clear", ExclusiveKind.CLEAR)
    gone.append(box.put("", ExclusiveKind.ATOMIC_BATCH))
    box.put("two")
    gone.append(box.put("", ExclusiveKind.ATOMIC_BATCH))
    for operation in gone:
        assert operation.withdraw()
    box.put("three")
    turns = [box.take() for _ in range(4)]
    assert turns == ["one", "clear", "two three", ""]
    assert box.mailbox.length == 0


@pytest.mark.parametrize("kind", [Kind.ADD, ExclusiveKind.ATOMIC_BATCH])
def test_i10_giving_up_costs_the_same_however_many_wait(kind: Kind | ExclusiveKind) -> None:
    """What goes through others in one call of C shows in the types alone."""
    box = Box()
    few = [box.put("", kind, f"k{number}") for number in range(10)]
    alone = effort(few[5].withdraw)
    many = [box.put("", kind, f"k{number}") for number in range(1000)]
    assert effort(many[500].withdraw) <= alone
    assert isinstance(box.mailbox._sections, OrderedDict)
    assert isinstance(box.mailbox._line, OrderedDict)
