"""What a counter costs that nobody uses: its heartbeats, and nothing else."""

from __future__ import annotations

from typing import Final

import trio

from benchmarks.bench import Bench
from benchmarks.children import spawn
from benchmarks.measure import Spread
from benchmarks.residents import Resident, Watched, arguments
from benchmarks.results import Figure, compare

#: Seconds between two beats here, and by default.
_PERIOD: Final = 0.25
_DEFAULT_PERIOD: Final = 10.0


async def measure(bench: Bench) -> None:
    """Measure."""
    windows = bench.rounds
    seconds = bench.choose(4, 2) * _PERIOD
    seen: dict[str, list[Watched]] = {}

    async def watch(name: str, resident: Resident) -> None:
        seen[name] = await resident.watch(seconds, windows)

    server = bench.server
    async with (
        spawn("resting", *arguments("counters", 1, server, _PERIOD)) as counter,
        spawn("resting", *arguments("bare", 1, server, _PERIOD)) as bare,
        spawn("resting", *arguments("nothing", 1, server, _PERIOD)) as nothing,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watch, "ours", Resident(counter, server, "evalsha"))
        # The script of ours calls HINCRBY only when something is counted.
        nursery.start_soon(watch, "bare", Resident(bare, server, "hincrby"))
        nursery.start_soon(watch, "nothing", Resident(nothing, server, "evalsha"))
    ours = seen["ours"]
    bench.add(
        compare(
            "idle",
            "round trips of an idle counter",
            what=f"script calls in a second, with a beat every {_PERIOD} s",
            unit="calls/s",
            ours=[window.calls / window.seconds for window in ours],
            peer="one for each beat",
            theirs=[1 / _PERIOD for _ in ours],
            better="less",
        )
    )
    shares = {
        name: [w.process_cpu / w.seconds * 100 for w in found] for name, found in seen.items()
    }
    by_default = [w.process_cpu / w.calls / _DEFAULT_PERIOD * 100 for w in ours if w.calls]
    for peer, remark in (
        ("bare", "HINCRBY over a bare trio socket, as often"),
        ("nothing", "trio.sleep_forever"),
    ):
        bench.add(
            compare(
                "idle",
                "CPU of an idle counter",
                what="share of a core that the process takes; it is asked for it once a second",
                unit="%",
                ours=shares["ours"],
                peer=remark,
                theirs=shares[peer],
                better="less",
                also=[Figure("with the default threshold", Spread.of(by_default), "%")],
            )
        )
