"""The groups of rows, in the order in which they run and are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from benchmarks.bench import Bench
from benchmarks.rows import (
    churn,
    counts,
    fleet,
    imports,
    large,
    lax,
    memory,
    partitions,
    processes,
    replicas,
    sharing,
    size,
    strict,
)


class Group(NamedTuple):
    """What a group is about, and what measures it."""

    title: str
    measure: Callable[[Bench], Awaitable[None]]


GROUPS: Final = {
    "latency": Group("one task: how long a call takes", strict.latency),
    "counts": Group("one task: what a call takes, counted", counts.counts),
    "strict": Group("strict counters under load", strict.strict),
    "peers": Group("strict counters and other ways to Redis", strict.others),
    "processes": Group("strict counters of many processes", processes.processes),
    "ceiling": Group("strict counters and the server itself", strict.ceiling),
    "lax": Group("lax counters: what a call costs", lax.calls),
    "million": Group("lax counters: what a million calls send", lax.million),
    "flush": Group("lax counters: what a flush costs", lax.flush),
    "script": Group("what the server works for a batch", size.script),
    "growth": Group("what grows with the namespace", size.growth),
    "bounds": Group("what takes long with very many keys", size.bounds),
    "sharing": Group("many prefixes on one store", sharing.sharing),
    "partitions": Group("a namespace in parts, on several nodes", partitions.partitions),
    "replicas": Group("writes that a replica confirms", replicas.replicas),
    "crowd": Group("a fleet that starts at once", fleet.crowd),
    "large": Group("a large fleet: its start, its rest, its deaths, its return", large.large),
    "churn": Group("instances and keys that come and go", churn.churn),
    "memory": Group("what a key and an instance weigh", memory.memory),
    "imports": Group("what an import takes", imports.imports),
    "idle": Group("what an idle counter costs", fleet.idle),
    "fleet": Group("many instances that only live", fleet.fleet),
    "reaping": Group("many instances that have died", fleet.reaping),
}
