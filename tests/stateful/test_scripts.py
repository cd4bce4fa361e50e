"""Histories step by step: what the machine must take as right, and what it must find.

In most of them A holds on a key, and B's move of that key is lost with the store before A has heard
of it (L1). With a rule about holds left out, each of those must be found (I13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

import pytest

from distkit_actors import DistkitError
from distkit_actors._actor import _partitioned
from distkit_actors._actor._actor import Actor
from distkit_actors._actor._life import Life
from distkit_actors._actor._operations import AtomicBatch, Operation
from distkit_actors._actor._partitioned import PartitionedActor
from distkit_actors._actor._releases import Releases
from distkit_actors._instance._holds import Hold
from distkit_actors._namespace import _observed_time
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import Heard, Observed
from distkit_actors._protocol._messages import Periods
from tests.model.mutants import MUTANTS
from tests.model.mutants_of_holds import MUTANTS_OF_HOLDS
from tests.stateful import history
from tests.stateful.reference import Key, Op, Unexplained
from tests.stateful.test_memory import MemoryHistories, PartedMemoryHistories
from tests.stateful.wires import ABSENT, PRESENT

Script: TypeAlias = Callable[[MemoryHistories], None]

A, B, C = 0, 1, 2


@pytest.fixture(autouse=True)
def outside_of_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "note", lambda text: None)


def play(script: Script, *lax: bool, chance: int = 0) -> None:
    """Let all happen, and compare at the end."""
    histories = MemoryHistories()
    try:
        histories.fleet(lax=list(lax), chance=chance)
        script(histories)
    finally:
        histories.teardown()


def play_in_parts(script: Callable[[PartedMemoryHistories], None], *lax: bool) -> None:
    """Do the same where the namespace has several parts."""
    histories = PartedMemoryHistories()
    try:
        histories.fleet(lax=list(lax), chance=0)
        script(histories)
    finally:
        histories.teardown()


def test_what_a_counter_is_not_told_of_is_not_in_its_view() -> None:
    def script(histories: MemoryHistories) -> None:
        histories.call(who=A, kind="get", key="a", count=0)
        histories.lasting_fault(who=A, fault="hold_replies")
        histories.call(who=A, kind="inc!", key="a", count=1)
        histories.call(who=B, kind="inc", key="a", count=1)  # which tells that A's is done

    play(script, True, False, False)


def counts_that_a_copy_lacks(histories: MemoryHistories) -> None:
    histories.copy(part=0)
    histories.call(who=A, kind="inc", key="a", count=5)
    histories.restore(part=0, age=0, away=[], seconds=0.0)


def a_slice_that_a_copy_has_and_its_owner_has_not(histories: MemoryHistories) -> None:
    histories.call(who=A, kind="inc", key="a", count=5)
    histories.copy(part=0)
    histories.call(who=A, kind="dec", key="a", count=5)
    histories.restore(part=0, age=0, away=[B], seconds=0.0)


def a_move_that_a_copy_lacks(histories: MemoryHistories) -> None:
    histories.call(who=A, kind="inc", key="a", count=5)
    histories.copy(part=0)
    histories.call(who=B, kind="set", key="a", count=2)
    histories.wait(seconds=2.5)
    histories.restore(part=0, age=0, away=[], seconds=0.0)


def one_that_left_after_the_copy(histories: MemoryHistories) -> None:
    histories.call(who=A, kind="inc", key="a", count=5)
    histories.copy(part=0)
    histories.leave(who=A)
    histories.restore(part=0, age=0, away=[], seconds=0.0)


COPIES = (
    counts_that_a_copy_lacks,
    a_slice_that_a_copy_has_and_its_owner_has_not,
    a_move_that_a_copy_lacks,
    one_that_left_after_the_copy,
)


@pytest.mark.parametrize("script", COPIES)
def test_what_a_copy_lacks_is_told_again(script: Script) -> None:
    for lax in (False, True):
        play(script, lax, lax, lax)


# What is left out, and where that must be found.
MUTANTS_OF_COPIES = {
    "gaps are not noticed": counts_that_a_copy_lacks,
    "leftovers stay": a_slice_that_a_copy_has_and_its_owner_has_not,
}


@pytest.mark.parametrize("name", MUTANTS_OF_COPIES)
def test_what_is_not_told_again_after_a_copy_was_put_back_is_found(name: str) -> None:
    (mutant,) = (each for each in MUTANTS if each.name == name)
    with mutant.active(), pytest.raises(AssertionError):
        play(MUTANTS_OF_COPIES[name], False, False, False)


def lose_a_move(histories: MemoryHistories) -> None:
    histories.late_move(who=B, kind="delete", key="a", count=0)


def tell_it_again(histories: MemoryHistories) -> None:
    histories.heal(who=B, seconds=0.0)
    histories.wait(seconds=2.5)  # it comes back with its next beat
    histories.call(who=A, kind="get", key="a", count=0)
    histories.wait(seconds=0.3)


def a_hold_on_the_wire(histories: MemoryHistories) -> None:
    histories.call(who=A, kind="inc", key="a", count=5)
    histories.lasting_fault(who=A, fault="hold_replies")
    histories.enter(who=A, kind="hold", key="a", count=10)
    histories.call(who=B, kind="delete", key="a", count=0)
    histories.cut(who=A)
    histories.cut(who=B)
    histories.wipe(seconds=0.0)
    histories.heal(who=A, seconds=1.5)
    histories.call(who=A, kind="dec", key="a", count=15)
    tell_it_again(histories)
    histories.leave_block(which=0)


def a_slice_that_comes_to_nothing(histories: MemoryHistories) -> None:
    histories.call(who=A, kind="inc", key="a", count=5)
    lose_a_move(histories)
    histories.enter(who=A, kind="hold", key="a", count=10)
    histories.call(who=A, kind="dec", key="a", count=15)
    tell_it_again(histories)
    histories.leave_block(which=0)


def a_slice_that_comes_to_nothing_in_one_step(histories: MemoryHistories) -> None:
    histories.call(who=A, kind="inc", key="a", count=5)
    lose_a_move(histories)
    histories.burst(calls=[(A, "hold", "a", 10), (A, "dec", "a", 15)])
    tell_it_again(histories)
    histories.leave_block(which=0)


def an_end_before_the_move_is_told(histories: MemoryHistories) -> None:
    histories.enter(who=A, kind="hold", key="a", count=1)
    histories.enter(who=A, kind="hold", key="a", count=-1)
    lose_a_move(histories)
    histories.leave_block(which=1)
    histories.wait(seconds=0.3)
    tell_it_again(histories)
    histories.leave_block(which=0)


def an_end_that_a_younger_slice_is_added_to(histories: MemoryHistories) -> None:
    histories.enter(who=A, kind="hold", key="a", count=1)
    histories.call(who=A, kind="dec", key="a", count=1)
    lose_a_move(histories)
    histories.call(who=A, kind="inc", key="a", count=5)
    histories.enter(who=A, kind="hold", key="a", count=20)
    histories.leave_block(which=0)
    histories.wait(seconds=0.3)
    tell_it_again(histories)
    histories.leave_block(which=0)


def an_end_before_the_move_is_heard_of(histories: MemoryHistories) -> None:
    histories.hold_and_move(who=A, kind="hold", key="a", count=1, mover=B)


MOVES = (
    a_hold_on_the_wire,
    a_slice_that_comes_to_nothing,
    a_slice_that_comes_to_nothing_in_one_step,
    an_end_before_the_move_is_told,
    an_end_that_a_younger_slice_is_added_to,
    an_end_before_the_move_is_heard_of,
)

#: {mutant: who finds it}
FINDERS = {
    "a hold goes by the step that added it": (
        a_hold_on_the_wire,
        a_slice_that_comes_to_nothing,
        a_slice_that_comes_to_nothing_in_one_step,
    ),
    "the end of a hold leaves what it belonged to": (
        an_end_before_the_move_is_told,
        an_end_that_a_younger_slice_is_added_to,
    ),
    "what becomes one is as young as what was there": (an_end_that_a_younger_slice_is_added_to,),
    "a hold stays young where its slice becomes older": (an_end_that_a_younger_slice_is_added_to,),
    "no guard": (an_end_before_the_move_is_heard_of,),
}


@pytest.mark.parametrize("lax", [False, True])
@pytest.mark.parametrize("script", MOVES)
def test_i13_a_move_and_a_hold_are_explained(script: Script, lax: bool) -> None:
    play(script, lax, False)


@pytest.mark.parametrize(
    ("name", "script"), [(name, each) for name, finders in FINDERS.items() for each in finders]
)
def test_i13_a_rule_left_out_is_found(name: str, script: Script) -> None:
    (mutant,) = (each for each in MUTANTS_OF_HOLDS if each.name == name)
    with mutant.active(), pytest.raises(Unexplained):
        play(script, False, False)


def test_what_a_suspect_counts_is_there_or_it_is_not() -> None:
    """L1 excuses no more: what was there before the loss is void."""

    def script(histories: MemoryHistories) -> None:
        histories.call(who=A, kind="inc", key="a", count=5)
        lose_a_move(histories)
        histories.call(who=A, kind="inc", key="a", count=2)
        assert histories.model["a"].vague
        tell_it_again(histories)
        assert not histories.model["a"].vague
        assert histories.model["a"].own("i0") == {0, 2}
        histories.call(who=A, kind="get", key="a", count=0)
        assert histories.model["a"].own("i0") == {0}

    play(script, False, False)


def test_i5_who_has_had_its_fresh_threshold_gets_no_other_before_it_is_heard() -> None:
    def script(histories: MemoryHistories) -> None:
        histories.call(who=A, kind="inc", key="a", count=1)
        histories.cut(who=A)
        histories.suspend(seconds=7.0)
        histories.wait(seconds=5.0)
        histories.suspend(seconds=20.0)
        histories.wait(seconds=4.0)
        histories.heal(who=A, seconds=1.5)

    play(script, False, False)


def a_late_step(histories: MemoryHistories) -> None:
    """B is heard after more than half a threshold; C has been silent for as long, and goes on."""
    histories.cut(who=B)
    histories.wait(seconds=3.5)
    histories.heal(who=B, seconds=1.5)


def silence_after_a_late_step(histories: MemoryHistories) -> None:
    histories.cut(who=C)
    a_late_step(histories)
    histories.wait(seconds=1.5)  # more than a threshold since C was heard
    for _ in range(3):
        histories.call(who=A, kind="get", key="a", count=0)
    histories.look(who=A, key="a")


def late_steps_again_and_again(histories: MemoryHistories) -> None:
    histories.cut(who=C)
    for _ in range(5):
        a_late_step(histories)
        histories.call(who=A, kind="get", key="a", count=0)
    histories.look(who=A, key="a")


def test_i3_a_late_step_gives_the_silent_a_fresh_threshold() -> None:
    """Who sent it was held up, and so may they be; they are gone before two thresholds are."""
    play(silence_after_a_late_step, False, False, False)


def test_i3_late_steps_give_the_silent_one_fresh_threshold_and_no_other() -> None:
    def script(histories: MemoryHistories) -> None:
        late_steps_again_and_again(histories)
        assert histories.before[0]["i2"] == ABSENT

    play(script, False, False, False)


def test_i3_one_fresh_threshold_after_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Observed.judge

    def forgetful(self: Observed, periods: Periods, heard: Heard, steady: int) -> tuple[int, Heard]:
        left, after = judge(self, periods, heard, steady)
        ended = self.by_periods[periods[:2]].ended
        return (left, after) if left > 0 else (ended + periods.threshold - steady, after)

    monkeypatch.setattr(Observed, "judge", forgetful)
    with pytest.raises(AssertionError, match="can be there"):
        play(late_steps_again_and_again, False, False, False)


def a_clock_that_is_put_back(histories: MemoryHistories) -> None:
    histories.call(who=C, kind="inc", key="a", count=1)
    histories.cut(who=C)
    histories.jump(seconds=-20.0)
    histories.wait(seconds=9.0)
    histories.wait(seconds=9.0)
    for _ in range(3):
        histories.call(who=A, kind="get", key="a", count=0)
    assert histories.before[0]["i2"] == ABSENT
    histories.look(who=A, key="a")


def machines_that_sleep(histories: MemoryHistories) -> None:
    histories.call(who=A, kind="inc", key="a", count=1)
    histories.wait(seconds=1.0)
    histories.jump(seconds=20.0)
    histories.call(who=B, kind="get", key="a", count=0)
    histories.look(who=B, key="a")
    assert set(histories.before[0].values()) == {PRESENT}


def test_i3_jumps_of_the_clock_kill_nobody_and_keep_nobody() -> None:
    play(a_clock_that_is_put_back, False, False, False)
    play(machines_that_sleep, False, False, False)


def test_i3_a_jump_back_that_is_not_taken_down_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hear = Observed.hear

    def deaf(self: Observed, now: int, *what: Any) -> None:
        if self.steady(now) >= self.last:
            hear(self, now, *what)

    monkeypatch.setattr(Observed, "hear", deaf)
    with pytest.raises(Unexplained):
        play(a_clock_that_is_put_back, False, False, False)


def test_i5_a_jump_forward_that_is_no_blackout_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_observed_time, "longest_silence", lambda *_: 2**60)
    with pytest.raises(AssertionError):
        play(machines_that_sleep, False, False, False)


def test_i3_a_batch_that_is_sent_once_more_is_a_sign_of_life() -> None:
    """Its sender has heard nothing and can send nothing else, but it lives."""

    def script(histories: MemoryHistories) -> None:
        histories.lasting_fault(who=C, fault="hold_replies")
        histories.call(who=C, kind="inc", key="a", count=1)
        histories.wait(seconds=2.5)
        histories.cut(who=C)
        histories.heal(who=C, seconds=0.0)
        histories.lasting_fault(who=C, fault="hold_replies")
        histories.wait(seconds=5.0)
        for _ in range(3):
            histories.call(who=A, kind="get", key="b", count=0)
        histories.look(who=A, key="b")

    play(script, False, False, False)


def test_who_cannot_leave_may_not_have_ended_its_holds() -> None:
    def script(histories: MemoryHistories) -> None:
        histories.enter(who=A, kind="hold", key="a", count=6)
        histories.wait(seconds=0.3)
        histories.cut(who=A)
        histories.leave_block(which=0)
        histories.leave(who=A)
        histories.call(who=0, kind="get", key="a", count=0)

    play(script, False, False)


def test_l5_who_came_back_before_a_lost_clear_was_told_comes_back_once_more() -> None:
    """Also where the last one who could have told of it is killed."""

    def script(histories: MemoryHistories) -> None:
        histories.call(who=2, kind="clear", key="a", count=0)
        histories.wait(seconds=2.5)
        histories.cut(who=1)
        histories.wipe(seconds=0.0)
        histories.join(lax=False, linger=False, twice=False)
        histories.call(who=2, kind="get", key="a", count=0)
        histories.call(who=0, kind="get", key="a", count=0)
        histories.kill(who=1)
        histories.look(who=0, key="a")

    play(script, False, False, False)


def test_i12_what_is_left_of_a_predecessor_may_count_until_it_fits() -> None:
    def script(histories: MemoryHistories) -> None:
        for who, count in ((0, -(2**62)), (0, -(2**62) + 1), (1, 2**62), (2, 2**62)):
            histories.call(who=who, kind="inc", key="x", count=count)
        histories.replace(name=0, lax=False, inherit=False)

    play(script, False, False, False)


def test_what_moves_nothing_does_not_stand_for_a_move_that_is_still_untold() -> None:
    def script(histories: MemoryHistories) -> None:
        histories.call(who=A, kind="inc", key="a", count=5)
        lose_a_move(histories)
        histories.call(who=A, kind="set_if", key="a", count=8)  # if it were less than 3
        histories.wait(seconds=5.0)
        assert histories.model["a"].suspects == {"i0"}

    play(script, False, False)


def test_the_end_of_a_superseded_counter_leaves_the_holds_of_the_one_in_its_place() -> None:
    def script(histories: MemoryHistories) -> None:
        histories.replace(name=A, lax=True, inherit=True)
        histories.enter(who=1, kind="hold", key="b", count=1)
        histories.wait(seconds=0.3)
        histories.wipe(seconds=0.0)
        histories.leave_block(which=0)

    play(script, True, True)


def test_a_move_that_is_not_told_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Namespace, "_move_late", lambda *_: None)
    with pytest.raises(Unexplained):
        play(a_slice_that_comes_to_nothing, False, False)


def test_who_counts_on_a_void_slice_loses_nothing_that_it_counts_later() -> None:
    def script(histories: MemoryHistories) -> None:
        a_slice_that_comes_to_nothing(histories)
        histories.call(who=A, kind="put", key="a", count=0)
        histories.call(who=A, kind="inc", key="a", count=3)
        assert histories.model["a"].own("i0") == {3}

    play(script, False, False)


def test_i6_who_waits_is_told_anew_what_the_store_has_answered_and_lost() -> None:
    """Others have seen the count by then, and have counted themselves."""

    def script(histories: MemoryHistories) -> None:
        histories.blackout(seconds=4.5)
        histories.fault(who=A, fault="drop_reply", times=3)
        histories.call(who=A, kind="put", key="a", count=-4)
        histories.call(who=B, kind="get", key="a", count=0)
        histories.enter(who=C, kind="hold", key="a", count=-4)
        histories.wipe(seconds=2.5)

    play(script, False, False, False)


@pytest.mark.parametrize("lax", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 2.5])
def test_i6_a_condition_in_doubt_is_decided_anew_by_a_store_that_has_lost_everything(
    lax: bool, seconds: float
) -> None:
    """Somebody's move has taken what came of it the first time."""

    def script(histories: MemoryHistories) -> None:
        histories.fault(who=A, fault="drop_reply", times=3)
        histories.enter(who=A, kind="hold_below", key="a", count=1)
        histories.call(who=B, kind="delete", key="a", count=0)
        histories.wipe(seconds=seconds)

    play(script, lax, False, False)


def test_i6_what_is_told_anew_must_be_the_sum_of_that_time() -> None:
    key = Key()
    count = Op("i0", "inc", 1)
    key.open.append(count)
    look, other = Op("i1", "get"), Op("i1", "inc", 5)
    key.open.append(look)
    key.explain({look: (1, 0)}, (), ())
    key.open.append(other)
    key.explain({other: (6, 5)}, (), ())
    early = deepcopy(key)
    with pytest.raises(Unexplained):
        early.explain({early.open[0]: (6, 1)}, (), ())
    key.lose_answers()
    for wrong in ((7, 1), (5, 0), (6, 2)):
        again = deepcopy(key)
        with pytest.raises(Unexplained):
            again.explain({again.open[0]: wrong}, (), ())
    key.explain({count: (6, 1)}, (), ())


# ------------------------------------------------------------------- several parts


def an_operation_that_a_part_refuses(histories: PartedMemoryHistories) -> None:
    for part in (0, 2):
        histories.call_over_parts(
            who=A, steps=1, kind="set_all", key="a", part=part, fault="refuse"
        )


def a_clear_over_parts(histories: PartedMemoryHistories) -> None:
    histories.burst(calls=[(A, "inc", "a", 1), (A, "inc", "b", 2), (B, "inc", "b", 3)])
    histories.call_over_parts(who=B, steps=1, kind="clear", key="a", part=0, fault="hold_replies")


def a_hold_in_another_part_than_the_first(histories: PartedMemoryHistories) -> None:
    histories.enter(who=A, kind="hold", key="b", count=5)
    histories.leave_block(which=0)


def a_part_that_is_away(histories: PartedMemoryHistories) -> None:
    """Dead there, alive elsewhere: nobody else's keys have to wait."""
    for key in ("a", "b"):
        histories.call(who=A, kind="inc", key=key, count=2)
    histories.lasting_part_fault(who=A, part=0, fault="cut")
    histories.wait(seconds=9.0)
    for who, key in ((B, "a"), (B, "a"), (B, "a"), (A, "b"), (B, "b")):
        histories.call(who=who, kind="inc", key=key, count=1)
    assert histories.before[0]["i0"] == ABSENT
    assert histories.before[2]["i0"] == PRESENT
    histories.look(who=B, key="a")
    histories.heal_part(who=A, part=0)


def a_part_that_loses_everything(histories: PartedMemoryHistories) -> None:
    for key in ("a", "b"):
        histories.call(who=A, kind="inc", key=key, count=2)
    histories.wait(seconds=0.3)
    histories.wipe_part(part=2, seconds=0.0)
    assert histories.before[0]["i0"] == PRESENT
    assert histories.before[2]["i0"] == ABSENT
    for key in ("a", "b"):
        histories.call(who=B, kind="inc", key=key, count=1)


PARTED = (
    an_operation_that_a_part_refuses,
    a_clear_over_parts,
    a_hold_in_another_part_than_the_first,
    a_part_that_is_away,
    a_part_that_loses_everything,
)


@pytest.mark.parametrize("lax", [False, True])
@pytest.mark.parametrize("script", PARTED)
def test_p44_trouble_in_one_part_is_explained(
    script: Callable[[PartedMemoryHistories], None], lax: bool
) -> None:
    play_in_parts(script, lax, False)


def test_p44_keys_said_to_be_done_where_a_part_refused_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask_batch = _partitioned.ask_batch

    async def ask(parts: Sequence[Actor], batch: AtomicBatch) -> None:
        try:
            await ask_batch(parts, batch)
        except DistkitError as error:
            error.applied = tuple(entry.key for entry in batch.entries)
            raise

    monkeypatch.setattr(_partitioned, "ask_batch", ask)
    with pytest.raises(Unexplained):
        play_in_parts(an_operation_that_a_part_refuses, False, False)


def test_p44_a_part_that_is_not_asked_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_all = _partitioned.ask_all

    async def ask(parts: Sequence[Actor], operation: Operation) -> None:
        await ask_all(parts[:2], operation)

    monkeypatch.setattr(_partitioned, "ask_all", ask)
    with pytest.raises(AssertionError):
        play_in_parts(a_clear_over_parts, False, False)


def test_p44_a_hold_that_ends_in_another_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(self: PartitionedActor, hold: Hold) -> None:
        self.parts[0].release(hold)

    monkeypatch.setattr(PartitionedActor, "release", release)
    with pytest.raises(AssertionError):
        play_in_parts(a_hold_in_another_part_than_the_first, False, False)


def test_p44_a_part_that_holds_up_the_others_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_open(self: PartitionedActor) -> bool:
        return self._working and all(part.life is Life.RUNNING for part in self.parts)

    monkeypatch.setattr(PartitionedActor, "_is_open", property(is_open))
    with pytest.raises(AssertionError, match="must not fail so"):
        play_in_parts(a_part_that_is_away, False, False)


def test_a_count_in_doubt_at_a_loss_may_go_with_a_move_that_it_came_after() -> None:
    """Its counter has not heard of the loss, and its first request is lost: nobody knows (L4)."""

    def script(histories: MemoryHistories) -> None:
        histories.fault(who=B, fault="drop_request", times=1)
        histories.lost_in_doubt(who=C, steps=1, kind="inc", key="b", count=0)
        histories.both_faces(who=B, key="b", turns=[(1, "inc!", 0)], flushes=False)
        histories.verify()

    play(script, False, True, False)


def test_counts_in_doubt_at_a_loss_may_go_while_a_clear_is_lost_too() -> None:
    """Also while nobody can tell values, as the store has lost a clear (L1, L4)."""
    last = 3

    def script(histories: MemoryHistories) -> None:
        histories.call(who=A, kind="clear", key="a", count=0)
        histories.fault(who=last, fault="drop_request", times=3)
        histories.lost_in_doubt(who=last, steps=last + 1, kind="inc", key="a", count=0)
        histories.lasting_fault(who=A, fault="hold")
        histories.burst(calls=[(A, "put", "a", 0), (A, "put", "a", -1)])
        histories.both_faces(who=A, key="a", turns=[(0, "inc!", 0)], flushes=False)
        histories.cut(who=A)
        histories.verify()

    play(script, True, *[False] * last, chance=34)


def test_a_count_that_nobody_doubts_stays_after_a_loss_and_a_move() -> None:
    """Without a lost request it is known not to be executed, and is sent again."""

    def script(histories: MemoryHistories) -> None:
        histories.lost_in_doubt(who=C, steps=1, kind="inc", key="b", count=0)
        histories.both_faces(who=B, key="b", turns=[(1, "inc!", 0)], flushes=False)
        histories.verify()
        assert histories.model["b"].own("i1") == {1}

    play(script, False, True, False)


def the_end_of_a_hold_that_is_refused_before_a_stop(histories: MemoryHistories) -> None:
    histories.end_refused_before_a_stop(lax=False, kind="hold", key="a", count=3)


def test_i9_an_end_that_was_refused_is_tried_at_a_stop() -> None:
    play(the_end_of_a_hold_that_is_refused_before_a_stop, False, False, False)


def test_i9_an_end_that_is_not_tried_again_at_a_stop_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Releases, "retry_deferred", lambda _: None)
    with pytest.raises(AssertionError, match="stopped with 1 counts or operations"):
        play(the_end_of_a_hold_that_is_refused_before_a_stop, False, False, False)
