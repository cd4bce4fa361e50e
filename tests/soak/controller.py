"""Starts the processes of a soak, breaks what can break, and compares at the end."""

import json
import random
import signal
import subprocess
import sys
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from tests.faults.fleet import until
from tests.faults.lens import Lens, Snapshot
from tests.harness.processes import freeze, thaw
from tests.soak.account import Report, judge, judge_detection, judge_reaping
from tests.soak.networks import Network
from tests.soak.topologies import PATIENCE, Topology, open_topology
from tests.soak.worker import DOWN, KEYS, RESPONSE_TIMEOUT, UP, lines_of

_ROOT = Path(__file__).parents[2]
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


class Member:
    """A worker process behind a network of its own."""

    def __init__(self, name: str, kind: str, instance: str, network: Network) -> None:
        self.name = name
        self.kind = kind
        self.instance = instance
        self.network = network
        self.process: trio.Process | None = None
        self.ready = trio.Event()
        self.over = trio.Event()  # its output has ended
        self.final: dict[str, tuple[int, list[int]]] | None = None
        self.views: dict[str, tuple[int, int]] | None = None
        self.changed = trio.Event()
        self.done = 0
        self.mended = 0.0  # when it was suspended or cut off last
        self.longest = {True: 0.0, False: 0.0}  # waits in seconds: because of that, or not
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
        if "waited" in message:
            own = self.away or self.mended > now - message["waited"] - 1.0
            self.longest[own] = max(self.longest[own], message["waited"])
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
        if self.away or self.network.armed or not self.ready.is_set():
            self.in_touch_since = trio.current_time()
        return trio.current_time() - self.in_touch_since > 3 * threshold


class Soak:
    """One run.

    Args:
        topology: the servers.
        prefix: the namespace.
        seed: of everything random.
        processes: how many workers there are at a time.
        tasks: how many tasks count in each of them.
        threshold: their `dead_instance_threshold`.
        pause: seconds between two faults, on average.
    """

    def __init__(
        self,
        topology: Topology,
        prefix: str,
        *,
        seed: int,
        processes: int,
        tasks: int,
        threshold: float,
        pause: float,
    ) -> None:
        self.report = Report(seed)
        self._topology = topology
        self._random = random.Random(seed)
        self._processes = processes
        self._tasks = tasks
        self._threshold = threshold
        self._pause = pause
        self._prefix = prefix
        self._lens: Lens
        self._members: list[Member] = []
        self._gone: list[Member] = []
        self._troubled = 0.0  # when the server was last not itself
        self._is_troubled = False
        self._ends_of_trouble: list[float] = []
        self._delays = Delays()  # of this process, in which the networks are, and of the server
        self._nursery: trio.Nursery
        link: dict[str, Callable[[Member], Awaitable[None]]] = {
            "request dropped": self._strike("drop_request"),
            "reply dropped": self._strike("drop_reply"),
            "reply cut": self._strike("cut_reply_midframe"),
            "duplicated": self._strike("duplicate"),
            "reply repeated": self._strike("reply_twice"),
            "no answer": self._strike("hang_reply"),
            "late copy": self._late("late_copy"),
            "delayed": self._late("delay"),
            "reply delayed": self._late("delay_reply"),
            "connections cut": self._cut,
            "network refuses": self._separate(Network.refuse),
            "network stands": self._separate(Network.stand),
        }
        process = {
            "process killed": self._kill,
            "process suspended": self._suspend,
            "process replaced": self._replace,
        }
        self._member_faults = link | link | process
        # Processes are the point, so they get as much as all kinds of links together.
        self._choices = [*link, *(list(process) * 4)]
        self._server_faults = topology.faults

    async def run(self, seconds: float) -> Report:
        """Count and break things for ``seconds``, then heal all and compare."""
        await self._find_server()
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
        instance = instance or str(uuid.uuid4())
        member = Member(name, kind, instance, await self._topology.network(instance))
        for _ in range(30):  # it fails at once where the server is away; it is started again
            await self._nursery.start(self._host, member)
            with trio.move_on_after(PATIENCE):
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
            "--url": member.network.url,
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
        if member.ready.is_set() and not (member.doomed or member.views is not None):
            text = errors.decode(errors="replace")
            fenced = ", as another has its id" if member.fenced else ""
            self.report.problems.append(
                f"worker {member.name} ended with {code}{fenced}: {text[-2000:]}"
            )

    # ------------------------------------------------------------------------ faults

    async def _break_things(self, seconds: float) -> None:
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            while (now := trio.current_time()) < end:
                wait = min(end - now, self._random.uniform(0.5, 1.5) * self._pause)
                await trio.sleep(wait)
                # One trouble with the servers at a time: on a slow machine they would queue up.
                if self._random.random() < 0.35 and not self._is_troubled:
                    name = self._random.choice(list(self._server_faults))
                    self._is_troubled = True
                    nursery.start_soon(self._server_fault, name)
                elif here := [m for m in self._members if not m.away]:
                    name = self._random.choice(self._choices)
                    member = self._random.choice(here)
                    nursery.start_soon(self._member_faults[name], member)
                else:
                    continue
                self.report.faults[name] += 1

    async def _server_fault(self, name: str) -> None:
        begun_at = trio.current_time()
        try:
            lost = await self._server_faults[name]()
            took = trio.current_time() - begun_at
            self.report.troubles[name] = max(self.report.troubles.get(name, 0.0), took)
            await self._find_server()
            if lost:
                await self._measure_healing()
        finally:
            self._is_troubled = False
            self._troubled = trio.current_time()
            self._ends_of_trouble.append(self._troubled)

    async def _find_server(self) -> None:
        """Look at the server that has the namespace now."""
        self._lens = Lens(await trio.to_thread.run_sync(self._topology.primary), self._prefix)

    def _strike(self, fault: str) -> Callable[[Member], Awaitable[None]]:
        async def strike(member: Member) -> None:
            member.network.strike(fault, self._random.randint(1, 3))

        return strike

    def _late(self, fault: str) -> Callable[[Member], Awaitable[None]]:
        async def strike(member: Member) -> None:
            member.network.strike(fault, seconds=self._random.uniform(0.0, 1.0))

        return strike

    async def _cut(self, member: Member) -> None:
        member.in_touch_since = trio.current_time()
        for _ in range(self._random.randint(1, 5)):
            member.network.cut()
            await trio.sleep(0.02)

    def _separate(self, sever: Callable[[Network], None]) -> Callable[[Member], Awaitable[None]]:
        async def separate(member: Member) -> None:
            member.away = True
            sever(member.network)
            await self._stay_away()
            member.network.mend()
            member.away = False
            member.mended = member.in_touch_since = trio.current_time()

        return separate

    async def _stay_away(self) -> None:
        factor = self._random.choice((0.3, 0.9, 1.5, 2.5))
        self.report.returned += factor > 1
        await trio.sleep(factor * self._threshold)

    async def _suspend(self, member: Member) -> None:
        assert member.process is not None
        member.away = True
        try:
            freeze(member.process.pid)
        except ProcessLookupError:
            return  # it has ended by itself, which is a problem that is noted
        await self._stay_away()
        thaw(member.process.pid)
        member.away = False
        member.mended = member.in_touch_since = trio.current_time()

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
        with trio.move_on_after(PATIENCE) as scope:
            await member.over.wait()
        if scope.cancelled_caught or not member.fenced:
            self.report.problems.append(f"worker {member.name} was replaced and not fenced")

    def _dismiss(self, member: Member) -> None:
        member.doomed = True
        self._members.remove(member)
        self._gone.append(member)

    async def _measure_detection(self, member: Member, died: float) -> None:
        """Wait until nothing of a dead member counts, and see that it is soon enough."""
        took, looked = 0.0, died
        while True:
            await trio.sleep(0.02)
            now = trio.current_time()
            if self._is_troubled or looked < self._troubled:
                looked = now
                continue
            took += now - looked
            looked = now
            if not self._lens.lives(member.instance) and not self._lens.holds(member.instance):
                break
        troubles = sum(end > died - self._threshold for end in self._ends_of_trouble)
        others = [m.delays.since(died) for m in self._members]
        late = max(self._delays.since(died), min(others, default=0.0))
        self.report.deaths += 1
        if not troubles:
            self.report.detection = max(self.report.detection, took)
        if not judge_detection(took, late, self._threshold, troubles):
            self.report.overdue.append(f"{member.name} ({took:.2f} s, {troubles} troubles)")

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
        with trio.move_on_after(PATIENCE):
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
            member.network.disarm()
        await self._tell("final")
        # Two heartbeats to say what was lost, one threshold for the dead to go, and some more.
        await trio.sleep(2.5 * self._threshold + 2 * RESPONSE_TIMEOUT)
        snapshot = await self._quiet()
        for member in self._members:
            self._judge(member, snapshot)
        await self._compare_views(snapshot)
        everybody = (*self._members, *self._gone)
        self.report.operations = sum(m.done for m in everybody)
        self.report.longest_cut_off = max(m.longest[True] for m in everybody)
        self.report.longest = max(m.longest[False] for m in everybody)
        for member in self._members:
            assert member.process is not None
            assert member.process.stdin is not None
            await member.process.stdin.aclose()
        with trio.move_on_after(PATIENCE):
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
            await until(quiet, PATIENCE)
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
        give_up = trio.current_time() + PATIENCE
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
            with trio.move_on_after(PATIENCE):
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


async def soak(
    *,
    seconds: float,
    seed: int,
    processes: int = 8,
    tasks: int = 4,
    threshold: float = 1.5,
    pause: float = 1.0,
    topology: str = "single",
    url: str | None = None,
) -> Report:
    """Run a soak and return its report; see `Soak` and `open_topology`."""
    prefix = f"soak{uuid.uuid4().hex[:8]}"
    async with open_topology(
        topology, chance=random.Random(seed), threshold=threshold, prefix=prefix, url=url
    ) as servers:
        run = Soak(
            servers,
            prefix,
            seed=seed,
            processes=processes,
            tasks=tasks,
            threshold=threshold,
            pause=pause,
        )
        return await run.run(seconds)
