"""What takes long with very many keys of one instance: how long in all, and at once."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.load import key_names
from benchmarks.measure import Spread
from benchmarks.results import Figure, compare
from benchmarks.wording import amount
from distkit_actors import StrictInstanceAwareCounter

#: Longer than any measurement.
_FOREVER: Final = 3600.0
_AT_ONCE: Final = 1000

_WHAT: Final = {
    "clear": "to hear that another has cleared, and to count on",
    "clear_on_instance": "to remove all own slices",
    "return": "to come back with all slices",
    "leave": "to take leave with all slices",
}


@dataclass
class _Seen:
    """What was seen of one thing at one size, in each round."""

    total: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    script: list[float] = field(default_factory=list)


class _Steps(trio.abc.Instrument):
    """Looks for the longest step of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._start = float("inf")

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's
        """See `trio.abc.Instrument`."""
        self._start = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's
        """See `trio.abc.Instrument`."""
        self.longest = max(self.longest, time.perf_counter() - self._start)


async def measure(bench: Bench) -> None:
    """Measure."""
    sizes = bench.choose((10_000, 100_000, 300_000), (100, 1000, 3000))
    seen = {(what, size): _Seen() for what in _WHAT for size in sizes}
    for number in range(bench.rounds):
        for size in sizes:
            await _round(bench, f"bounds{size}-{number}", size, seen)
    smallest, *_ = sizes
    for (what, size), ours in seen.items():
        least = seen[what, smallest]
        bench.add(
            compare(
                "bounds",
                f"{what} with {amount(size, 'key')}",
                what=f"time {_WHAT[what]}, for each key",
                unit="s",
                ours=[total / size for total in ours.total],
                peer=amount(smallest, "key"),
                theirs=[total / smallest for total in least.total],
                better="less",
                also=[
                    Figure("in all", Spread.of(ours.total), "s"),
                    Figure("longest step of the event loop", Spread.of(ours.step), "s"),
                    Figure("longest script", Spread.of(ours.script), "s"),
                ],
            )
        )


async def _round(bench: Bench, prefix: str, size: int, seen: dict[tuple[str, int], _Seen]) -> None:
    names = key_names(size)

    def opened() -> StrictInstanceAwareCounter:
        return StrictInstanceAwareCounter(
            prefix, bench.server.url, dead_instance_threshold=_FOREVER
        )

    async with trio.open_nursery() as nursery:
        owner: StrictInstanceAwareCounter = await nursery.start(opened().run)
        other: StrictInstanceAwareCounter = await nursery.start(opened().run)

        async def fill() -> None:
            for start in range(0, size, _AT_ONCE):
                await owner.set_all(dict.fromkeys(names[start : start + _AT_ONCE], 1))

        async def hear() -> None:
            await other.clear()
            await owner.inc(names[0])

        async def come_back() -> None:
            await other.forget(owner.instance_id)
            await owner.inc(names[0])

        for what, do in (
            ("clear", hear),
            ("clear_on_instance", owner.clear_on_instance),
            ("return", come_back),
            ("leave", owner.aclose),
        ):
            await fill()
            await _sample(bench, do, seen[what, size])
        await other.aclose()


async def _sample(bench: Bench, do: Callable[[], Awaitable[object]], seen: _Seen) -> None:
    bench.server.command("CONFIG", "SET", "slowlog-log-slower-than", 0)
    bench.server.command("CONFIG", "SET", "slowlog-max-len", 100_000)
    bench.server.command("SLOWLOG", "RESET")
    gc.collect()
    gc.disable()  # its pauses are as long as the heap of this process is large
    steps = _Steps()
    await trio.lowlevel.checkpoint()
    trio.lowlevel.add_instrument(steps)
    start = time.perf_counter()
    try:
        await do()
    finally:
        trio.lowlevel.remove_instrument(steps)
        gc.enable()
    seen.total.append(time.perf_counter() - start)
    seen.step.append(steps.longest)
    # Each is a number, when, how many microseconds, and the command.
    entries = bench.server.command("SLOWLOG", "GET", -1)
    scripts = [entry[2] for entry in entries if entry[3][0] == "EVALSHA"]
    seen.script.append(max(scripts) * 1e-6)
