"""Fetch pages, at most ten at a time from all processes together.

``STORE=redis://localhost python docs/examples/polite_client.py URL...``; needs httpx2. On SIGTERM
no request begins any more, those under way end, and so does the process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import httpx2
import trio

from distkit_actors import FleetLimiter, StrictInstanceAwareCounter

LIMIT = 10
TIMEOUT = 5  # seconds for a request, also for one that is under way at SIGTERM


class PoliteClient:
    """Sends requests, at most `LIMIT` at a time from all processes that count in one store."""

    def __init__(self, http: httpx2.AsyncClient, counter: StrictInstanceAwareCounter) -> None:
        self._http = http
        self._limiter = FleetLimiter(counter, "requests", LIMIT)

    async def get(self, url: str) -> httpx2.Response:
        """Wait for a token, then for the answer. Cancelling it ends the first wait only."""
        async with self._limiter:
            with trio.fail_after(TIMEOUT, shield=True):
                return await self._http.get(url)


async def fetch(client: PoliteClient, url: str) -> None:
    """Fetch one page, and say what came of it."""
    try:
        answer: object = (await client.get(url)).status_code
    except (httpx2.HTTPError, trio.TooSlowError) as error:
        answer = repr(error)
    print(url, answer, flush=True)


async def cancel_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancel a scope when the process is told to end."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        await anext(signals)
        print("told to end", flush=True)
        scope.cancel()


async def main(urls: Sequence[str]) -> None:
    """Fetch all pages, or those that there is time for."""
    async with trio.open_nursery() as nursery:
        await nursery.start(cancel_on_signal, nursery.cancel_scope)
        async with (
            StrictInstanceAwareCounter.open("polite", os.environ["STORE"]) as counter,
            httpx2.AsyncClient() as http,
            trio.open_nursery() as requests,  # ends first, then the client, then the counter
        ):
            client = PoliteClient(http, counter)
            for url in urls:
                requests.start_soon(fetch, client, url)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
