"""Commands of several tasks on one connection: each has its own answer, whatever becomes of others.

The connection is a script: it sends as much, and brings as much, as it is told to.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import hiredis
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from distkit_actors._errors import StoreUnavailableError
from distkit_actors._stores._contract import StoreSilentError
from distkit_actors._stores._redis._connection import ErrorReplyError, pack
from distkit_actors._stores._redis._heartbeats import MOST, Heartbeat
from distkit_actors._stores._redis._pipeline import Call, Pipeline
from distkit_actors._stores._redis._silence import Silence

LOST: Final = "lost"


class ScriptedStream:
    """A connection whose other side reads, and says, only what the test lets it."""

    def __init__(self) -> None:
        self.unsent = bytearray()
        self.arrived = bytearray()  # at the other side
        self.room = 0  # how many bytes more it takes
        self.closed = False
        self.receivers = 0
        self.senders = 0
        self._coming = b""
        self._waiting: dict[str, trio.Event] = {}
        self._interrupted: set[str] = set()

    # ------------------------------------------------------------------ what the test does

    def take(self, size: int) -> None:
        """Make room for so many bytes more."""
        self.room += size
        self._wake("send")

    def bring(self, data: bytes, *, unnoticed: bool = False) -> None:
        """Let data come; ``unnoticed``: whoever waits for it does not know yet."""
        self._coming += data
        if not unnoticed:
            self._wake("receive")

    # -------------------------------------------------------------- what the pipeline needs

    def write(self, data: bytes) -> None:
        """Send what there is room for, and keep the rest."""
        assert not self.closed
        if self.unsent:
            self.unsent += data
        else:
            self.unsent += data[self._send(data) :]

    async def flush(self) -> None:
        """Send what is kept."""
        assert not self.senders, "two tasks send"
        self.senders += 1
        try:
            del self.unsent[: self._send(bytes(self.unsent))]
            if self.unsent:
                await self._wait("send", lambda: self.room > 0)
        finally:
            self.senders -= 1

    async def receive_some(self) -> bytes | None:
        """Wait for data."""
        assert not self.receivers, "two tasks receive"
        self.receivers += 1
        try:
            await self._wait("receive", lambda: bool(self._coming))
            return self.receive_nowait() or None
        finally:
            self.receivers -= 1

    def receive_nowait(self) -> bytes:
        """Return what has come."""
        data, self._coming = self._coming, b""
        return data

    def interrupt(self) -> None:
        """Let nobody wait any more."""
        self._interrupted |= set(self._waiting)
        for what in list(self._waiting):
            self._wake(what)

    def close(self) -> None:
        """Close it."""
        self.closed = True
        self.interrupt()

    def _send(self, data: bytes) -> int:
        size = min(self.room, len(data))
        self.arrived += data[:size]
        self.room -= size
        return size

    def _wake(self, what: str) -> None:
        if what in self._waiting:
            self._waiting.pop(what).set()

    async def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait as for a socket: once, and one who is about to go on is interrupted no more."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if ready():
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._waiting[what] = event = trio.Event()
        try:
            await event.wait()
        finally:
            self._waiting.pop(what, None)
        if what in self._interrupted:
            self._interrupted.discard(what)
            raise trio.ClosedResourceError


class PlainWords:
    """Says what an error says."""

    def failure(self, error: Exception) -> StoreUnavailableError:
        """Return what to raise."""
        return StoreUnavailableError(str(error))

    def withhold(self, error: ErrorReplyError) -> None:
        """Leave an error as it is."""


@dataclass
class Task:
    """One that sends a command and waits for its answer."""

    number: int  # of its command
    call: Call
    lone: bool = False  # it waits, and whoever takes over receives
    together: bool = False  # it is a heartbeat, and goes with others
    left: bool = False  # somebody has taken over
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    outcome: str | None = None
    cancelled: bool = False
    begun: bool = False
    ended: bool = False


class Scene:
    """Tasks on a pipeline, and the server at its other end."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.stream = ScriptedStream()
        reader = hiredis.Reader(replyError=ErrorReplyError.read)
        self.pipeline = Pipeline(self.stream, reader, PlainWords(), Silence(2.0))
        self.tasks: list[Task] = []
        self.answered = 0  # commands
        self._asked = 0
        self._nursery = nursery
        self._requests = hiredis.Reader()
        self._read = 0
        self._executed: list[list[bytes]] = []  # the names of each command
        self._answers = b""

    def ask(self, *, lone: bool = False) -> Task:
        """Start a task."""
        number = self._asked
        self._asked += 1
        return self._start(Task(number, self.pipeline.post(command_of(number)), lone))

    def beat(self, limits: bytes = b"", namespace: bytes = b"") -> Task:
        """Start a task that sends a heartbeat. Others may go with it until the next turn."""
        number = self._asked
        self._asked += 1
        beat = heartbeat(number, limits, namespace or b"of %d" % number)
        call, first = self.pipeline.post_heartbeat(beat)
        if first:
            self._nursery.start_soon(self._send_gathered)
        return self._start(Task(number, call, together=True))

    async def _send_gathered(self) -> None:
        self.pipeline.send_gathered()

    def take_over(self, task: Task) -> None:
        """Start a task that receives instead of another one, which may have been cancelled."""
        if task.lone and task.begun and not task.left and task.outcome is None:
            task.left = True
            self.pipeline.interrupt(task.call)
            self._start(Task(task.number, task.call))

    def _start(self, task: Task) -> Task:
        self.tasks.append(task)

        async def receive() -> None:
            with task.scope:
                try:
                    task.begun = True
                    if task.lone:
                        await self.pipeline.wait(task.call)
                        if task.left:
                            task.ended = True
                            return
                        assert task.call.over
                    answer = await self.pipeline.receive(task.call)
                except ErrorReplyError as error:
                    task.outcome = error.text
                except StoreUnavailableError as error:
                    task.outcome = f"{LOST}: {error}"
                else:
                    assert isinstance(answer, bytes)
                    task.outcome = answer.decode()
            task.cancelled = task.scope.cancelled_caught
            task.ended = True

        self._nursery.start_soon(receive)
        return task

    def execute(self, most: int = 1_000_000) -> None:
        """Have the server execute commands that have arrived, in order, none torn."""
        self._requests.feed(bytes(self.stream.arrived[self._read :]))
        self._read = len(self.stream.arrived)
        while (command := self._requests.gets()) is not False:
            alone = command[0] == b"ECHO"
            self._executed.append(command[1:2] if alone else command[4 : 3 + int(command[2]) : 2])
        while most and self.answered < len(self._executed):
            names = self._executed[self.answered]
            if any(name.endswith(b"3.0") for name in names):
                self._answers += b"-OOM %b\r\n" % b" ".join(names)
            elif len(names) == 1:
                self._answers += b"+%b\r\n" % names[0]
            else:
                self._answers += b"*%d\r\n" % len(names) + b"".join(map(b"+%b\r\n".__mod__, names))
            self.answered += 1
            most -= 1

    def bring(self, size: int = 1_000_000, *, unnoticed: bool = False) -> None:
        """Bring so many bytes of the answers."""
        self.stream.bring(self._answers[:size], unnoticed=unnoticed)
        self._answers = self._answers[size:]

    async def settle(self) -> None:
        """Let everything come that is to come."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            before = len(self.stream.arrived), self.answered
            self.stream.take(1_000_000)
            self.execute()
            self.bring()
            await trio.testing.wait_all_tasks_blocked()
            if before == (len(self.stream.arrived), self.answered):
                break

    def expect_own_answers(self, *, lost: bool = False) -> None:
        """See that each has its own answer, but for those that were cancelled."""
        for task in self.tasks:
            if task.cancelled or task.left:
                assert task.left or task.outcome is None
                continue
            own = f"{task.number}.0"
            assert task.outcome is not None, f"{task} waits for ever"
            refused = own in task.outcome.removeprefix("OOM ").split(" ")
            assert refused or (lost and task.outcome.startswith(LOST)), task


def command_of(number: int) -> bytes:
    return pack((b"ECHO", f"{number}.0".encode(), b"x" * (number % 7)))


def heartbeat(number: int, limits: bytes, namespace: bytes) -> Heartbeat:
    keys = (namespace, f"{number}.0".encode())
    heads = b"before", b"after"
    return Heartbeat(keys, b"id", heads, limits, (), lambda: command_of(number))


Step: TypeAlias = (
    tuple[Literal["beat", "take over", "cancel", "take", "execute", "bring"], int]
    | tuple[Literal["ask", "ask alone", "settle", "turn"], Literal[0]]
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "ask alone"]), st.just(0)),
        st.tuples(st.just("beat"), st.integers(1, 2)),
        st.tuples(st.just("take over"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("take"), st.integers(1, 60)),
        st.tuples(st.just("execute"), st.integers(1, 3)),
        st.tuples(st.just("bring"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["turn", "settle"]), st.just(0)),
    ),
    max_size=40,
)


async def live_through(steps: list[Step], lost_at: int | None) -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            scene = Scene(nursery)
            for number, (kind, value) in enumerate(steps):
                if number == lost_at:
                    scene.pipeline.lose(StoreUnavailableError("as it was to be"))
                match kind:
                    case "ask":
                        scene.ask()
                    case "ask alone":
                        scene.ask(lone=True)
                    case "beat":
                        scene.beat(b"%d" % value, b"one of %d" % (number % 3))
                    case "take over" if value < len(scene.tasks):
                        scene.take_over(scene.tasks[value])
                    case "cancel" if value < len(scene.tasks):
                        scene.tasks[value].scope.cancel()
                    case "take":
                        scene.stream.take(value)
                    case "execute":
                        scene.execute(value)
                    case "bring":
                        scene.bring(value)
                    case "turn":
                        await trio.lowlevel.checkpoint()
                    case "settle":
                        await trio.testing.wait_all_tasks_blocked()
                        assert all(task.ended for task in scene.tasks if task.left)
                    case _:
                        pass
            await scene.settle()
            try:
                scene.expect_own_answers(lost=lost_at is not None)
            finally:
                nursery.cancel_scope.cancel()


@given(STEPS)
@settings(deadline=None)
def test_everybody_has_an_answer_of_its_own(steps: list[Step]) -> None:
    """Whatever is cancelled, and however slowly bytes go."""
    trio.run(live_through, steps, None)


@given(STEPS, st.integers(0, 39))
@settings(deadline=None)
def test_or_learns_that_the_connection_is_lost(steps: list[Step], lost_at: int) -> None:
    trio.run(live_through, steps, lost_at)


@pytest.fixture
async def scene(nursery: trio.Nursery) -> Scene:
    return Scene(nursery)


async def asking(scene: Scene, number: int) -> list[Task]:
    """Start so many tasks, one after the other."""
    tasks = []
    for _ in range(number):
        tasks.append(scene.ask())
        await trio.testing.wait_all_tasks_blocked()
    return tasks


async def test_who_receives_and_is_cancelled_lets_another_one_do_that(scene: Scene) -> None:
    first, *_ = await asking(scene, 3)
    first.scope.cancel()
    await scene.settle()
    assert first.cancelled
    scene.expect_own_answers()


@pytest.mark.parametrize(("room", "number"), [(0, 1), (1_000, 2)])
async def test_who_waits_alone_lets_another_one_receive(
    room: int, number: int, scene: Scene
) -> None:
    """Whether it sends or receives for all, or sleeps while another one does."""
    scene.stream.take(room)
    alone = [scene.ask(lone=True) for _ in range(number)]
    await trio.testing.wait_all_tasks_blocked()
    assert scene.stream.senders == (room == 0)
    for task in alone:
        scene.take_over(task)
    await trio.testing.wait_all_tasks_blocked()
    assert [task.ended for task in scene.tasks] == [True] * number + [False] * number
    await scene.settle()
    assert [task.outcome for task in scene.tasks[number:]] == ["0.0", "1.0"][:number]


async def test_what_one_has_sent_in_part_is_sent_by_others(scene: Scene) -> None:
    """Also by the only one that is left, who receives."""
    scene.stream.take(1_000)
    receiver, sender = scene.ask(), None
    await trio.testing.wait_all_tasks_blocked()
    scene.stream.room = 5
    sender = scene.ask()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.stream.senders == scene.stream.receivers == 1
    sender.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert sender.cancelled
    assert scene.stream.senders == 1
    await scene.settle()
    assert receiver.outcome == "0.0"
    assert scene.ask().number == 2
    await scene.settle()
    scene.expect_own_answers()


async def test_who_sends_for_others_goes_when_its_answer_is_there(scene: Scene) -> None:
    first, sender, third = [scene.ask() for _ in range(3)]
    await trio.testing.wait_all_tasks_blocked()
    scene.stream.take(len(command_of(0)) + len(command_of(1)))
    await trio.testing.wait_all_tasks_blocked()
    scene.execute()
    scene.bring()
    await trio.testing.wait_all_tasks_blocked()
    assert (first.outcome, sender.outcome, third.outcome) == ("0.0", "1.0", None)
    await scene.settle()
    scene.expect_own_answers()


async def test_a_burst_of_answers_wakes_nobody_who_has_none(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for one, who receives from then on."""
    tasks = await asking(scene, 100)
    scene.stream.take(sum(len(command_of(number)) for number in range(50)))
    await trio.testing.wait_all_tasks_blocked()
    scene.execute()
    slept: list[object] = []
    sleep = Pipeline._sleep

    async def counted(pipeline: Pipeline, call: object) -> None:
        slept.append(call)
        await sleep(pipeline, call)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "_sleep", counted)
    scene.bring()
    await trio.testing.wait_all_tasks_blocked()
    assert [task.outcome is not None for task in tasks] == [True] * 50 + [False] * 50
    assert len(slept) <= 2
    await scene.settle()
    scene.expect_own_answers()


async def test_all_who_wait_are_told_why_it_was_lost_each_by_an_error_of_its_own(
    nursery: trio.Nursery,
) -> None:
    scene = Scene(nursery)
    calls = [scene.pipeline.post(command_of(number)) for number in range(3)]
    errors: list[StoreUnavailableError] = []

    async def receive(number: int) -> None:
        with pytest.raises(StoreUnavailableError, match="Protocol error") as caught:
            await scene.pipeline.receive(calls[number])
        errors.append(caught.value)

    async with trio.open_nursery() as waiting:
        for number in range(3):
            waiting.start_soon(receive, number)
        await trio.testing.wait_all_tasks_blocked()
        scene.stream.bring(b"what is this?\r\n")
    assert len({id(error) for error in errors}) == 3
    assert not scene.pipeline.up
    assert scene.stream.closed
    with pytest.raises(StoreUnavailableError):
        await scene.pipeline.receive(scene.pipeline.post(command_of(4)))


async def test_an_answer_to_nothing_ends_it(scene: Scene) -> None:
    scene.stream.take(1_000)
    scene.ask()
    await trio.testing.wait_all_tasks_blocked()
    scene.stream.bring(b"+0.0\r\n+surplus\r\n")
    await trio.testing.wait_all_tasks_blocked()
    scene.expect_own_answers()
    assert not scene.pipeline.up


@pytest.mark.parametrize("where", ["post", "take", "receive"])
def test_an_interrupt_by_the_keyboard_mixes_no_answers_up(where: str) -> None:
    """It comes while a command is sent, or an answer is handed out; others use the connection."""

    async def main() -> None:
        stream = ScriptedStream()
        stream.take(10_000)
        reader = hiredis.Reader(replyError=ErrorReplyError.read)
        pipeline = Pipeline(stream, reader, PlainWords(), Silence(2.0))
        if where == "post":
            write = stream.write

            def interrupted_write(data: bytes) -> None:
                stream.write = write  # type: ignore[method-assign] - the next one is not
                signal.raise_signal(signal.SIGINT)
                write(data)

            stream.write = interrupted_write  # type: ignore[method-assign] - as a signal comes
        elif where == "receive":
            receive = stream.receive_some

            async def interrupted_receive() -> bytes | None:
                stream.receive_some = receive  # type: ignore[method-assign] - the next one is not
                data = await receive()
                signal.raise_signal(signal.SIGINT)
                return data

            stream.receive_some = interrupted_receive  # type: ignore[method-assign] - as above
        else:
            read = pipeline._next_answer

            def interrupted_read() -> Any:
                pipeline._next_answer = read
                answer = read()
                signal.raise_signal(signal.SIGINT)
                return answer

            pipeline._next_answer = interrupted_read
        answers = [b":1\r\n"]
        with suppress(KeyboardInterrupt):
            call = pipeline.post(b"first")
            stream.bring(answers.pop())
            await pipeline.receive(call)
            await trio.lowlevel.checkpoint()
        stream.bring(b"".join(answers))
        second = pipeline.post(b"second")
        stream.bring(b":2\r\n")
        with trio.fail_after(5):
            assert await pipeline.receive(second) == 2
        assert bytes(stream.arrived) == b"firstsecond"

    with suppress(KeyboardInterrupt):
        trio.run(main)


async def test_one_that_is_silent_is_lost_for_all(scene: Scene, autojump_clock: object) -> None:
    tasks = await asking(scene, 3)
    await trio.sleep(2)
    tasks[1].scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.pipeline.up
    scene.pipeline.lose_if_silent(2)
    await trio.testing.wait_all_tasks_blocked()
    assert not scene.pipeline.up
    assert [task.outcome is not None for task in tasks] == [True, False, True]
    with pytest.raises(StoreSilentError, match="no answer for 2 seconds"):
        await scene.pipeline.receive(scene.pipeline.post(command_of(4)))


async def test_one_that_brings_answers_to_others_is_not_silent(
    scene: Scene, autojump_clock: object
) -> None:
    """Nor one that has brought them, and nobody has come to take them yet."""
    scene.stream.take(1_000)
    tasks = await asking(scene, 3)
    await trio.sleep(1.5)
    scene.execute(1)
    scene.bring()
    await trio.sleep(0.5)
    tasks[2].scope.cancel()
    scene.pipeline.lose_if_silent(2)
    assert scene.pipeline.up
    await trio.sleep(2)
    scene.execute(1)
    scene.bring(unnoticed=True)
    scene.pipeline.lose_if_silent(2)
    assert scene.pipeline.up
    await trio.testing.wait_all_tasks_blocked()
    assert [task.outcome for task in tasks] == ["0.0", "1.0", None]
    await scene.settle()
    scene.expect_own_answers()


async def test_the_least_patient_does_not_keep_all_others_from_their_answers(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    """The server answers, but each answer takes longer than one of two users will wait."""
    answered = {2.0: 0, 10.0: 0}
    silence, streams = Silence(2.0), list[ScriptedStream]()
    pipelines: list[Pipeline] = []

    def connect() -> Pipeline:
        streams.append(ScriptedStream())
        streams[-1].take(1_000_000)
        reader = hiredis.Reader(replyError=ErrorReplyError.read)
        pipelines.append(Pipeline(streams[-1], reader, PlainWords(), silence))
        return pipelines[-1]

    async def answer(stream: ScriptedStream) -> None:
        await trio.sleep(5)
        if not stream.closed:
            stream.bring(b"+OK\r\n")

    async def use(patience: float) -> None:
        while True:
            pipeline = pipelines[-1] if pipelines and pipelines[-1].up else connect()
            call = pipeline.post(command_of(0))
            nursery.start_soon(answer, streams[-1])
            with trio.move_on_after(patience), suppress(StoreUnavailableError):
                await pipeline.receive(call)
                answered[patience] += 1
            if not call.over:
                pipeline.lose_if_silent(patience)

    nursery.start_soon(use, 10.0)
    await trio.sleep(1)
    nursery.start_soon(use, 2.0)
    await trio.sleep(600)
    assert answered[10.0] > 600 / 5 / 2
    assert len(pipelines) < 10


async def test_somebody_receives_while_another_one_sends(scene: Scene) -> None:
    """Though the one who received, and the one who sent, had their answers at once."""
    scene.stream.take(len(command_of(0)))
    tasks = [*await asking(scene, 4)]
    assert (scene.stream.receivers, scene.stream.senders) == (1, 1)
    scene.stream.take(len(command_of(1)) + len(command_of(2)))
    await trio.testing.wait_all_tasks_blocked()
    scene.execute(2)
    scene.bring()
    await trio.testing.wait_all_tasks_blocked()
    assert [task.outcome for task in tasks] == ["0.0", "1.0", None, None]
    assert (scene.stream.receivers, scene.stream.senders) == (1, 1)
    await scene.settle()
    scene.expect_own_answers()


# ------------------------------------------------------------------------------ heartbeats


def commands(scene: Scene) -> list[list[bytes]]:
    """What has arrived at the other side."""
    reader = hiredis.Reader()
    reader.feed(bytes(scene.stream.arrived))
    found = []
    while (command := reader.gets()) is not False:
        found.append(command)
    return found


async def test_heartbeats_of_one_turn_go_together(scene: Scene) -> None:
    scene.stream.take(1_000_000)
    for _ in range(3):
        scene.beat()
    await trio.testing.wait_all_tasks_blocked()
    (command,) = commands(scene)
    assert command[2:] == [
        *(b"6", b"of 0", b"0.0", b"of 1", b"1.0", b"of 2", b"2.0"),
        *(b"", *[b"id", b"before", b"after"] * 3),
    ]
    await scene.settle()
    scene.expect_own_answers()


async def test_one_heartbeat_goes_as_it_is(scene: Scene) -> None:
    scene.beat()
    await scene.settle()
    assert [command[0] for command in commands(scene)] == [b"ECHO"]
    scene.expect_own_answers()


async def test_they_go_ahead_of_what_is_sent_after_them(scene: Scene) -> None:
    scene.stream.take(1_000_000)
    scene.beat()
    scene.beat()
    scene.ask()
    assert [command[0] for command in commands(scene)] == [b"EVALSHA", b"ECHO"]
    await scene.settle()
    scene.expect_own_answers()


async def test_only_so_many_go_together_and_only_those_with_the_same_periods(scene: Scene) -> None:
    for _ in range(MOST + 2):
        scene.beat(b"these")
    for _ in range(2):
        scene.beat(b"those")
    await scene.settle()
    assert [int(command[2]) for command in commands(scene)] == [2 * MOST, 4, 4]
    scene.expect_own_answers()


async def test_of_one_namespace_only_one_goes_in_a_command(scene: Scene) -> None:
    """An instant is told there once, so that the others would have to go again, alone."""
    scene.stream.take(1_000_000)
    for namespace in (b"a", b"b", b"a", b"b", b"a"):
        scene.beat(namespace=namespace)
    await trio.testing.wait_all_tasks_blocked()
    assert [command[0] for command in commands(scene)] == [b"EVALSHA", b"EVALSHA", b"ECHO"]
    names = [command[4:7:2] for command in commands(scene)[:2]]
    assert names == [[b"0.0", b"1.0"], [b"2.0", b"3.0"]]
    await scene.settle()
    scene.expect_own_answers()


async def test_an_answer_that_comes_before_any_of_them_is_sent_ends_the_connection(
    scene: Scene,
) -> None:
    tasks = [scene.beat() for _ in range(2)]
    scene.stream.bring(b"+OK\r\n", unnoticed=True)
    scene.pipeline.lose_if_silent(2)
    await scene.settle()
    assert scene.stream.closed
    for task in tasks:
        assert task.outcome is not None
        assert task.outcome.startswith(f"{LOST}: an answer to nothing")


async def test_one_that_is_cancelled_disturbs_none_of_the_others(scene: Scene) -> None:
    tasks = [scene.beat() for _ in range(3)]
    tasks[0].scope.cancel()
    await scene.settle()
    assert tasks[0].cancelled
    scene.expect_own_answers()


@pytest.mark.parametrize("answer", [b"+OK\r\n", b"*1\r\n+OK\r\n", b":2\r\n", b"$-1\r\n"])
async def test_an_answer_that_has_not_a_part_for_each_ends_the_connection(
    scene: Scene, answer: bytes
) -> None:
    tasks = [scene.beat() for _ in range(2)]
    await trio.testing.wait_all_tasks_blocked()
    scene.stream.bring(answer)
    await trio.testing.wait_all_tasks_blocked()
    assert scene.stream.closed
    for task in tasks:
        assert task.outcome is not None
        assert task.outcome.startswith(f"{LOST}: an answer to 2 heartbeats")


async def test_those_that_wait_to_be_sent_are_lost_with_the_connection(scene: Scene) -> None:
    tasks = [scene.beat() for _ in range(2)]
    scene.pipeline.lose(StoreUnavailableError("as it was to be"))
    tasks.append(scene.beat())
    await trio.testing.wait_all_tasks_blocked()
    assert [task.outcome for task in tasks] == [f"{LOST}: as it was to be"] * 3
    assert not scene.stream.arrived
