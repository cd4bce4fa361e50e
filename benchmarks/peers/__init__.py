"""Other ways to count, which the counters are compared with; each is set up as its users would.

There is a file for each. They meet here.
"""

from benchmarks.peers.asyncio_itself import PLAIN_ASYNCIO, plain_asyncio
from benchmarks.peers.coredis import COREDIS, coredis_client
from benchmarks.peers.prometheus import BOUND_GAUGE, GAUGE, TimedGauge, livesum_gauge
from benchmarks.peers.redis_asyncio import (
    ASYNCIO,
    PIPELINE,
    POOL,
    SendAll,
    blocking_pool,
    pipeline,
)
from benchmarks.peers.redis_benchmark import Rate, ceiling
from benchmarks.peers.redis_threads import THREADS, worker_threads
from benchmarks.peers.reference import FIRST, NEWEST, Reference, built, open_reference, references
from benchmarks.peers.valkey_glide import GLIDE, glide_client

__all__ = [
    "ASYNCIO",
    "BOUND_GAUGE",
    "COREDIS",
    "FIRST",
    "GAUGE",
    "GLIDE",
    "NEWEST",
    "PIPELINE",
    "PLAIN_ASYNCIO",
    "POOL",
    "THREADS",
    "Rate",
    "Reference",
    "SendAll",
    "TimedGauge",
    "blocking_pool",
    "built",
    "ceiling",
    "coredis_client",
    "glide_client",
    "livesum_gauge",
    "open_reference",
    "pipeline",
    "plain_asyncio",
    "references",
    "worker_threads",
]
