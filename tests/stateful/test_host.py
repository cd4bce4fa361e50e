"""The thread that histories run in."""

from functools import partial

import pytest
import trio

from tests.stateful import host as module
from tests.stateful.host import Host, Traffic


def test_what_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody lets time pass while it waits for it."""
    monkeypatch.setattr(module, "_SILENCE", 0.05)
    host = Host()
    for hanging in (trio.sleep_forever, partial(trio.sleep, 1)):
        with pytest.raises(AssertionError, match="nobody lets pass"):
            host.call(hanging)
    traffic = Traffic()
    host.call(lambda: host.advance(traffic, 60))  # and still it works
    host.close()


def test_what_never_rests_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes as long as somebody has something to do."""
    monkeypatch.setattr(module, "_UNREST", 1000)
    host = Host()
    traffic = Traffic()

    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async def run() -> None:
        host.nursery.start_soon(spin)
        await host.advance(traffic, 1)

    with pytest.raises(AssertionError, match="never rests"):
        host.call(run)
    host.close()
