"""Servers that end a connection on which nothing is said."""

from __future__ import annotations

import logging

import pytest
import trio

from distkit_actors import LaxInstanceAwareCounter, StrictInstanceAwareCounter
from tests.faults.fleet import until
from tests.harness.server import RedisServer
from tests.harness.transports import BOTH, Transport, store_at


@pytest.mark.parametrize("transport", BOTH)
async def test_a_connection_closed_while_idle_is_made_again_quietly(
    transport: Transport, fresh_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no outage, and every count is kept."""
    caplog.set_level(logging.DEBUG, "distkit_actors")
    with RedisServer(config={"timeout": "1", "hz": "100"}) as server:
        store = store_at(server.url, transport)
        async with (
            StrictInstanceAwareCounter.open(fresh_prefix, store) as strict,
            LaxInstanceAwareCounter.open(fresh_prefix, store) as lax,
        ):
            for number in range(1, 3):
                assert await strict.inc("k") == (2 * number - 1, number)
                lax.inc_nowait("k")
                await lax.flush()
                with trio.fail_after(20):
                    # All are closed but the one that asks.
                    while server.command("INFO", "clients")["connected_clients"] > 1:  # noqa: ASYNC110
                        await trio.sleep(0.05)
            assert await strict.get("k") == (4, 2)
            await until(lambda: strict.statistics().connected, 5)
            assert strict.statistics().reconnects == 2
    assert not [r.getMessage() for r in caplog.records if r.levelno > logging.INFO]
