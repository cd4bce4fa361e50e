"""A process with a gauge of prometheus_client: ``labels CALLS`` or ``bound CALLS`` times it."""

from __future__ import annotations

import prometheus_client

from benchmarks.children.speech import questions, say
from benchmarks.statement import Statement


def main() -> None:
    """Answer until the parent has no more questions."""
    gauge = prometheus_client.Gauge(
        "connections", "Now open.", labelnames=["key"], multiprocess_mode="livesum"
    )
    statements = {
        "labels": Statement("gauge.labels(key).inc()", {"gauge": gauge, "key": "connections"}),
        "bound": Statement("bound.inc()", {"bound": gauge.labels("connections")}),
    }
    say(ready=1)
    for kind, calls in questions():
        say(nanoseconds=statements[kind].nanoseconds(int(calls)))


if __name__ == "__main__":
    main()
