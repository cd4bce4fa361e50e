"""Servers that answer commands as a test tells them to."""

from __future__ import annotations

from collections.abc import Callable

import trio

from distkit_actors._stores._redis._scripts import load_scripts
from distkit_actors._stores._redis._survey import Node
from tests.harness.ports import LOOPBACK
from tests.harness.resp import FrameSplitter, parse_request

from .listener import listen


class Fake:
    """A server that answers each command as it is told to, and notes them.

    It closes the connection if `answer` raises `trio.BrokenResourceError`.
    """

    def __init__(self, answer: Callable[..., object]) -> None:
        self.answer = answer
        self.said: list[list[str]] = []
        self.conversations: list[list[list[str]]] = []  # the same by connection
        self.streams: list[trio.abc.Stream] = []  # the connections, in the same order
        self.silent = False
        self.seconds = 0.0  # that each answer takes
        self.node = Node("", 0)

    async def serve(self, stream: trio.abc.Stream) -> None:
        frames = FrameSplitter()
        conversation: list[list[str]] = []
        self.conversations.append(conversation)
        self.streams.append(stream)
        while data := await stream.receive_some():
            for frame in frames.feed(bytes(data)):
                words = [word.decode() for word in parse_request(frame).args]
                self.said.append(words)
                conversation.append(words)
                await trio.sleep(self.seconds)
                if not self.silent:
                    await stream.send_all(reply(with_id(words, self.answer(*words))))


def with_id(words: list[str], value: object) -> object:
    """Return what a script replies, with the id that it was told with its words, as it does."""
    verb, *rest = words
    if not (verb.startswith("EVAL") and isinstance(value, str | list)):
        return value
    if rest[0] == load_scripts()["beats"].sha.decode():
        assert isinstance(value, list)
        ids = rest[2 + int(rest[1]) :][1::3]
        return [f"{own} {each}" for own, each in zip(ids, value, strict=False)]
    return [*value, rest[-1]] if isinstance(value, list) else f"{rest[-1]} {value}"


def reply(value: object) -> bytes:
    match value:
        case None:
            return b"*-1\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(reply, value))
        case Exception():
            return b"-%s\r\n" % str(value).encode()
        case _:
            text = str(value).encode()
            return b"$%d\r\n%s\r\n" % (len(text), text)


async def started(nursery: trio.Nursery, *fakes: Fake) -> list[Node]:
    """Have fakes listen, and return where."""
    for fake in fakes:
        fake.node = Node(LOOPBACK, await listen(nursery, fake.serve))
    return [fake.node for fake in fakes]
