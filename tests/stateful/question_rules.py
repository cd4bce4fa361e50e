"""Rules about questions: they travel alone, change nothing, and each must end, whatever happens.

Here they are asked in any trouble. So the answer may come long after the question, and is compared
with all that held meanwhile: with what the model and the meters said each time they were looked at.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import trio
from hypothesis import strategies as st
from hypothesis.stateful import rule

from distkit_actors import (
    CounterClosedError,
    InstanceConflictError,
    InstanceInfo,
    OutcomeUnknownError,
    StoreError,
    StoreUnavailableError,
)
from distkit_actors.testing import FaultyStore
from tests.stateful.fleet import Block, Member
from tests.stateful.fleet_rules import WHO
from tests.stateful.history import TICK
from tests.stateful.hold_rules import CHANCE, COUNT, KEY
from tests.stateful.operations import SMALL, Effect
from tests.stateful.reference import Op, Slices
from tests.stateful.watch_rules import WatchRules
from tests.stateful.wires import INTERVAL

#: Those that any counter and any onlooker may be asked.
QUESTIONS: Final = ("instances", "slices", "keys")
#: Questions without an answer at the same time.
MOST_QUESTIONS: Final = 4
#: Seconds after which each has its answer, once all trouble is over: no pause is longer.
ANSWERED: Final = 4 * INTERVAL


class Asker(Protocol):
    """A counter, or an onlooker."""

    name: str  # empty for an onlooker, which has no slice
    network: FaultyStore
    stopping: bool
    over: trio.Event

    @property
    def troubled(self) -> bool:
        """Whether a lasting fault is on, anywhere."""

    @property
    def counter(self) -> object:
        """What has the methods that ask: of an onlooker it is a `Fleet`."""


class Question:
    """What somebody has asked, and what may be answered."""

    def __init__(self, asker: Asker, kind: str, key: str, at: float) -> None:
        self.asker = asker
        self.kind = kind
        self.arguments: Sequence[object] = {"slices": [key], "get_all": [SMALL]}.get(kind, [])
        self.at = at  # when it is asked; 0: at once
        self.scope = trio.CancelScope()
        self.over = False
        self.result: object = None
        self.error: Exception | None = None
        self.troubled = False  # there was a lasting fault on the way since it was asked
        self.superseded = False  # somebody else has had the asker's id since
        # {key: whose slices were in it at any time since}, for keys of which anybody can tell.
        self.shares: dict[str, set[Slices]] = {}
        self.made: Mapping[str, int] = {}  # {key: operations that had been begun}
        self.always: set[str] = set()  # who was there all the time
        self.ever: set[str] = set()  # who was there at some time

    def __repr__(self) -> str:
        return f"{self.asker}: {self.kind}({', '.join(map(repr, self.arguments))})"

    async def run(self) -> None:
        """Ask, and keep what comes of it."""
        with self.scope:
            if self.at:
                await trio.sleep_until(self.at)
            try:
                self.result = await getattr(self.asker.counter, self.kind)(*self.arguments)
            except Exception as error:  # noqa: BLE001 (judged by the machine)
                self.error = error
        self.over = True


class QuestionRules(WatchRules):
    """A history in which questions are asked at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Question] = []  # that had no answer when last looked at
        self.made: Counter[str] = Counter()  # {key: operations that were begun}

    # ------------------------------------------------------------------------- rules

    @rule(who=WHO, kind=st.sampled_from(QUESTIONS), key=KEY)
    def ask(self, who: int, kind: str, key: str) -> None:
        """Somebody asks, whatever state the network is in."""
        self.ask_of(self.member(who), kind, key)

    @rule(which=st.integers(0, 9))
    def ask_no_more(self, which: int) -> None:
        """One who has asked goes away."""
        if self.questions:
            question = self.questions.pop(which % len(self.questions))
            self.do(question.scope.cancel)
            assert question.over, f"{question} does not let go"

    @rule(who=WHO, kind=st.sampled_from(QUESTIONS), key=KEY, count=COUNT, chance=CHANCE)
    def ask_in_doubt(self, who: int, kind: str, key: str, count: int, chance: int) -> None:
        """Somebody asks, answers get lost, and perhaps the store refuses what comes next.

        A question is in no doubt, so a refusal ends it, whatever else is. Those that begin with a
        batch may wait for one in doubt.
        """
        draw = random.Random(chance)
        member = self.member(who)
        self.do(member.mend)
        self.pass_time(INTERVAL + TICK)
        refuses = draw.random() < 0.5
        question = Question(member, kind, key, at=0.0)
        operation = draw.choice(["inc", "inc!", "get!", "inc_if", "set"])

        def ask() -> None:
            member.in_trouble(None)
            member.network.hold()
            self._put(question)

        def strike() -> None:
            for _ in range(draw.randint(0, 4)):
                draw.choice([member.network.drop_reply, member.network.drop_request])()
            member.network.forward(draw.randint(0, 1))
            if refuses:
                member.network.answer(StoreError("OOM"), None, executed=False)
            member.network.release()

        self.do(ask)
        if not self.crowded:
            self.do(lambda: self.begin(member, operation, key, count))
        self.do(strike)
        self.pass_time(draw.choice([TICK, 2 * INTERVAL, 3 * INTERVAL]))
        if refuses and kind == "instances":
            self.pass_time(INTERVAL + TICK)
            assert question.over, f"the store refuses, and nobody tells {question}"
        self.do(member.mend)
        self.pass_time(ANSWERED)
        assert question.over, f"nobody answers {question}"

    # ----------------------------------------------------------------------- asking

    def ask_of(
        self, asker: Asker, kind: str, key: str, *, always: bool = False, at: float = 0.0
    ) -> Question | None:
        """Ask at some time, if not too many have asked already; wait while all is well."""
        if len(self.questions) >= MOST_QUESTIONS and not always:
            return None
        question = Question(asker, kind, key, at)
        self.do(lambda: self._put(question))
        return question

    def _put(self, question: Question) -> None:
        """Begin to ask."""
        question.shares = {key: set() for key in SMALL if not self.model[key].open}
        question.made = dict(self.made)
        question.always = {*self.names}
        self._note(question, self._all_doubts(), self._vague())
        self.questions.append(question)
        self.host.nursery.start_soon(question.run)

    def check_questions(self) -> None:
        """All that were asked of those who are well have been answered."""
        assert not self.questions, f"nobody answers {self.questions}"

    # ---------------------------------------------------------------------- judging

    def _op(
        self, member: Member, key: str, effect: Effect, block: Block | None, **how: object
    ) -> Op:
        self.made[key] += 1
        return super()._op(member, key, effect, block, **how)

    async def judge(self) -> None:
        """See whether what was answered can be, too."""
        await super().judge()
        over = [question for question in self.questions if question.over]
        self.questions = [question for question in self.questions if not question.over]
        for question in over:
            self._check(question)
        for question in self.questions:
            assert not question.asker.over.is_set(), f"it has ended, and nobody tells {question}"

    def _explain(self, answers: Mapping[Op, object], *, disturbed: bool = False) -> None:
        doubts, vague = self._all_doubts(), self._vague()
        super()._explain(answers, disturbed=disturbed)
        for question in self.questions:
            self._note(question, doubts, vague | self._vague())

    def _all_doubts(self) -> list[tuple[set[str], set[str]]]:
        """Return for each part whose slices may count or not, and whose do not."""
        return [self._doubts(part)[1:] for part in range(len(self.before))]

    def _vague(self) -> set[str]:
        return {key for key in SMALL if self.model[key].vague}

    def _note(
        self, question: Question, doubts: list[tuple[set[str], set[str]]], vague: set[str]
    ) -> None:
        """Take down what may be answered now."""
        question.troubled |= question.asker.troubled
        question.superseded |= question.asker in self.fenced
        for key in list(question.shares):
            if key in vague or self.made[key] != question.made.get(key, 0):
                del question.shares[key]
                continue
            unsure, absent = doubts[self.part_of(key)]
            for who in {question.asker.name, ""}:  # its own slice may be gone, like any other
                question.shares[key] |= self.model[key].shares(who, unsure, absent)
        names = {*self.names}
        question.always &= {n for unsure, absent in doubts for n in names - unsure - absent}
        question.ever |= {n for _, absent in doubts for n in names - absent}

    def _check(self, question: Question) -> None:
        asker, error = question.asker, question.error
        match error:
            case None if question.superseded:
                pass  # it may have told of slices that are void
            case None:
                self._check_answer(question, question.result)
            case InstanceConflictError() if question.superseded:
                pass
            case CounterClosedError() | StoreUnavailableError() if asker.stopping:
                pass
            case OutcomeUnknownError() if asker.stopping and question.kind != "instances":
                pass  # of the batch that it begins with
            case StoreError() if type(error) is StoreError and question.troubled:
                pass
            case _:
                raise AssertionError(f"{question} must not fail so") from error

    def _check_answer(self, question: Question, result: object) -> None:
        shares = question.shares
        match question.kind, result:
            case "slices", dict():
                key = str(question.arguments[0])
                seen = frozenset(result.items())
                possible = shares.get(key)
                assert possible is None or seen in possible, f"{question}: {seen}, not {possible}"
            case "get_all", dict():
                for key, possible in shares.items():
                    totals = {sum(count for _, count in share) for share in possible}
                    assert result[key].cumulative in totals, f"{question}: {result}, not {totals}"
            case "keys", list():
                for key, possible in shares.items():
                    counted = {self._is_listed(question.asker, share) for share in possible}
                    assert (key in result) in counted, f"{question}: {result}"
            case _, list():
                alive = {each.instance_id for each in result if self._is_alive(each)}
                assert question.always <= alive, f"{question}: more than {alive} are there"
                assert alive <= question.ever, f"{question}: not all of {alive} can be there"
            case _:
                raise AssertionError(f"{question}: {result}")

    def _is_listed(self, asker: Asker, share: Slices) -> bool:
        own = any(who == asker.name for who, _ in share)
        return own or sum(count for _, count in share) != 0

    def _is_alive(self, info: object) -> bool:
        assert isinstance(info, InstanceInfo)
        return info.alive
