"""The plan of what goes wrong, and the record of what did."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import trio

from tests.harness.resp import Request

Kind = Literal[
    "forward",
    "drop_request",
    "drop_reply",
    "delay",
    "delay_reply",
    "duplicate",
    "late_copy",
    "cut_reply_midframe",
    "hang_reply",
    "answer_instead",
    "answer_afterwards",
    "answer_besides",
    "reply_twice",
]
Predicate = Callable[[Request], bool]


@dataclass(frozen=True)
class Fault:
    """What to do with one request and its reply."""

    kind: Kind
    seconds: float | None = None
    answer: bytes = b""


FORWARD = Fault("forward")


def is_script(request: Request) -> bool:
    """Match script calls, the commands that do the counting."""
    return request.name in {"EVALSHA", "EVAL"}


def named(*names: str) -> Predicate:
    """Return a predicate that matches the commands of these names."""
    wanted = {name.upper() for name in names}
    return lambda request: request.name in wanted


def anything(request: Request) -> bool:
    """Match every command, the connection's handshake included."""
    return True


@dataclass
class _Armed:
    """A fault and the number of requests it is still to strike."""

    fault: Fault
    remaining: int | None
    when: Predicate


class FaultBoard:
    """Faults to come, in order, and counts of those that happened.

    Arming appends to a plan. A request takes the first entry of the plan whose
    predicate matches, so `drop_request(); forward(2); drop_reply()` strikes the
    first and the fourth script call. Requests that match nothing pass.

    Every arming method takes `times`, the number of requests to strike (None:
    until `disarm`), and `when`, the requests that count (default: script calls,
    so that handshakes pass).

    Attributes:
        counts: what happened so far, by kind: the faults themselves,
            "connections", "closed" (connections that ended, however), "cut"
            (those the proxy cut), "requests", "replies", "late_copy_delivered"
            and "late_copy_lost".
        commands: requests by command name.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self._plan: deque[_Armed] = deque()
        self._changed = trio.Event()

    def forward(self, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Let requests pass, to place a later fault."""
        self._arm(FORWARD, times, when)

    def drop_request(self, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Swallow the request and cut the connection: it never happens.

        Replies to requests sent before it on the connection still arrive.
        """
        self._arm(Fault("drop_request"), times, when)

    def drop_reply(self, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Let the server execute the request, then cut instead of the reply."""
        self._arm(Fault("drop_reply"), times, when)

    def delay(self, seconds: float, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Hold the request, and all behind it on the connection, for a while.

        Counted when the wait begins.
        """
        self._arm(Fault("delay", seconds), times, when)

    def delay_reply(
        self, seconds: float, times: int | None = 1, *, when: Predicate = is_script
    ) -> None:
        """Let the server execute the request and hold the reply for a while.

        Counted when the wait begins.
        """
        self._arm(Fault("delay_reply", seconds), times, when)

    def duplicate(self, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Send the request twice in a row and swallow the second reply.

        Counted when the server has executed both.
        """
        self._arm(Fault("duplicate"), times, when)

    def late_copy(
        self,
        seconds: float | None,
        times: int | None = 1,
        *,
        when: Predicate = is_script,
    ) -> None:
        """Cut the connection and let the request arrive later, on another one.

        Args:
            seconds: how much later; None: on `release_late_copies`.
            times: the number of requests to strike.
            when: the requests that count.
        """
        self._arm(Fault("late_copy", seconds), times, when)

    def cut_reply_midframe(self, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Deliver the first half of the reply's bytes, then cut."""
        self._arm(Fault("cut_reply_midframe"), times, when)

    def hang_reply(self, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Let the server execute the request and never answer on the connection.

        The connection stays open. Later requests on it are executed and not
        answered either, as replies have no numbers and must not be skipped.
        Counted when the server has executed the request.
        """
        self._arm(Fault("hang_reply"), times, when)

    def answer(
        self, line: str, times: int | None = 1, *, executed: bool, when: Predicate = is_script
    ) -> None:
        """Answer something else, as proxies do that understand the protocol.

        Args:
            line: what to answer, as it goes over the wire, without the end of the line.
            times: the number of requests to strike.
            executed: let the server execute the request, and swallow its reply.
            when: the requests that count.
        """
        kind: Kind = "answer_afterwards" if executed else "answer_instead"
        self._arm(Fault(kind, answer=line.encode() + b"\r\n"), times, when)

    def answer_besides(
        self, line: str, times: int | None = 1, *, when: Predicate = is_script
    ) -> None:
        """Answer something else, as `answer` does, and pass the server's reply on behind it."""
        self._arm(Fault("answer_besides", answer=line.encode() + b"\r\n"), times, when)

    def reply_twice(self, times: int | None = 1, *, when: Predicate = is_script) -> None:
        """Let the server execute the request once, and pass its reply on twice."""
        self._arm(Fault("reply_twice"), times, when)

    @property
    def armed(self) -> int:
        """The number of entries of the plan not used up, passes included."""
        return len(self._plan)

    def disarm(self, when: Predicate | None = None) -> None:
        """Forget the rest of the plan, or what of it was armed with just this ``when``."""
        kept = () if when is None else [entry for entry in self._plan if entry.when is not when]
        self._plan = deque(kept)

    async def wait_for(self, kind: str, count: int = 1) -> None:
        """Wait until `counts[kind]` has reached a number.

        A checkpoint only if it must wait.
        """
        while self.counts[kind] < count:
            await self._changed.wait()

    def _arm(self, fault: Fault, times: int | None, when: Predicate) -> None:
        if times is None or times > 0:
            self._plan.append(_Armed(fault, times, when))

    def take(self, request: Request) -> Fault:
        """Return what is to be done with a request and use up the plan."""
        self.record("requests")
        self.commands[request.name] += 1
        for entry in self._plan:
            if not entry.when(request):
                continue
            if entry.remaining is not None:
                entry.remaining -= 1
                if entry.remaining == 0:
                    self._plan.remove(entry)
            return entry.fault
        return FORWARD

    def record(self, kind: str) -> None:
        """Count something that happened and wake those who wait for it."""
        self.counts[kind] += 1
        self._changed.set()
        self._changed = trio.Event()
