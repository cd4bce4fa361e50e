"""The ends of holds in the mailbox: what they go before, so that two holds do not add up."""

from __future__ import annotations

from typing import Final, cast

import trio

from distkit_actors._actor._mailbox import CoalescedEntry, Mailbox
from distkit_actors._actor._operations import AtomicBatch, Operation, SpecialOperation
from distkit_actors._actor._releases import Releases
from distkit_actors._instance._holds import Hold, Holds
from distkit_actors._instance._write_buffer import WriteBuffer
from distkit_actors._protocol._messages import Entry, Kind, Slice

#: Stands for the task of a caller who waits.
CALLER: Final = cast("trio.lowlevel.Task", object())
#: The stamp of the own slice, and of what was added to it.
AT: Final = 7


class Box:
    """A mailbox, and what a hold of 3 on a key has added, whose caller has gone meanwhile."""

    def __init__(self, buffer: WriteBuffer | None = None) -> None:
        self.mailbox = Mailbox(100)
        self.releases = Releases(self.mailbox, buffer, Holds())

    def answered(self) -> None:
        """Hear that the addition was made."""
        hold = Hold("k", 3)
        self.releases.begin(hold, AT, SpecialOperation(Kind.ADD, "k", 3, hold=hold))
        self.releases.send_unwanted_first()

    def wait(self) -> None:
        """Have another hold wait, and something exclusive behind it."""
        self._put(SpecialOperation(Kind.ADD, "k", 20, hold=Hold("k", 20)))
        self._put(AtomicBatch([Entry(Kind.ADD, "else", 0)]))

    def _put(self, operation: Operation) -> None:
        operation.task = CALLER
        self.mailbox.enter(operation)

    def take(self) -> CoalescedEntry:
        """Return what goes with the next batch."""
        (coalesced,) = self.mailbox.take(10, {"k": Slice(3, AT)})
        return coalesced


def test_what_nobody_wants_any_more_goes_before_the_next_hold() -> None:
    box = Box()
    box.wait()
    box.answered()
    assert box.take().entry.value == 20 - 3


def test_what_was_put_off_goes_before_the_next_hold() -> None:
    box = Box()
    box.answered()
    box.releases.defer(box.take().operations)
    box.wait()
    box.releases.retry_deferred()
    assert box.take().entry.value == 20 - 3


def test_what_waits_may_be_undone_but_not_what_the_store_has_refused() -> None:
    """What was refused may have been executed all the same (P39, unique numbers)."""
    box, hold = Box(), Hold("k", 3)
    for _ in range(2):
        box.releases.release(hold)
        assert box.releases.cancel_release(hold)
    box.releases.release(hold)
    box.releases.defer(box.take().operations)
    box.releases.retry_deferred()
    assert not box.releases.cancel_release(hold)
    assert box.take().entry.value == -3


def test_an_end_of_a_lax_counter_is_not_undone_once_the_store_has_refused_it() -> None:
    buffer = WriteBuffer(lambda _: None)
    box, hold = Box(buffer), Hold("k", 3)
    for _ in range(2):
        box.releases.release(hold)
        assert box.releases.cancel_release(hold)
    box.releases.release(hold)
    buffer.send(1, 0.0, {})
    buffer.unsend()
    assert not box.releases.cancel_release(hold)
    ((entry,), _) = buffer.send(1, 0.0, {})
    assert entry.value == -3
