"""Who is online, live: each open page is counted, and shows how many there are on each worker.

For production: ``STORE=redis://... hypercorn -k trio app:app``.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import trio
from quart import Response, websocket
from quart_trio import QuartTrio

from distkit_actors import CounterClosedError, LaxInstanceAwareCounter

app = QuartTrio(__name__)
counter = LaxInstanceAwareCounter(
    "online",
    os.environ.get("STORE", "redis://localhost"),
    label=os.environ.get("WORKER"),  # the name on the page
    dead_instance_threshold=3,  # seconds for which a killed worker still counts
    start_grace=10,  # seconds for which it waits for Redis at the start
)
PAGE = Path(__file__).with_name("page.html").read_text()


class Board:
    """What all pages of this worker show."""

    def __init__(self) -> None:
        self.text = json.dumps({"total": 0, "workers": {}})
        self.changed = trio.Event()

    def show(self, text: str) -> None:
        """Have all pages show something else."""
        self.text = text
        self.changed.set()
        self.changed = trio.Event()


board = Board()


@app.before_serving
async def start() -> None:
    """Take part: the counter is registered when this returns."""
    await app.nursery.start(counter.run)
    app.nursery.start_soon(follow)


@app.after_serving
async def stop() -> None:
    """Leave, so that this worker's share goes at once."""
    await counter.aclose()


async def follow() -> None:
    """Look who is there when the total has changed, and once a second for idle workers."""
    with suppress(trio.EndOfChannel, CounterClosedError):  # the server stops
        async with counter.watch("online") as totals:
            while True:
                with trio.move_on_after(1):
                    await totals.receive()
                shares = await counter.slices("online")
                workers = {
                    info.label or f"{info.host}:{info.pid}": shares.get(info.instance_id, 0)
                    for info in await counter.instances()
                }
                board.show(json.dumps({"total": sum(shares.values()), "workers": workers}))


@app.get("/")
async def page() -> Response:
    """Send the page; its script connects to `live`."""
    return Response(PAGE, mimetype="text/html")


@app.websocket("/live")
async def live() -> None:
    """Count a page for as long as it is open; it is cancelled when the page has gone."""
    async with counter.hold("online"):
        while True:
            changed = board.changed
            await websocket.send(board.text)
            await changed.wait()
