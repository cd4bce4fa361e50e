"""The store of `docs/stores.md`: somebody else's, made of nothing but public names."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from distkit_actors import StoreUnavailableError, StrictInstanceAwareCounter
from distkit_actors.testing import check_store

PATH = Path(__file__).resolve().parent.parent.parent / "docs" / "examples" / "own_store.py"


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("own_store", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["own_store"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["own_store"]


class Wires:
    """Makes streams to one server, and cuts them."""

    def __init__(self, example: Any, nursery: trio.Nursery) -> None:
        self.server = example.Server(trio.current_time)
        self.nursery = nursery
        self.streams: list[Any] = []
        self.up = True

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self.up:
            raise OSError("nobody is there")
        ours, theirs = trio.testing.memory_stream_pair()
        self.streams.append(ours)
        self.nursery.start_soon(self.server.serve, theirs)
        return ours

    def cut(self) -> None:
        """End all streams, and let there be no others."""
        self.up = False
        for stream in self.streams:
            stream.receive_stream.put_eof()


async def test_it_keeps_the_contract(example: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wires = Wires(example, nursery)
        await check_store(lambda: example.OwnStore(wires.connect))
        nursery.cancel_scope.cancel()


async def test_it_comes_back(example: Any, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        wires = Wires(example, nursery)
        store = example.OwnStore(wires.connect)
        async with StrictInstanceAwareCounter.open("p", store) as counter:
            await counter.inc("k")
            wires.cut()
            async with trio.open_nursery() as callers:
                callers.start_soon(counter.inc, "k")
                await trio.sleep(5)
                assert counter.statistics().state == "away"
                wires.up = True
            assert await counter.get("k") == (2, 2)
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_not_there_fails_the_start(example: Any) -> None:
    async with trio.open_nursery() as nursery:
        wires = Wires(example, nursery)
        wires.up = False
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            async with StrictInstanceAwareCounter.open("p", example.OwnStore(wires.connect)):
                raise AssertionError


def test_it_uses_public_names_only() -> None:
    tree = ast.parse(PATH.read_text(encoding="utf-8"))
    modules = {
        node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and "distkit" in (node.module or "")
    }
    assert modules == {"distkit_actors", "distkit_actors.abc"}
