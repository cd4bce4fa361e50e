"""Listeners, which are told that keys may have changed, and read in a way of their own.

A notice is a hint, and may get lost (P37, notifications). So all are told to look again whenever
the subscription has been made anew, and now and then in any case.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio


class Listener:
    """Is told when any of some keys may have changed."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.hints = dict.fromkeys(keys, 0)  # how often each key may have changed
        self.polls = 0  # how often it was time to look in any case
        self.resting = False  # nobody waits for it
        self.ended = False  # there will be no more notices
        self.rests = 0  # polls since nobody waits
        self._news = trio.Event()

    def hint(self, key: str) -> None:
        """Take in that ``key``, which is one of its own, may have changed."""
        self.hints[key] += 1
        self._wake()

    def hint_all(self) -> None:
        """Take in that anything may have changed."""
        for key in self.hints:
            self.hints[key] += 1
        self._wake()

    def poll(self) -> None:
        """Take in that it is time to look."""
        self.polls += 1
        self._wake()

    def end(self) -> None:
        """Note that there will be no more notices."""
        self.ended = True
        self._wake()

    async def wait(self) -> None:
        """Wait for the next hint or poll, or for the end. A checkpoint."""
        if self.ended:
            await trio.lowlevel.checkpoint()
        else:
            await self._news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()


class Listeners:
    """All listeners of one counter."""

    def __init__(self) -> None:
        self._listeners: dict[Listener, None] = {}

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._listeners)

    def add(self, listener: Listener) -> None:
        """Tell ``listener`` of changes from now on."""
        self._listeners[listener] = None

    def tell(self, keys: Iterable[str] | None) -> None:
        """Tell the listeners to any of ``keys``; None means that anything may have changed."""
        for listener in self._listeners:
            if keys is None:
                listener.hint_all()
            else:
                for key in listener.hints.keys() & keys:
                    listener.hint(key)

    def poll(self) -> None:
        """Tell all that it is time to look."""
        for listener in self._listeners:
            listener.poll()

    def end(self) -> None:
        """Note that there will be no more notices."""
        for listener in self._listeners:
            listener.end()

    def drop_resting(self) -> None:
        """Forget those that nobody has waited for since the last call but one."""
        for listener in list(self._listeners):
            listener.rests = listener.rests + 1 if listener.resting else 0
            if listener.rests > 1:
                del self._listeners[listener]
