"""One process of a soak: some tasks count until the first line on standard input.

Standard output gets a JSON object per line: ``ready``, from time to time ``done`` (how many
operations were acknowledged) with ``late`` (for how many seconds this process was not served) and
``waited`` (how many a task has waited at most while it was), ``fenced``; after the first line of
input ``final`` (what was counted: per key the sum of what was acknowledged, and what nobody knows
of), after each further one ``views``. The end of the input is the end.
"""

import argparse
import json
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from functools import partial
from typing import TypeAlias

import trio

from distkit_actors import (
    InstanceConflictError,
    LaxInstanceAwareCounter,
    OutcomeUnknownError,
    RedisStore,
    StrictInstanceAwareCounter,
)

AnyCounter: TypeAlias = StrictInstanceAwareCounter | LaxInstanceAwareCounter

#: Counts of one sign each, which can be judged; and keys whose epoch moves.
UP = tuple(f"up{n}" for n in range(6))
DOWN = tuple(f"down{n}" for n in range(3))
MOVED = ("moved0", "moved1")
KEYS = UP + DOWN + MOVED

RESPONSE_TIMEOUT = 0.5  # seconds


class Worker:
    """Counts with some tasks, and remembers what it was told."""

    def __init__(self, counter: AnyCounter, output: trio.abc.SendStream, seed: str) -> None:
        self._counter = counter
        self._output = output
        self._lock = trio.Lock()
        self._random = random.Random(seed)
        self._stopping = False
        self.done = 0
        self._late = 0.0  # for how long it was not, in all
        self._waits: list[tuple[float, float]] = []  # how long, and `_late` before
        self.acknowledged: Counter[str] = Counter()
        self.unknown: defaultdict[str, list[int]] = defaultdict(list)

    async def say(self, **message: object) -> None:
        """Write a line."""
        async with self._lock:
            await self._output.send_all(json.dumps(message).encode() + b"\n")

    async def work(self, tasks: int, stop: trio.Event) -> None:
        """Count until ``stop``, and finish what was begun."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            async with trio.open_nursery() as workers:
                for _ in range(tasks):
                    workers.start_soon(self._task)
                await stop.wait()
                self._stopping = True
            nursery.cancel_scope.cancel()
        if isinstance(self._counter, LaxInstanceAwareCounter):
            await self._counter.flush()

    async def _watch(self) -> None:
        while True:
            due = trio.current_time() + 0.1
            await trio.sleep_until(due)
            late = trio.current_time() - due
            self._late += late
            waits = [wait - (self._late - late_before) for wait, late_before in self._waits]
            self._waits.clear()
            await self.say(done=self.done, late=late, waited=max(waits, default=0.0))

    async def _task(self) -> None:
        while not self._stopping:
            begun_at, late = trio.current_time(), self._late
            await self._operate()
            self._waits.append((trio.current_time() - begun_at, late))
            await trio.sleep(self._random.expovariate(1 / 0.008))

    async def _operate(self) -> None:
        roll = self._random.random()
        if roll < 0.02:
            await self._move(self._random.choice(MOVED))
            return
        if roll < 0.06:
            await self._counter.get(self._random.choice(KEYS))
            return
        key = self._random.choice(KEYS)
        count = self._random.randint(1, 1000) * (-1 if key in DOWN else 1)
        if isinstance(self._counter, LaxInstanceAwareCounter):
            self._counter.inc_nowait(key, count)
            self.acknowledged[key] += count
            self.done += 1
            return
        patience = self._random.choice((0.001, 0.005)) if roll > 0.99 else float("inf")
        told = False
        try:
            with trio.move_on_after(patience):
                await self._counter.inc(key, count)
                told = True
        except OutcomeUnknownError:
            pass
        if told:
            self.acknowledged[key] += count
            self.done += 1
        else:
            self.unknown[key].append(count)

    async def _move(self, key: str) -> None:
        try:
            if self._random.random() < 0.5:
                await self._counter.set(key, self._random.randint(-1000, 1000))
            else:
                await self._counter.delete(key)
        except OutcomeUnknownError:
            return
        self.done += 1


async def lines_of(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    """Yield line by line what comes."""
    buffer = bytearray()
    async for chunk in stream:
        buffer += chunk
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            yield bytes(line)


async def main(argv: list[str]) -> int:
    """Work as told on the command line and on standard input; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.worker")
    parser.add_argument("--url", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--kind", choices=["strict", "lax"], required=True)
    parser.add_argument("--instance-id", required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--seed", required=True)
    options = parser.parse_args(argv)
    opened = StrictInstanceAwareCounter if options.kind == "strict" else LaxInstanceAwareCounter
    output = trio.lowlevel.FdStream(os.dup(1))
    commands = lines_of(trio.lowlevel.FdStream(os.dup(0)))
    fenced = False
    async with output:
        try:
            async with opened.open(
                options.prefix,
                RedisStore(options.url, response_timeout=RESPONSE_TIMEOUT),
                instance_id=options.instance_id,
                dead_instance_threshold=options.threshold,
                exit_grace=30.0,
            ) as counter:
                worker = Worker(counter, output, options.seed)
                await worker.say(ready=counter.instance_id)
                stop = trio.Event()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker.work, options.tasks, stop)
                    await anext(commands, None)
                    stop.set()
                await worker.say(
                    final={key: (worker.acknowledged[key], worker.unknown[key]) for key in KEYS},
                    done=worker.done,
                )
                async for _ in commands:
                    await worker.say(views={key: await counter.get(key) for key in KEYS})
        except* InstanceConflictError:
            fenced = True
        if fenced:
            await output.send_all(b'{"fenced": true}\n')
    return 0


if __name__ == "__main__":
    sys.exit(trio.run(partial(main, sys.argv[1:])))
