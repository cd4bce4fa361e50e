"""A process that hosts one counter and obeys JSON commands, one per line.

Commands come on standard input, for example

    {"id": 1, "op": "inc", "key": "k", "count": 3}

and answers go to standard output, in the order in which commands finish:

    {"id": 1, "ok": [8, 3]}
    {"id": 2, "error": "WouldBlock", "message": ""}

Commands run concurrently; who wants an order awaits each answer. The first
line, `{"ready": instance_id}`, says that the counter is open, and
`{"acked": n}` lines count the successful increments of `spin` so far.
While `borrow` runs, `{"use": [number, "+", time]}` says that a token has been
acquired, and `{"use": [number, "-", time]}` that it is about to be released, on
a clock that all processes of the machine share.
`enter` enters the block of a hold and answers with its value; the block lasts
until `leave` is told the same key.
`follow` begins to watch a key, and `hear` answers as soon as its cumulative is
told to be what it is asked for.
`package` answers with the folder that `distkit_actors` was imported from.

SIGTERM and the end of standard input close the counter in good order.
"""

import argparse
import dataclasses
import inspect
import json
import os
import signal
import sys
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import trio

import distkit_actors
from distkit_actors import (
    CounterValue,
    FleetLimiter,
    LaxInstanceAwareCounter,
    StrictInstanceAwareCounter,
)

Counter = StrictInstanceAwareCounter | LaxInstanceAwareCounter
Watch = AbstractAsyncContextManager[trio.abc.ReceiveChannel[CounterValue]]

COUNTER_OPS = frozenset(
    {
        "inc",
        "inc_nowait",
        "dec",
        "set",
        "set_on_instance",
        "get",
        "get_nowait",
        "delete",
        "delete_on_instance",
        "clear",
        "clear_on_instance",
        "flush",
        "aclose",
        "statistics",
    }
)
_COUNT_OPTIONAL = frozenset({"inc", "inc_nowait", "dec"})


class Worker:
    """Runs commands on a counter and writes what became of them."""

    def __init__(self, counter: Counter, output: trio.abc.SendStream) -> None:
        self._counter = counter
        self._output = output
        self._output_lock = trio.Lock()
        self._acked = 0
        self._blocks: dict[str, AbstractAsyncContextManager[CounterValue]] = {}
        self._watched: dict[str, tuple[Watch, trio.abc.ReceiveChannel[CounterValue]]] = {}

    async def say(self, message: Mapping[str, object]) -> None:
        """Write one line."""
        # Two tasks must not write at once, nor a line end in the middle.
        async with self._output_lock:
            await self._output.send_all(json.dumps(message).encode() + b"\n")

    async def obey(self, command: Mapping[str, Any]) -> None:
        """Run one command and write its result or its error."""
        answer: dict[str, object] = {"id": command.get("id")}
        try:
            answer["ok"] = plain(await self._run(command))
        except Exception as exc:  # noqa: BLE001 (the parent is told)
            answer |= error_message(exc)
        await self.say(answer)

    async def _run(self, command: Mapping[str, Any]) -> object:
        op = command["op"]
        if op == "spin":
            return await self._spin(command)
        if op == "borrow":
            return await self._borrow(command)
        if op == "enter":
            return await self._enter(command)
        if op == "leave":
            return await self._blocks.pop(command["key"]).__aexit__(None, None, None)
        if op == "follow":
            return await self._follow(command["key"])
        if op == "hear":
            return await self._hear(command["key"], command["count"])
        if op == "package":
            return str(Path(distkit_actors.__file__).parents[1])
        if op not in COUNTER_OPS:
            raise ValueError(f"unknown op {op!r}")
        arguments = [command[name] for name in ("key", "count") if name in command]
        if op in _COUNT_OPTIONAL and "count" not in command:
            arguments.append(1)
        result = getattr(self._counter, op)(*arguments)
        return await result if inspect.isawaitable(result) else result

    async def _spin(self, command: Mapping[str, Any]) -> dict[str, object]:
        """Run `n` increments over `tasks` tasks and report how many succeeded."""
        left = iter(range(command["n"]))
        done = 0
        errors: Tally[str] = Tally()

        async def spinner() -> None:
            nonlocal done
            for _ in left:
                try:
                    await self._counter.inc(command["key"], command.get("count", 1))
                except Exception as exc:  # noqa: BLE001 (the parent is told)
                    errors[type(exc).__name__] += 1
                else:
                    done += 1
                    self._acked += 1
                    await self.say({"acked": self._acked})

        async with trio.open_nursery() as nursery:
            for _ in range(command.get("tasks", 1)):
                nursery.start_soon(spinner)
        return {"done": done, "errors": dict(errors)}

    async def _borrow(self, command: Mapping[str, Any]) -> int:
        """Use tokens of a limiter `n` times over `tasks` tasks, for `seconds` each."""
        limiter = FleetLimiter(self._counter, command["key"], command["total"])
        numbers = iter(range(command["n"]))

        async def user() -> None:
            for number in numbers:
                async with limiter:
                    await self.say({"use": [number, "+", time.monotonic()]})
                    await trio.sleep(command["seconds"])
                    await self.say({"use": [number, "-", time.monotonic()]})

        async with trio.open_nursery() as nursery:
            for _ in range(command.get("tasks", 1)):
                nursery.start_soon(user)
        return command["n"]

    async def _enter(self, command: Mapping[str, Any]) -> CounterValue:
        """Enter the block of a hold, which another command leaves."""
        key = command["key"]
        block = self._counter.hold(key, command["count"], command.get("limit"))
        value = await block.__aenter__()
        self._blocks[key] = block
        return value

    async def _follow(self, key: str) -> None:
        """Watch a key from now on, until the process ends."""
        block = self._counter.watch(key)
        self._watched[key] = block, await block.__aenter__()

    async def _hear(self, key: str, cumulative: int) -> CounterValue:
        """Wait until a watched key is told to be at a value."""
        _, values = self._watched[key]
        async for value in values:
            if value.cumulative == cumulative:
                return value
        raise RuntimeError("the watch has ended")


def plain(value: object) -> object:
    """Return a value as JSON knows it; what it does not know as its `repr`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    return repr(value)


def error_message(exc: BaseException) -> dict[str, object]:
    """Return what an answer says about an exception."""
    return {"error": type(exc).__name__, "message": str(exc)}


def parse_options(argv: list[str]) -> tuple[type[Counter], dict[str, Any]]:
    """Return the counter's class and the arguments of its `open`."""
    parser = argparse.ArgumentParser(prog="worker_main", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--kind", choices=["strict", "lax"], required=True)
    # An option not given is not passed on: the counter's own default rules.
    default = argparse.SUPPRESS
    parser.add_argument("--instance-id", default=default)
    parser.add_argument("--threshold", dest="dead_instance_threshold", type=float, default=default)
    parser.add_argument("--heartbeat", dest="heartbeat_interval", type=float, default=default)
    parser.add_argument("--exit-grace", type=float, default=default)
    parser.add_argument("--on-exit", default=default)
    parser.add_argument("--inherit", action="store_true", default=default)
    options = vars(parser.parse_args(argv))
    kind = options.pop("kind")
    return (StrictInstanceAwareCounter if kind == "strict" else LaxInstanceAwareCounter), options


async def main(argv: list[str]) -> int:
    """Serve until told to end and return the exit code."""
    kind, options = parse_options(argv)
    prefix, url = options.pop("prefix"), options.pop("url")
    # The copies leave descriptors 0 and 1 to the interpreter, whose own file
    # objects would close them a second time.
    async with (
        trio.lowlevel.FdStream(os.dup(0)) as commands,
        trio.lowlevel.FdStream(os.dup(1)) as output,
    ):
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            try:
                async with kind.open(prefix, url, **options) as counter:
                    worker = Worker(counter, output)
                    await worker.say({"ready": str(counter.instance_id)})
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
                        await _serve(worker, commands, nursery)
                        nursery.cancel_scope.cancel()
            except Exception as exc:
                line = json.dumps(error_message(exc)).encode() + b"\n"
                await output.send_all(line)
                raise
    return 0


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    """End the service, but not the counter, which closes after it."""
    await anext(signals)
    scope.cancel()


async def _serve(worker: Worker, commands: trio.abc.ReceiveStream, nursery: trio.Nursery) -> None:
    """Start each command that comes, until no more come."""
    buffer = bytearray()
    async for chunk in commands:
        buffer += chunk
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            nursery.start_soon(worker.obey, json.loads(line))


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1:]))
