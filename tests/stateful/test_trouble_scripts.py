"""What the machine must find about questions, refusals of one kind, onlookers and bodies.

In each of these a fault is put back that the package once had. Without it the same goes well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import trio

from distkit_actors._actor._availability import Availability
from distkit_actors._actor._dispatch import Dispatch
from distkit_actors._actor._exclusive import ClearOwnSteps, ExclusiveSteps
from distkit_actors._actor._requester import Refused, Requester
from distkit_actors._counters import _block
from distkit_actors._fleet._inquiry import Inquiry
from distkit_actors._fleet._looking import Observation
from distkit_actors._protocol._messages import Query
from tests.stateful import test_scripts
from tests.stateful.test_memory import MemoryHistories
from tests.stateful.test_scripts import A, B, play

outside_of_hypothesis = test_scripts.outside_of_hypothesis

Script: TypeAlias = Callable[[MemoryHistories], None]
Fault: TypeAlias = Callable[[pytest.MonkeyPatch], None]

#: So many draws find each of the faults.
DRAWS = 10


# ------------------------------------------------------------------------------- scripts


def batches_refused(histories: MemoryHistories) -> None:
    for chance in range(DRAWS):
        histories.one_kind_fails_for_long(
            who=B, kind="batches", how="refuse", watches=False, chance=chance
        )


def questions_refused(histories: MemoryHistories) -> None:
    for chance in range(DRAWS):
        histories.one_kind_fails_for_long(
            who=A, kind="questions", how="refuse", watches=True, chance=chance
        )


def questions_in_doubt(histories: MemoryHistories) -> None:
    for chance in range(DRAWS):
        histories.ask_in_doubt(who=A, kind="instances", key="a", count=3, chance=chance)


def outage(how: str) -> Script:
    def script(histories: MemoryHistories) -> None:
        histories.call(who=A, kind="inc", key="a", count=5)
        histories.outage_of_all(how=how, seconds=7.0)

    return script


def onlooker_leaves(histories: MemoryHistories) -> None:
    histories.look_no_more(how="hold", kind="keys")


def silence(pause: float) -> Script:
    def script(histories: MemoryHistories) -> None:
        histories.call(who=A, kind="inc", key="a", count=5)
        histories.all_fall_silent(refused="instances", pause=pause, asks=1)

    return script


def body_goes_on(histories: MemoryHistories) -> None:
    histories.join(lax=False, linger=False, twice=False, in_block=True)
    who = len(histories.members) - 1
    histories.cancel(who=who)
    histories.call(who=who, kind="inc", key="a", count=5)
    histories.leave(who=who)


def removed_while_it_is_held(histories: MemoryHistories) -> None:
    for who in (A, B):
        histories.hold_and_clear_own(who=who, kind="hold", key="a", count=5, fault=None)


# -------------------------------------------------------------------------------- faults


def answered_queries_end_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    over = Availability.over
    monkeypatch.setattr(Availability, "over", lambda self, **_: over(self))


def refused_queries_are_outages(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Requester.ask

    async def asked(self: Requester, link: Any, request: Any, now: float, *, sent: bool) -> Any:
        outcome = await ask(self, link, request, now, sent=sent)
        if isinstance(outcome, Refused) and isinstance(request, Query):
            self._availability.refused(outcome.error)
        return outcome

    monkeypatch.setattr(Requester, "ask", asked)


def refused_batches_take_queries_along(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Dispatch._taken

    def take(self: Dispatch) -> Any:
        query = self.queries._give_up()
        return taken(self) + ([] if query is None else [query])

    monkeypatch.setattr(Dispatch, "_taken", take)


def queries_wait_behind_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    fail = Dispatch.fail_waiting

    def fail_others(self: Dispatch, error: Exception, *, queries: bool = True) -> None:
        kept, self.queries.taken = self.queries.taken, None
        fail(self, error, queries=queries)
        self.queries.taken = kept

    monkeypatch.setattr(Dispatch, "fail_waiting", fail_others)


def refusals_are_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observation, "refused", lambda *_: True)


def long_answers_are_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = Observation.answered

    def answer(self: Observation, kind: Any, asked: float, now: float, at: int) -> None:
        answered(self, kind, asked, asked, at)

    monkeypatch.setattr(Observation, "answered", answer)


def each_refusal_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Observation.refused
    monkeypatch.setattr(Observation, "refused", lambda *given: refused(*given) or True)


def who_is_refused_sees_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Observation.refused

    def refuse(self: Observation, kind: Any, now: float) -> bool:
        news = refused(self, kind, now)
        self.interrupted()
        return news

    monkeypatch.setattr(Observation, "refused", refuse)


def nobody_tells_whose_question_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    close = Inquiry.close

    def close_without(self: Inquiry) -> None:
        self._carried = None
        close(self)

    monkeypatch.setattr(Inquiry, "close", close_without)


class _Unshielded:
    """A scope that takes no shield."""

    def __init__(self) -> None:
        self.shield = False
        self._scope = trio.CancelScope()

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(self, *error: Any) -> bool:  # noqa: PYI036 - they are handed on
        return self._scope.__exit__(*error)


def cancelled_blocks_stop_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    end = _block._End.__init__

    def init(self: _block._End) -> None:
        end(self)
        self.life = _Unshielded()  # type: ignore[assignment] - it stands for a scope

    monkeypatch.setattr(_block._End, "__init__", init)


def removing_ends_no_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClearOwnSteps, "end_holds", ExclusiveSteps.end_holds)


FAULTS: list[tuple[Script, Fault, str]] = [
    (batches_refused, answered_queries_end_refusals, "accepted"),
    (questions_refused, refused_queries_are_outages, "refused"),
    (batches_refused, refused_batches_take_queries_along, "OOM"),
    (questions_in_doubt, queries_wait_behind_doubt, "nobody tells"),
    (outage("refuse"), refusals_are_silence, "the outage has made"),
    (outage("hold"), long_answers_are_silence, "the outage has made"),
    (onlooker_leaves, nobody_tells_whose_question_is_carried, "nobody tells"),
    (silence(1.0), each_refusal_is_news, "accepted"),
    (silence(5.0), who_is_refused_sees_the_dead, "the dead count"),
    (removed_while_it_is_held, removing_ends_no_holds, "sees"),
    (body_goes_on, cancelled_blocks_stop_at_once, "has crashed"),
]


@pytest.mark.parametrize(("script", "fault", "words"), FAULTS)
def test_it_is_found(
    monkeypatch: pytest.MonkeyPatch, script: Script, fault: Fault, words: str
) -> None:
    with monkeypatch.context() as put_back:
        fault(put_back)
        with pytest.raises(AssertionError, match=words):
            play(script, False, True, False)


@pytest.mark.parametrize("script", list(dict.fromkeys(script for script, _, _ in FAULTS)))
def test_without_it_the_same_goes_well(script: Script) -> None:
    play(script, False, True, False)
