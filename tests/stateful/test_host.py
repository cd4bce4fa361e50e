"""The thread that histories run in."""

from functools import partial

import pytest
import trio

from distkit_actors import MemoryStore
from tests.stateful import host as module
from tests.stateful.host import Host
from tests.stateful.wires import Meter


def test_what_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody lets time pass while it waits for it."""
    monkeypatch.setattr(module, "_SILENCE", 0.05)
    host = Host()
    for hanging in (trio.sleep_forever, partial(trio.sleep, 1)):
        with pytest.raises(AssertionError, match="nobody lets pass"):
            host.call(hanging)
    meter = Meter(MemoryStore())
    host.call(lambda: host.advance(meter, 60))  # and still it works
    host.close()


def test_what_never_rests_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes as long as somebody has something to do."""
    monkeypatch.setattr(module, "_UNREST", 1000)
    host = Host()
    meter = Meter(MemoryStore())

    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async def run() -> None:
        host.nursery.start_soon(spin)
        await host.advance(meter, 1)

    with pytest.raises(AssertionError, match="never rests"):
        host.call(run)
    host.close()
