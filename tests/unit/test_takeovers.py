"""Random lives of a few ids that crash and start again, while all limits of a step are low.

A sum must always be that of the slices that count, whichever old moves have been forgotten (I1).
"""

from __future__ import annotations

import random
from collections import Counter
from copy import deepcopy

import pytest

from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace import _epochs, _namespace, _registry
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import Entry, Kind, Periods

SECOND = 1_000_000
PERIODS = Periods(threshold=3 * SECOND, interval=SECOND, retention=60 * SECOND)
KEYS = [f"k{number}" for number in range(12)]


class Lives:
    """A namespace, and who lives in it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1_700_000_000 * SECOND
        self.namespace = Namespace()
        self.sessions: dict[str, Session] = {}
        self.copy = deepcopy(self.namespace)
        self.openings = 0

    def step(self) -> None:
        """Let something happen, and see that all sums are right."""
        match self.chance.choice(["request"] * 40 + ["batch"] * 6 + ["start", "crash", "time"]):
            case "start":
                self.openings += 1
                session = Session(
                    self.chance.choice("ab"),
                    f"nonce {self.openings}",
                    PERIODS,
                    inherit=self.chance.random() < 0.3,
                )
                self.sessions[session.instance] = session
            case "crash" if self.sessions:
                del self.sessions[self.chance.choice(sorted(self.sessions))]
            case "time":
                self.now += self.chance.choice([1, 3, 3, 61, 200]) * SECOND
                if self.chance.random() < 0.2:  # the store goes back to an old copy
                    self.namespace = deepcopy(self.copy)
                elif self.chance.random() < 0.3:
                    self.copy = deepcopy(self.namespace)
            case "batch":
                for session in self.living():
                    if session.idle and session.phase is Phase.LIVE:
                        self.begin(session)
            case _:
                for session in self.living():
                    self.send(session)
        self.check()

    def living(self) -> list[Session]:
        """Return some of those who live, in any order."""
        count = self.chance.randint(0, len(self.sessions))
        return [self.sessions[name] for name in self.chance.sample(sorted(self.sessions), count)]

    def begin(self, session: Session) -> None:
        """Begin a batch that adds, or moves epochs, or leaves."""
        keys = self.chance.sample(KEYS, self.chance.randint(0, len(KEYS)))
        kind = self.chance.choice([Kind.ADD, Kind.ADD, Kind.MOVE])
        leave = self.chance.random() < 0.1
        if leave:
            kind, keys = Kind.PUT, list(session.slices)
        value = 0 if kind is not Kind.ADD else 1
        session.begin([Entry(kind, key, value) for key in keys], leave=leave, budget=4)

    def send(self, session: Session) -> None:
        """Send what a session has to send; the answer may get lost."""
        request = session.request()
        if request is None:
            return
        reply = self.namespace.execute(request, self.now)
        self.now += 1
        if self.chance.random() < 0.05:
            session.lost()
            return
        session.receive(reply)
        if session.phase in {Phase.LEFT, Phase.FENCED, Phase.REFUSED}:
            self.sessions.pop(session.instance, None)

    def check(self) -> None:
        """See that each sum is that of the slices that count."""
        registry = self.namespace.registry
        counted = Counter[str]()
        for _, record in registry.contributors():
            for key, own in record.slices.items():
                if own.stamp >= registry.epochs.of(key):
                    counted[key] += own.value
        assert +counted == registry.sums


@pytest.mark.parametrize("seed", range(60))
def test_i1_sums_are_right_whoever_starts_again(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    for module, name, value in (
        (_namespace, "MAX_PURGE", 2),
        (_registry, "MAX_PURGE", 2),
        (_epochs, "JOURNAL_PAGE", len(KEYS)),
        (_epochs, "FORGET_AT_LEAST", 2),
    ):
        monkeypatch.setattr(module, name, value)
    lives = Lives(seed)
    for _ in range(1500):
        lives.step()
