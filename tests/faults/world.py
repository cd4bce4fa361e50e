"""A fleet of counters that a list of steps does things to, faults above all."""

import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Literal, TypeAlias

import redis
import trio
import trio.lowlevel

from distkit_actors import (
    Change,
    CounterClosedError,
    CounterValue,
    InstanceConflictError,
    LaxInstanceAwareCounter,
    LimitReachedError,
    OutcomeUnknownError,
    StoreError,
)
from tests.faults.amounts import condition_of, count_of, in_memory, limit_of, unsigned
from tests.faults.fleet import OPEN, PATIENCE, Counter, Kind, until
from tests.faults.lens import Lens, Snapshot
from tests.faults.record import Effect, Life, Operation, Outcome, Record
from tests.harness.proxy import FaultProxy
from tests.harness.server import RedisServer

THRESHOLD = 0.6
HEARTBEAT = THRESHOLD / 3
RESPONSE_TIMEOUT = 0.25
#: Nobody who was served as seldom as this, in seconds, is blamed for being late.
STALL = HEARTBEAT / 4
#: Names of keys whose counts are negative begin with a minus sign. Where something is held,
#: nobody replaces a slice: the end of a hold would then be taken from what was not in it.
KEYS = ("plain", "-plain", "moved", "-moved", "held", "-held moved")
KINDS: tuple[Kind, ...] = ("strict", "strict", "lax")

Where: TypeAlias = Literal[
    "drop_request",
    "drop_reply",
    "duplicate",
    "late_copy",
    "cut_reply_midframe",
    "hang_reply",
    "cut_all",
    "delay",
    "refuse",
    "pause",
    "mend",
]
Trouble: TypeAlias = Literal[
    "flush all", "restart empty", "restart", "forget scripts", "cut clients", "freeze"
]
Step: TypeAlias = (
    tuple[Literal["do"], int, Effect, str]
    | tuple[Literal["read"], int, str]
    | tuple[Literal["leave"], int]
    | tuple[Literal["flush"], int]
    | tuple[Literal["cancel"], int]
    | tuple[Literal["link"], int, Where]
    | tuple[Literal["server"], Trouble]
    | tuple[Literal["kill"], int]
    | tuple[Literal["take over"], int, bool]
    | tuple[Literal["wait"], float]
    | tuple[Literal["verify"]]
)


class Seat:
    """A place in the fleet: a counter behind a proxy, which may be replaced."""

    def __init__(self, kind: Kind, proxy: FaultProxy, life: Life) -> None:
        self.kind = kind
        self.proxy = proxy
        self.life = life
        self.counter: Counter | None = None
        self.ended = trio.Event()
        self.stop = trio.Event()
        self.operations: dict[Operation, trio.CancelScope] = {}
        self.uncounted: list[Operation] = []  # lax, not known to be in the store yet
        self.blocks: dict[Operation, AbstractAsyncContextManager[CounterValue]] = {}  # inside
        self.out_of_touch = 0.0  # when it was last known to be
        self.is_cut = False
        self.yields = False  # somebody takes its id, or has taken it


class World:
    """Runs steps and checks what comes of them.

    Args:
        server: emptied at the start; killed and frozen on the way.
        prefix: of the counters.
        nursery: for everything that runs.
    """

    def __init__(self, server: RedisServer, prefix: str, nursery: trio.Nursery) -> None:
        self.record = Record()
        self.lens = Lens(server, prefix)
        self._server = server
        self._prefix = prefix
        self._nursery = nursery
        self._seats: list[Seat] = []
        self._all: list[Seat] = []
        self._numbers = itertools.count(1)
        self._busy_server = False  # it must not be asked now
        self._last_loss = 0.0
        self._deaths = 0
        self._vigil = trio.CancelScope()

    # ------------------------------------------------------------------------- steps

    async def start(self) -> None:
        """Open the fleet."""
        for kind in KINDS:
            self._seats.append(await self._join(kind, None, inherit=False))
        self._nursery.start_soon(self._watch_the_living)

    async def run(self, step: Step) -> None:
        """Do one step."""
        match step:
            case "do", who, effect, key:
                seat = self._seats[who]
                self._do(seat, effect, key)
                await trio.lowlevel.checkpoint()
                with trio.move_on_after(0.03 if effect == "hold" else 0):  # so that it can be left
                    await until(lambda: not seat.operations, 1)
            case "read", who, key:
                await self._read(self._seats[who], key)
            case "leave", who:
                for seat in (*self._seats[who:], *self._seats[:who]):
                    if seat.blocks:
                        await self._leave(seat)
                        break
                await trio.lowlevel.checkpoint()
            case "flush", who:
                await self._flush(self._seats[who], 0.1)
            case "cancel", who:
                for scope in list(self._seats[who].operations.values())[:1]:
                    scope.cancel()
                await trio.lowlevel.checkpoint()
            case "link", who, where:
                self._link(self._seats[who], where)
            case "server", trouble:
                await self._trouble(trouble)
            case "kill", who:
                await self._kill(who)
            case "take over", who, inherit:
                await self._take_over(who, inherit=inherit)
            case "wait", seconds:
                await trio.sleep(seconds)
            case ("verify",):
                await self.verify()

    async def verify(self) -> None:
        """Heal everything, wait for quiet and check every view of every key."""
        for seat in self._all:
            if not seat.ended.is_set():
                self._link(seat, "mend")
        await until(lambda: not any(seat.operations for seat in self._seats), PATIENCE)
        for seat in self._seats:
            await self._flush(seat, PATIENCE)
            assert not seat.uncounted
        # One heartbeat to notice a loss, one more if a clear was lost, and one to spare.
        for _ in range(3):
            await self._beat()
        snapshot = await self._quiet()
        snapshot.check()
        self.record.settle_exits(trio.current_time())
        self.record.check_twins({key: unsigned(key, snapshot.sums.get(key, 0)) for key in KEYS})
        for key in KEYS:
            self.record.check(key, unsigned(key, snapshot.sums.get(key, 0)))
            for seat in self._seats:
                await self._check_view(seat, key, snapshot)

    async def _beat(self) -> None:
        """Wait until everybody has had an answer to a heartbeat that was sent from now on."""
        now = trio.current_time()
        await until(lambda: all(self._last_beat(seat) > now for seat in self._seats), PATIENCE)
        await until(lambda: all(map(self._connected, self._seats)), PATIENCE)

    async def _quiet(self) -> Snapshot:
        """Wait until the living are in the store, and nobody else is."""
        living = {self._id(seat) for seat in self._seats}
        others = {self._id(seat) for seat in self._all} - living
        snapshot = self.lens.look()

        def quiet() -> bool:
            nonlocal snapshot
            if any(map(self.lens.holds, others)):
                return False
            snapshot = self.lens.look()
            return snapshot.living == living and set(snapshot.slices) <= living

        try:
            await until(quiet, PATIENCE)
        except AssertionError:
            assert snapshot.living == living
            assert not set(snapshot.slices) - living
            raise
        return snapshot

    async def _check_view(self, seat: Seat, key: str, snapshot: Snapshot) -> None:
        """Check what somebody reads, provided that the store stands still all the while."""
        assert seat.counter is not None
        own = snapshot.slices.get(self._id(seat), {}).get(key, 0)
        wanted = (snapshot.sums.get(key, 0), own)
        took = 0.0
        while True:
            start = trio.current_time()
            value = await seat.counter.get(key)
            if value == wanted:
                return
            # A strict one has been told by the store, a lax one may remember.
            late = trio.current_time() - start > STALL  # somebody may have been reaped and be back
            still = (await self._quiet()).is_like(snapshot) and not late
            assert not (seat.kind == "strict" and still), f"{key}: {value}, not {wanted}"
            assert took < PATIENCE, f"{key}: {value}, not {wanted}"
            await trio.sleep(0.025)
            took += 0.025

    async def stop(self) -> None:
        """End all counters in good order; nothing may be left of them."""
        self._vigil.cancel()
        for seat in self._all:
            seat.stop.set()
        for seat in self._all:
            with trio.fail_after(PATIENCE):
                await seat.ended.wait()
        snapshot = self.lens.look()
        snapshot.check()
        assert not snapshot.sums

    # -------------------------------------------------------------------- operations

    def _do(self, seat: Seat, effect: Effect, key: str) -> None:
        now = trio.current_time()
        if effect == "inc_all":
            keys = (key, KEYS[KEYS.index(key) - 1])
            operations = self.record.begin_twins(seat.life, keys, effect, now)
        else:
            operation = self.record.begin(seat.life, key, effect, now)
            operations = operation and (operation,)
        if not operations:
            return
        counter = seat.counter
        assert counter is not None
        operation = operations[0]
        count = count_of(operation)
        if isinstance(counter, LaxInstanceAwareCounter) and effect == "inc":
            try:
                counter.inc_nowait(key, count)
            except (InstanceConflictError, CounterClosedError):
                operation.outcome = "refused"
            else:
                operation.outcome = "done"
                operation.counted = now
                seat.uncounted.append(operation)
            return
        call: dict[Effect, Callable[[], Awaitable[object]]] = {
            "inc": lambda: counter.inc(key, count),
            "inc_if": lambda: counter.inc_if(key, condition_of(operation), count),
            "inc_all": lambda: counter.inc_all({each.key: count_of(each) for each in operations}),
            "hold": lambda: self._enter(seat, operation),
            "set": lambda: counter.set(key, count),
            "delete": lambda: counter.delete(key),
            "set_on_instance": lambda: counter.set_on_instance(key, count),
            "delete_on_instance": lambda: counter.delete_on_instance(key),
            "clear": counter.clear,
        }
        scope = trio.CancelScope()
        seat.operations.update(dict.fromkeys(operations, scope))
        self._nursery.start_soon(self._await, seat, operations, call[effect], scope)

    async def _await(
        self,
        seat: Seat,
        operations: Sequence[Operation],
        call: Callable[[], Awaitable[object]],
        scope: trio.CancelScope,
    ) -> None:
        outcome: Outcome = "unknown"
        try:
            with scope:
                result = await call()
                outcome = "done"
                if operations[0].effect == "inc_if":
                    outcome = self._decided(seat, operations[0], result)
        except (OutcomeUnknownError, InstanceConflictError, CounterClosedError):
            pass
        except LimitReachedError:
            outcome = "refused"
        finally:
            for operation in operations:
                self._over(seat, operation, outcome)

    def _over(self, seat: Seat, operation: Operation, outcome: Outcome) -> None:
        del seat.operations[operation]
        operation.outcome = outcome
        now = trio.current_time()
        if outcome == "done" and seat.kind == "lax" and in_memory(operation):
            operation.counted = now
            seat.uncounted.append(operation)
        elif outcome == "done":
            operation.end = now
        elif outcome == "unknown" and operation.effect == "hold":
            self.record.end(operation, now)  # should it have been entered

    async def _enter(self, seat: Seat, operation: Operation) -> None:
        assert seat.counter is not None
        limit = limit_of(operation)
        block = seat.counter.hold(operation.key, count_of(operation), limit)
        value = await block.__aenter__()
        seat.blocks[operation] = block
        assert limit is None or value.cumulative <= limit
        if seat.kind == "strict" or limit is not None:
            self._seen(seat, operation.key, value, operation.start)

    async def _leave(self, seat: Seat) -> None:
        operation = next(iter(seat.blocks))
        self.record.end(operation, trio.current_time())
        await seat.blocks.pop(operation).__aexit__(None, None, None)

    def _decided(self, seat: Seat, operation: Operation, result: object) -> Outcome:
        assert isinstance(result, Change)
        total, own = result.previous
        assert result.applied == condition_of(operation).holds(total)
        added = count_of(operation) if result.applied else 0
        assert result.current == (total + added, own + added)
        self._seen(seat, operation.key, result.previous, operation.start)
        return "done" if result.applied else "refused"

    def _seen(self, seat: Seat, key: str, value: CounterValue, asked: float) -> None:
        """Somebody has been told a value by the store."""
        for part in value:
            total = unsigned(key, part)
            self.record.check(key, total, before=asked, reader=seat.life, quiet=False)

    async def _read(self, seat: Seat, key: str) -> None:
        start = trio.current_time()
        assert seat.counter is not None
        with trio.move_on_after(0.1), suppress(InstanceConflictError):
            value = await seat.counter.get(key)
            if seat.kind == "strict":
                self._seen(seat, key, value, start)

    async def _flush(self, seat: Seat, patience: float) -> None:
        counter = seat.counter
        if not isinstance(counter, LaxInstanceAwareCounter):
            return
        counted = list(seat.uncounted)
        with trio.move_on_after(patience), suppress(InstanceConflictError):
            await counter.flush()
            for operation in counted:
                operation.end = trio.current_time()
                seat.uncounted.remove(operation)

    # ------------------------------------------------------------------------ faults

    def _link(self, seat: Seat, where: Where) -> None:
        proxy = seat.proxy
        seat.out_of_touch = trio.current_time()
        if where == "mend":
            seat.is_cut = False
            proxy.disarm()
            proxy.resume()
            proxy.accept()
        elif where in {"refuse", "pause", "cut_all"}:
            seat.is_cut = seat.is_cut or where != "cut_all"
            getattr(proxy, where)()
        elif where in {"late_copy", "delay"}:
            getattr(proxy, where)(0.05)
        else:
            getattr(proxy, where)()

    async def _trouble(self, trouble: Trouble) -> None:
        self._busy_server = True
        if trouble in {"flush all", "restart empty"}:
            self._lose()
        match trouble:
            case "flush all":
                await self._server.command_async("FLUSHALL")
            case "restart empty":
                await self._server.restart_async(empty=True)
            case "restart":
                await self._server.restart_async(empty=False)
                await until(lambda: not self._server.command("INFO", "persistence")["loading"], 5)
            case "forget scripts":
                await self._server.command_async("SCRIPT", "FLUSH")
            case "cut clients":
                await self._server.command_async("CLIENT", "KILL", "TYPE", "normal")
            case "freeze":
                self._server.pause()
                await trio.sleep(1.2 * THRESHOLD)
                self._server.resume()
        if trouble in {"flush all", "restart empty"}:
            self._lose()
        self._busy_server = False

    def _lose(self) -> None:
        # Both ends of the time in which it happens.
        self._last_loss = trio.current_time()
        self.record.losses.append(self._last_loss)

    async def _kill(self, who: int) -> None:
        seat = self._seats[who]
        self._bury(seat)
        # Its predecessors, too: should the store have lost the fence, one could come back.
        for each in [s for s in self._all if self._id(s) == self._id(seat)]:
            each.proxy.refuse()
            each.stop.set()
            await each.ended.wait()
        self._seats[who] = await self._join(seat.kind, None, inherit=False)

    async def _take_over(self, who: int, *, inherit: bool) -> None:
        seat = self._seats[who]
        assert seat.counter is not None
        seat.yields = True
        newer = await self._join(seat.kind, seat.counter.instance_id, inherit=inherit)
        if inherit:
            seat.life.heir = newer.life
        self._bury(seat)
        self._seats[who] = newer

    def _bury(self, seat: Seat) -> None:
        seat.life.alive = seat.life.running = False
        for scope in seat.operations.values():
            scope.cancel()

    # --------------------------------------------------------------------- machinery

    async def _join(self, kind: Kind, instance_id: str | None, *, inherit: bool) -> Seat:
        proxy = FaultProxy(self._server)
        await self._nursery.start(proxy.run)
        seat = Seat(kind, proxy, Life(f"{kind} {next(self._numbers)}", kind == "lax"))
        seat.out_of_touch = trio.current_time()
        await self._nursery.start(self._host, seat, instance_id, inherit)
        self._all.append(seat)
        return seat

    async def _host(
        self,
        seat: Seat,
        instance_id: str | None,
        inherit: bool,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            async with OPEN[seat.kind](
                seat.proxy.url,
                self._prefix,
                instance_id=instance_id,
                inherit=inherit,
                threshold=THRESHOLD,
                response_timeout=RESPONSE_TIMEOUT,
                exit_grace=5.0,
            ) as counter:
                seat.counter = counter
                task_status.started()
                await seat.stop.wait()
                if not seat.life.alive:
                    counter._actor._exit_grace = 0.0  # a process that is killed has none
        except InstanceConflictError:
            assert seat.yields
        except StoreError:
            if seat.life.alive:
                raise
        finally:
            seat.ended.set()

    async def _watch_the_living(self) -> None:
        """Look all the time whether somebody was reaped who was in touch."""
        with self._vigil:
            stalled = looked = trio.current_time()
            while True:
                await trio.sleep(HEARTBEAT / 3)
                if self._busy_server or not self._server.is_running:
                    looked = trio.current_time()
                    continue
                try:
                    states = self.lens.look().states
                except redis.RedisError:
                    continue
                now = trio.current_time()
                if now - looked > HEARTBEAT / 3 + STALL:
                    stalled = now  # this very process or the server was not served
                looked = now
                for seat in self._seats:
                    if seat.is_cut or seat.proxy.armed:
                        seat.out_of_touch = now
                    touch = max(seat.out_of_touch, self._last_loss, stalled)
                    if now - touch > 4 * THRESHOLD:
                        assert states.get(self._id(seat)) == "live", f"{seat.life.name} was reaped"

    def _id(self, seat: Seat) -> str:
        assert seat.counter is not None
        return seat.counter.instance_id

    def _connected(self, seat: Seat) -> bool:
        assert seat.counter is not None
        return seat.counter.statistics().connected

    def _last_beat(self, seat: Seat) -> float:
        assert seat.counter is not None
        age = seat.counter.statistics().last_heartbeat_age
        return -math.inf if age is None else trio.current_time() - age


@asynccontextmanager
async def world(server: RedisServer, prefix: str) -> AsyncIterator[World]:
    """Run a fleet on an emptied server."""
    await server.command_async("FLUSHALL")
    async with trio.open_nursery() as nursery:
        fleet = World(server, prefix, nursery)
        await fleet.start()
        yield fleet
        nursery.cancel_scope.cancel()


async def live_through(server: RedisServer, prefix: str, steps: list[Step]) -> None:
    """Do ``steps``, verify, and end."""
    async with world(server, prefix) as fleet:
        try:
            for step in steps:
                await fleet.run(step)
            await fleet.verify()
            await fleet.stop()
        except AssertionError as error:
            error.add_note("\n".join(map(repr, fleet.record.operations)))
            error.add_note(f"data lost at {fleet.record.losses}")
            raise
