"""Sessions against a server that serves everybody in turn and takes its time.

The sessions, the namespace and what an instance learns of its store's speed are the package's
own. The server's turns, the network and when an actor sends are modelled here, as simply as they
can be. As Redis does, the server reads in each turn one piece from every connection that has
something for it: so a long request needs several turns, and short ones that were sent later
overtake it.
Time is virtual, so a run says the same on every machine.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from distkit_actors._instance._pacing import Pacing
from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import State
from distkit_actors._protocol._liveness import MICROSECONDS, LivenessConfig
from distkit_actors._protocol._messages import (
    MAX_ENTRIES,
    Apply,
    Entry,
    Kind,
    Rejection,
    Reply,
    Request,
    Resume,
)

#: When a simulation begins; a store's clock is no small number.
_EPOCH = 1_000_000.0
#: How many entries there are in 16 KiB, which is what Redis reads from a connection in one turn.
_PER_PIECE = 400


@dataclass(frozen=True)
class Costs:
    """How long things take, in seconds."""

    request: float = 60e-6
    entry: float = 8e-6
    repeated: float = 1.5e-6
    """For an entry of a request that is answered from the record: it is read, and no more."""
    piece: float = 10e-6
    """For a piece of a request that is read, whether or not it is the last."""
    trip: float = 200e-6
    reconnect: float = 1e-3


@dataclass(frozen=True)
class Policy:
    """Which of the package's defences are in force; all of them, unless one is left out."""

    patience: bool = True
    """Each answer that does not come makes an instance wait longer for the next."""


@dataclass
class Seen:
    """What has happened."""

    served: float = 0.0
    """Seconds that the server has worked."""
    repeats: int = 0
    deaths: list[float] = field(default_factory=list)
    """When somebody who lives was taken for dead."""
    done: float = 0.0
    """When the last one had done all it wanted."""
    exact: bool = False
    """All sums are what was added to them."""
    work: float = 0.0
    """Seconds that the server needs for all of it, each done once."""
    returned: float = 0.0
    """When the last one that came back to the store had told it all it has."""


class Simulation:
    """A fleet of ``instances``, each of which wants to add to ``keys`` keys at once."""

    def __init__(
        self,
        instances: int,
        keys: int,
        threshold: float,
        *,
        policy: Policy | None = None,
        costs: Costs | None = None,
        patience: float = 2.0,
        spread: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.now = _EPOCH
        self.policy = policy or Policy()
        self.costs = costs or Costs()
        self.first_patience = patience
        self.spread = spread
        self.seen = Seen()
        self.random = random.Random(seed)
        self.namespace = Namespace()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._arrived: deque[_Arrived] = deque()  # what the server has not read to its end
        self._turn: deque[_Arrived] = deque()  # of those, what it still reads of in this turn
        self._busy = False
        liveness = LivenessConfig.of(threshold, None)
        self.fleet = [Instance(self, str(n), liveness, keys) for n in range(instances)]

    def run(self, seconds: float) -> Seen:
        """Let everybody start within ``spread``, and go on until ``seconds`` have passed."""
        for instance in self.fleet:
            self.later(self.random.random() * self.spread, instance.go_on)
        return self.go_on_for(seconds)

    def go_on_for(self, seconds: float) -> Seen:
        """Go on until ``seconds`` have passed."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end
        return self.seen

    def wipe(self) -> None:
        """Let the store lose everything."""
        self.namespace = Namespace()

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now - _EPOCH

    @property
    def wrong(self) -> int:
        """Keys whose sum is not what all instances have added."""
        sums = self.namespace.registry.sums
        keys = self.fleet[0].keys
        return sum(sums.get(key, 0) != len(self.fleet) for key in keys)

    # ---------------------------------------------------------------- the server

    def arrive(self, request: Request, answer: Callable[[Reply], None]) -> None:
        """Queue a request, which will be served even if nobody waits for it any more."""
        self._arrived.append(_Arrived(request, answer, 1 + len(_entries(request)) // _PER_PIECE))
        if not self._busy:
            self._busy = True
            self._read()

    def _read(self) -> None:
        """Read one piece of what is next in this turn, and serve it if that was the last."""
        self._turn = self._turn or self._arrived.copy()
        arrived = self._turn.popleft()
        arrived.pieces -= 1
        seconds = self.costs.piece
        if not arrived.pieces:
            self._arrived.remove(arrived)
            seconds += self._serve(arrived.request, arrived.answer)
        self.later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._busy = bool(self._arrived)
        if self._busy:
            self._read()

    def _serve(self, request: Request, answer: Callable[[Reply], None]) -> float:
        """Execute a request; return how long that takes."""
        registry = self.namespace.registry
        before = {name for name, r in registry.records.items() if r.state is State.LIVE}
        record = registry.records.get(request.instance)
        seq = record.seq if record else -1
        reply = self.namespace.execute(request, int(self.now * MICROSECONDS))
        for name in before:
            if registry.records[name].state is State.DEAD:
                self.seen.deaths.append(self.elapsed)
        executed = isinstance(request, Apply | Resume) and request.seq > seq
        each = self.costs.entry if executed else self.costs.repeated
        seconds = self.costs.request + each * len(_entries(request))
        self.seen.served += seconds
        self.later(seconds + self.costs.trip / 2, lambda: answer(reply))
        return seconds


@dataclass(eq=False)
class _Arrived:
    """A request that the server has not read to its end."""

    request: Request
    answer: Callable[[Reply], None]
    pieces: int
    """How many pieces are still to be read."""


def _entries(request: Request) -> Sequence[object]:
    if isinstance(request, Apply):
        return request.entries
    return request.claims if isinstance(request, Resume) else ()


class Instance:
    """One session, and when it sends what."""

    def __init__(self, sim: Simulation, name: str, liveness: LivenessConfig, keys: int) -> None:
        self.keys = [f"k{n}" for n in range(keys)]
        self._sim = sim
        self._liveness = liveness
        self._session = Session(name, f"nonce {name}", liveness.periods)
        self._pacing = Pacing(liveness.threshold)
        self._wanted = deque(
            [Entry(Kind.ADD, key, 1) for key in self.keys[start : start + MAX_ENTRIES]]
            for start in range(0, keys, MAX_ENTRIES)
        )
        self._batch: list[Entry] = []
        self._connection = 0  # answers on an older one are lost
        self._sent_at: float | None = None  # what has no answer yet was first sent
        self._heard = 0.0
        self._sleeps = False
        self.cut_off = False  # nothing that it sends arrives

    def go_on(self) -> None:
        """Send what is due, and look again when something may be."""
        if self._sent_at is not None:
            return
        session = self._session
        if session.idle:
            if self._wanted:
                self._batch = self._wanted.popleft()
                session.begin(self._batch, budget=12, atomic=True)
            elif self._sim.now >= self._heard + self._liveness.period:
                self._batch = []
                session.begin((), budget=48)
            else:
                if not self._sleeps:
                    self._sleeps = True
                    rest = self._heard + self._liveness.period - self._sim.now
                    self._sim.later(rest + 1e-6, self._wake)
                return
        self._sent_at = self._sim.now
        self._send()

    def _wake(self) -> None:
        self._sleeps = False
        self.go_on()

    def _send(self) -> None:
        request, sim = self._session.request(), self._sim
        assert request is not None
        connection = self._connection

        def answer(reply: Reply) -> None:
            if self._connection == connection:
                self._connection += 1  # one answer for each request
                self._receive(reply)

        def overdue() -> None:
            if self._connection == connection:
                self._connection += 1
                sim.seen.repeats += 1
                self._session.lost()
                self._pacing.unanswered()
                self._session.piece_size = self._pacing.piece_size
                sim.later(sim.costs.reconnect, self._send)

        if not self.cut_off:
            sim.later(sim.costs.trip / 2, lambda: sim.arrive(request, answer))
        patience = sim.first_patience
        if sim.policy.patience:
            patience = self._pacing.patience(patience)
        sim.later(patience, overdue)

    def _receive(self, reply: Reply) -> None:
        sim, session = self._sim, self._session
        assert self._sent_at is not None
        sent_at, self._sent_at = self._sent_at, None
        self._heard = sent_at
        self._pacing.answered(sim.now - sent_at)
        session.piece_size, before = self._pacing.piece_size, session.phase
        update = session.receive(reply)
        if before is Phase.RESUME and session.phase is Phase.LIVE:
            sim.seen.returned = sim.elapsed
        if update.results is not None and self._batch:
            if Rejection.RETRY in update.results:
                self._wanted.appendleft(self._batch)
            elif not self._wanted:
                sim.seen.done = sim.elapsed
            self._batch = []
        if session.phase is not Phase.FENCED:
            self.go_on()
