"""The conformance kit uses all that a link can have, and finds what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from distkit_actors import MemoryStore, Store, StoreUnavailableError
from distkit_actors._protocol._messages import Applied, Peek, Previous, Reply, Request
from distkit_actors._stores._contract import Link
from distkit_actors.testing import check_store
from distkit_actors.testing._reply_validator import ReplyValidator


class PromptLink(Link):
    """Sends at once, and has callers wait for their answers; one task at a time may read."""

    connected = True
    can_send_nowait = True
    patience = 10.0

    def __init__(self, store: Prompt, prefix: str) -> None:
        self.store = store
        self.prefix = prefix
        self.reply: Reply | None = None  # to what was sent last …
        self.before: Reply | None = None  # … and before that
        self.reader: trio.CancelScope | None = None

    async def connect(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send(self, request: Request) -> None:
        self.before, self.reply = self.reply, self.store.inner.execute(self.prefix, request)

    def send_nowait(self, request: Request) -> None:
        self.store.calls["send_nowait"] += 1
        self.before, self.reply = self.reply, self.store.inner.execute(self.prefix, request)

    async def receive(self, request: Request) -> Reply:
        await self.read()
        assert self.reply is not None
        return self.reply

    def wait_answer(self) -> Awaitable[None] | None:
        return self.read()

    async def read(self) -> None:
        if self.reader is not None:
            raise trio.BusyResourceError("another task reads")
        with trio.CancelScope() as scope:
            self.reader = scope
            await trio.sleep(self.store.delay)
        if self.reader is scope:
            self.reader = None

    def receive_nowait(self, request: Request) -> Reply | None:
        self.store.calls["receive_nowait"] += 1
        return self.reply

    def interrupt(self) -> None:
        self.store.calls["interrupt"] += 1
        if self.reader is not None:
            self.reader.cancel()
            self.reader = None

    def unanswered(self, patience: float) -> None:
        self.store.calls["unanswered"] += 1

    async def inspect(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        self.store.calls["inspect"] += 1
        return ("it may lose counts",)


class Prompt(Store):
    """As `MemoryStore`, with links that can do more."""

    def __init__(self, kind: type[PromptLink] = PromptLink) -> None:
        self.inner = MemoryStore()
        self.calls = Counter[str]()
        self.delay = 0.001
        self._kind = kind

    @asynccontextmanager
    async def link(self, prefix: str) -> AsyncIterator[Link]:
        yield self._kind(self, prefix)


async def test_a_link_that_can_do_more_passes_and_is_asked_to(autojump_clock: MockClock) -> None:
    store = Prompt()
    await check_store(lambda: store)
    assert set(store.calls) == {"send_nowait", "receive_nowait", "interrupt", "inspect"}


async def test_a_link_hears_that_there_was_no_answer(autojump_clock: MockClock) -> None:
    store = Prompt()
    store.delay = 60.0
    async with ReplyValidator(store).link("p") as link:
        with pytest.raises(StoreUnavailableError, match="for 10 seconds"):
            await link.exchange(Peek("i"))
    assert set(store.calls) == {"unanswered"}


class TellsTheAnswerBefore(PromptLink):
    def receive_nowait(self, request: Request) -> Reply | None:
        return self.before


class TellsDoubles(PromptLink):
    def receive_nowait(self, request: Request) -> Reply | None:
        match self.reply:
            case Applied(results=[Previous(cumulative, own)]):
                results: Any = [Previous(float(cumulative), own)]  # type: ignore[arg-type]  # that is what is wrong
                return self.reply._replace(results=results)
        return self.reply


class IsNotInterrupted(PromptLink):
    def interrupt(self) -> None:
        pass


class FindsOneText(PromptLink):
    async def inspect(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return "it may lose counts"  # type: ignore[return-value]  # that is what is wrong


class ReadsTheNextAnswer(PromptLink):
    """What it asks the server for is taken for the answer to the next request."""

    looked = False

    async def inspect(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        self.looked = True
        return ()

    async def receive(self, request: Request) -> Reply:
        reply = await super().receive(request)
        return self.before if self.looked and self.before else reply


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (TellsTheAnswerBefore, "instead of"),
        (TellsDoubles, "0.0"),
        (IsNotInterrupted, "another task reads"),
        (FindsOneText, "may lose counts"),
        (ReadsTheNextAnswer, "instead of"),
    ],
)
async def test_a_link_that_does_more_wrongly_is_found(
    kind: type[PromptLink], complaint: str, autojump_clock: MockClock
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        await check_store(lambda: Prompt(kind))
