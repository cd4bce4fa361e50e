"""Starts the processes of a soak, breaks what can break, and compares at the end."""

import json
import random
import signal
import subprocess
import sys
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
import trio

from tests.faults.fleet import until
from tests.faults.lens import Lens, Snapshot
from tests.harness.processes import freeze, thaw
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer
from tests.soak.account import Report, judge, judge_reaping
from tests.soak.worker import DOWN, KEYS, RESPONSE_TIMEOUT, UP, lines_of

_ROOT = Path(__file__).parents[2]
#: Seconds a busy machine may need for what it does at once elsewhere.
_PATIENCE = 60.0
#: Seconds between two looks into the store.
_LOOK = 0.05


class Delays:
    """When somebody was served late, and by how much, as far back as it matters."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=1000)

    def add(self, now: float, late: float) -> None:
        """Somebody says that it was ``late``, in seconds."""
        self._seen.append((now, late))

    def since(self, start: float) -> float:
        """Return the seconds lost from ``start`` on."""
        return sum(min(late, now - start) for now, late in self._seen if now > start)


@dataclass(frozen=True)
class Remote:
    """Somebody else's server: it can be reached through a bad network, and not be killed."""

    host: str
    port: int
    password: str | None

    @classmethod
    def at(cls, url: str) -> "Remote":
        """Return the server that a redis:// URL names."""
        parts = urlsplit(url)
        password = None if parts.password is None else unquote(parts.password)
        return cls(parts.hostname or "localhost", parts.port or 6379, password)


class Member:
    """A worker process behind a network of its own."""

    def __init__(self, name: str, kind: str, instance: str, proxy: FaultProxy) -> None:
        self.name = name
        self.kind = kind
        self.instance = instance
        self.proxy = proxy
        self.process: trio.Process | None = None
        self.ready = trio.Event()
        self.over = trio.Event()  # its output has ended
        self.final: dict[str, tuple[int, list[int]]] | None = None
        self.views: dict[str, tuple[int, int]] | None = None
        self.changed = trio.Event()
        self.done = 0
        self.fenced = False
        self.doomed = False  # killed or replaced on purpose
        self.away = False  # suspended or cut off just now
        self.in_touch_since = 0.0
        self.sign: str | None = None  # of life, as the store has it
        self.sign_after = 0.0  # it was given after this
        self.delays = Delays()  # of its process
        self.ticked = 0.0  # when it last told of them

    def take(self, line: bytes, now: float) -> None:
        """Take in what the process says."""
        message: dict[str, Any] = json.loads(line)
        self.done = message.get("done", self.done)
        self.fenced = self.fenced or "fenced" in message
        if "ready" in message:
            self.in_touch_since = now
            self.ready.set()
        if "late" in message:
            self.delays.add(now, message["late"])
            self.ticked = now
            if message["late"] > 0.1:
                self.in_touch_since = now
        if "final" in message:
            self.final = message["final"]
        if "views" in message:
            self.views = message["views"]
        self.changed.set()
        self.changed = trio.Event()

    def in_touch(self, threshold: float) -> bool:
        """Whether it had every chance to beat for a good while."""
        if self.away or self.proxy.armed or not self.ready.is_set():
            self.in_touch_since = trio.current_time()
        return trio.current_time() - self.in_touch_since > 3 * threshold


class Soak:
    """One run.

    Args:
        server: a private server to do anything with, or somebody else's.
        seed: of everything random.
        processes: how many workers there are at a time.
        tasks: how many tasks count in each of them.
        threshold: their `dead_instance_threshold`.
        pause: seconds between two faults, on average.
    """

    def __init__(
        self,
        server: RedisServer | Remote,
        *,
        seed: int,
        processes: int,
        tasks: int,
        threshold: float,
        pause: float,
    ) -> None:
        self.report = Report(seed)
        self._server: Any = server
        self._random = random.Random(seed)
        self._processes = processes
        self._tasks = tasks
        self._threshold = threshold
        self._pause = pause
        self._prefix = f"soak{uuid.uuid4().hex[:8]}"
        self._lens = Lens(self._server, self._prefix)
        self._members: list[Member] = []
        self._gone: list[Member] = []
        self._troubled = 0.0  # when the server was last not itself
        self._is_troubled = False
        self._delays = Delays()  # of this process, in which the networks are, and of the server
        self._changes = trio.Lock()
        self._nursery: trio.Nursery
        link: dict[str, Callable[[Member], Awaitable[None]]] = {
            "request dropped": self._strike("drop_request"),
            "reply dropped": self._strike("drop_reply"),
            "reply cut": self._strike("cut_reply_midframe"),
            "duplicated": self._strike("duplicate"),
            "no answer": self._strike("hang_reply"),
            "late copy": self._late("late_copy"),
            "delayed": self._late("delay"),
            "reply delayed": self._late("delay_reply"),
            "connections cut": self._cut,
            "network refuses": self._separate(FaultProxy.refuse, FaultProxy.accept),
            "network stands": self._separate(FaultProxy.pause, FaultProxy.resume),
        }
        process = {
            "process killed": self._kill,
            "process suspended": self._suspend,
            "process replaced": self._replace,
        }
        self._member_faults = link | link | process
        # Processes are the point, so they get as much as all kinds of links together.
        self._choices = [*link, *(list(process) * 4)]
        self._server_faults: dict[str, Callable[[], Awaitable[None]]] = {
            "scripts forgotten": self._forget_scripts
        }
        if isinstance(server, RedisServer):
            self._server_faults |= {
                "clients killed": self._kill_clients,
                "server killed, file kept": self._restart,
                "server restarted empty": self._restart_empty,
                "all data flushed": self._flush_all,
                "server suspended": self._freeze,
            }

    async def run(self, seconds: float) -> Report:
        """Count and break things for ``seconds``, then heal all and compare."""
        async with trio.open_nursery() as self._nursery:
            async with trio.open_nursery() as nursery:
                for n in range(self._processes):
                    nursery.start_soon(self._start, f"{n}", "lax" if n % 2 else "strict")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                await self._break_things(seconds)
                nursery.cancel_scope.cancel()
            await self._compare()
            self._nursery.cancel_scope.cancel()
        return self.report

    # ----------------------------------------------------------------------- workers

    async def _start(self, name: str, kind: str, instance: str | None = None) -> Member:
        proxy = FaultProxy(self._server)
        await self._nursery.start(proxy.run)
        member = Member(name, kind, instance or str(uuid.uuid4()), proxy)
        for _ in range(30):  # it fails at once where the server is away; it is started again
            await self._nursery.start(self._host, member)
            with trio.move_on_after(_PATIENCE):
                while not (member.ready.is_set() or member.over.is_set()):
                    await member.changed.wait()
            if member.ready.is_set():
                break
            member.over = trio.Event()
        else:
            self.report.problems.append(f"worker {name} does not start")
        self._members.append(member)
        return member

    async def _host(
        self, member: Member, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        options = {
            "--url": member.proxy.url,
            "--prefix": self._prefix,
            "--kind": member.kind,
            "--instance-id": member.instance,
            "--threshold": self._threshold,
            "--tasks": self._tasks,
            "--seed": f"{self.report.seed}/{member.name}",
        }
        words = [f"{name}={value}" for name, value in options.items()]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.soak.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
        )
        member.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        task_status.started()
        errors = bytearray()

        async def collect(stream: trio.abc.ReceiveStream) -> None:
            async for chunk in stream:
                errors.extend(chunk)

        try:
            async with process.stdin, process.stdout, process.stderr, trio.open_nursery() as both:
                both.start_soon(collect, process.stderr)
                async for line in lines_of(process.stdout):
                    member.take(line, trio.current_time())
                code = await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
            member.over.set()
            member.changed.set()
            member.changed = trio.Event()
        if code and member.ready.is_set() and not member.doomed:
            text = errors.decode(errors="replace")
            self.report.problems.append(f"worker {member.name} ended with {code}: {text[-2000:]}")

    # ------------------------------------------------------------------------ faults

    async def _break_things(self, seconds: float) -> None:
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            while (now := trio.current_time()) < end:
                wait = min(end - now, self._random.uniform(0.5, 1.5) * self._pause)
                await trio.sleep(wait)
                if self._random.random() < 0.35:
                    name = self._random.choice(list(self._server_faults))
                    nursery.start_soon(self._server_fault, name)
                elif here := [m for m in self._members if not m.away]:
                    name = self._random.choice(self._choices)
                    member = self._random.choice(here)
                    nursery.start_soon(self._member_faults[name], member)
                else:
                    continue
                self.report.faults[name] += 1

    async def _server_fault(self, name: str) -> None:
        async with self._changes:
            self._is_troubled = True
            try:
                await self._server_faults[name]()
            finally:
                self._is_troubled = False
                self._troubled = trio.current_time()

    def _strike(self, fault: str) -> Callable[[Member], Awaitable[None]]:
        async def strike(member: Member) -> None:
            getattr(member.proxy, fault)(self._random.randint(1, 3))

        return strike

    def _late(self, fault: str) -> Callable[[Member], Awaitable[None]]:
        async def strike(member: Member) -> None:
            getattr(member.proxy, fault)(self._random.uniform(0.0, 1.0))

        return strike

    async def _cut(self, member: Member) -> None:
        member.in_touch_since = trio.current_time()
        for _ in range(self._random.randint(1, 5)):
            member.proxy.cut_all()
            await trio.sleep(0.02)

    def _separate(
        self, sever: Callable[[FaultProxy], None], mend: Callable[[FaultProxy], None]
    ) -> Callable[[Member], Awaitable[None]]:
        async def separate(member: Member) -> None:
            member.away = True
            sever(member.proxy)
            await self._stay_away()
            mend(member.proxy)
            member.away = False
            member.in_touch_since = trio.current_time()

        return separate

    async def _stay_away(self) -> None:
        factor = self._random.choice((0.3, 0.9, 1.5, 2.5))
        self.report.returned += factor > 1
        await trio.sleep(factor * self._threshold)

    async def _suspend(self, member: Member) -> None:
        assert member.process is not None
        member.away = True
        freeze(member.process.pid)
        await self._stay_away()
        thaw(member.process.pid)
        member.away = False
        member.in_touch_since = trio.current_time()

    async def _kill(self, member: Member) -> None:
        assert member.process is not None
        self._dismiss(member)
        member.process.send_signal(signal.SIGKILL)
        died = trio.current_time()
        await member.over.wait()
        self._nursery.start_soon(self._measure_detection, member, died)
        await self._start(f"{member.name}'", member.kind)

    async def _replace(self, member: Member) -> None:
        self._dismiss(member)
        await self._start(f"{member.name}*", member.kind, member.instance)
        with trio.move_on_after(_PATIENCE) as scope:
            await member.over.wait()
        if scope.cancelled_caught or not member.fenced:
            self.report.problems.append(f"worker {member.name} was replaced and not fenced")

    def _dismiss(self, member: Member) -> None:
        member.doomed = True
        self._members.remove(member)
        self._gone.append(member)

    async def _measure_detection(self, member: Member, died: float) -> None:
        while True:
            await trio.sleep(0.02)
            if self._is_troubled or self._troubled > died - self._threshold:
                return  # everybody gets a fresh threshold after that: nothing to measure
            if not self._lens.lives(member.instance) and not self._lens.holds(member.instance):
                took = trio.current_time() - died
                self.report.detection = max(self.report.detection, took)
                return

    async def _forget_scripts(self) -> None:
        await trio.to_thread.run_sync(self._ask, "SCRIPT", "FLUSH")

    def _ask(self, *words: str) -> None:
        server = self._server
        client = redis.Redis(host=server.host, port=server.port, password=server.password)
        try:
            client.execute_command(*words)
        finally:
            client.close()

    async def _kill_clients(self) -> None:
        await self._server.command_async("CLIENT", "KILL", "TYPE", "normal")

    async def _restart(self) -> None:
        self._server.kill()
        await trio.sleep(self._random.choice((0.0, 0.5, 2.0)) * self._threshold)
        await self._server.start_async()
        await until(lambda: not self._server.command("INFO", "persistence")["loading"], _PATIENCE)

    async def _restart_empty(self) -> None:
        self._server.kill()
        await trio.sleep(self._random.choice((0.0, 0.5, 2.0)) * self._threshold)
        await self._server.restart_async(empty=True)
        await self._measure_healing()

    async def _flush_all(self) -> None:
        await self._server.command_async("FLUSHALL")
        await self._measure_healing()

    async def _measure_healing(self) -> None:
        """Wait until everybody who could be back is."""
        lost = trio.current_time()
        missing: list[str] = []

        def healed() -> bool:
            nonlocal missing
            living = self._lens.look().living
            here = (m for m in self._members if m.in_touch_since < lost and not m.away)
            missing = [m.name for m in here if m.instance not in living]
            return not missing

        try:
            took = await until(healed, 5 * self._threshold)
        except AssertionError:
            self.report.problems.append(f"not healed in time: {missing}")
        else:
            self.report.healing = max(self.report.healing, took)

    async def _freeze(self) -> None:
        self._server.pause()
        await trio.sleep(self._random.choice((0.3, 1.2, 2.5)) * self._threshold)
        self._server.resume()

    # ------------------------------------------------------------------------ oracles

    async def _watch(self) -> None:
        """Look all the time for somebody who was reaped and should not have been."""
        looked = trio.current_time()
        while True:
            await trio.sleep(_LOOK)
            suspects = [m for m in self._members if m.in_touch(self._threshold)]
            if self._is_troubled or trio.current_time() - self._troubled < 2 * self._threshold:
                looked = trio.current_time()
                continue
            snapshot = self._lens.look()
            snapshot.check()
            now = trio.current_time()
            late = now - looked - _LOOK
            self._delays.add(now, late)
            for member in self._members:
                if late > 0.1 * self._threshold:
                    member.in_touch_since = now
                if member.sign != (sign := snapshot.signs.get(member.instance)):
                    member.sign, member.sign_after = sign, looked
            for member in suspects:
                if member.instance not in snapshot.living and member in self._members:
                    member.in_touch_since = now
                    self._nursery.start_soon(self._inquire, member, now, member.sign_after)
            looked = now

    async def _inquire(self, member: Member, found: float, sign_after: float) -> None:
        """Find out why somebody has been reaped who was last heard of after ``sign_after``."""
        silent = found - sign_after
        with trio.move_on_after(_PATIENCE):
            # Whoever was not served cannot say so before it is.
            while member.ticked < found and not (member.over.is_set() or member.doomed):
                await member.changed.wait()
        late = member.delays.since(sign_after) + self._delays.since(sign_after)
        verdict = judge_reaping(silent, late, self._threshold)
        if verdict == "starved":
            self.report.starved += 1
        else:
            self.report.reaped.append(f"{member.name} ({verdict})")

    async def _compare(self) -> None:
        for member in self._members:
            member.proxy.disarm()
        await self._tell("final")
        # Two heartbeats to say what was lost, one threshold for the dead to go, and some more.
        await trio.sleep(2.5 * self._threshold + 2 * RESPONSE_TIMEOUT)
        snapshot = await self._quiet()
        for member in self._members:
            self._judge(member, snapshot)
        await self._compare_views(snapshot)
        self.report.operations = sum(m.done for m in (*self._members, *self._gone))
        for member in self._members:
            assert member.process is not None
            assert member.process.stdin is not None
            await member.process.stdin.aclose()
        with trio.move_on_after(_PATIENCE):
            for member in self._members:
                await member.over.wait()
        left = self._lens.look()
        if left.sums or left.slices:
            self.report.problems.append(f"left behind: {left.sums}")

    async def _quiet(self) -> Snapshot:
        """Wait until just the living are in the store."""
        living = {member.instance for member in self._members}
        snapshot = self._lens.look()

        def quiet() -> bool:
            nonlocal snapshot
            snapshot = self._lens.look()
            return snapshot.living == living and set(snapshot.slices) <= living

        try:
            await until(quiet, _PATIENCE)
        except AssertionError:
            if snapshot.living != living:
                self.report.problems.append(f"living: {snapshot.living}, not {living}")
            for instance, slices in snapshot.slices.items():
                if instance not in living:
                    self.report.problems.append(f"left behind by {instance}: {slices}")
        snapshot.check()
        return snapshot

    async def _compare_views(self, snapshot: Snapshot) -> None:
        """Ask everybody what they see, again while it may change.

        It may if somebody is reaped for want of time and comes back; and a lax counter that is
        not served remembers what it has read before.
        """
        give_up = trio.current_time() + _PATIENCE
        while True:
            start = trio.current_time()
            await self._tell("views")
            still = (await self._quiet()).is_like(snapshot)
            still = still and trio.current_time() - start < 0.5 * self._threshold
            late = trio.current_time() > give_up
            wrong = [
                f"worker {member.name} sees {key} as {total}, {own}"
                for member in self._members
                if late or (still and member.kind == "strict")
                for key, (total, own) in (member.views or {}).items()
                if (total, own) != self._right_view(member, key, snapshot)
            ]
            self.report.problems += wrong
            if wrong or late or all(self._sees(member, snapshot) for member in self._members):
                return

    def _sees(self, member: Member, snapshot: Snapshot) -> bool:
        views = member.views or {}
        return all(tuple(views[key]) == self._right_view(member, key, snapshot) for key in views)

    def _right_view(self, member: Member, key: str, snapshot: Snapshot) -> tuple[int, int]:
        return snapshot.sums.get(key, 0), snapshot.of(member.instance).get(key, 0)

    async def _tell(self, answer: str) -> None:
        """Send everybody a line and wait for what they answer."""
        for member in self._members:
            setattr(member, answer, None)
            assert member.process is not None
            assert member.process.stdin is not None
            try:
                await member.process.stdin.send_all(b"\n")
            except trio.BrokenResourceError:
                continue
        for member in self._members:
            with trio.move_on_after(_PATIENCE):
                while getattr(member, answer) is None and not member.over.is_set():
                    await member.changed.wait()
            if getattr(member, answer) is None:
                self.report.problems.append(f"worker {member.name} has no {answer}")

    def _judge(self, member: Member, snapshot: Snapshot) -> None:
        slices = Counter(snapshot.of(member.instance))
        for key in (*UP, *DOWN):
            acknowledged, unknown = (member.final or {}).get(key, (0, []))
            lost, doubled = judge(slices[key], acknowledged, unknown)
            self.report.lost += lost
            self.report.doubled += doubled
            if lost or doubled:
                self.report.problems.append(
                    f"worker {member.name} ({member.kind}), {key}: {slices[key]} in the store, "
                    f"acknowledged {acknowledged}, unknown {unknown}"
                )
        assert set(slices) <= set(KEYS)


@asynccontextmanager
async def _server_for(url: str | None) -> AsyncIterator[RedisServer | Remote]:
    if url is not None:
        yield Remote.at(url)
        return
    with RedisServer(persistent=True) as server:
        yield server


async def soak(
    *,
    seconds: float,
    seed: int,
    processes: int = 8,
    tasks: int = 4,
    threshold: float = 1.5,
    pause: float = 1.0,
    url: str | None = None,
) -> Report:
    """Run a soak and return its report."""
    async with _server_for(url) as server:
        run = Soak(
            server,
            seed=seed,
            processes=processes,
            tasks=tasks,
            threshold=threshold,
            pause=pause,
        )
        return await run.run(seconds)
