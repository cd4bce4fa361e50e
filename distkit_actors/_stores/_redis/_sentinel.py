"""Sentinels, which know which of several servers is the primary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, cast, final

import trio

from ..._errors import StoreError, StoreUnavailableError
from .._contract import StoreAwayError
from ._connection import Connection, ErrorReplyError
from ._error_lines import NO_COMMAND, NO_PASSWORD
from ._locator import Locator
from ._per_run import PerRun
from ._reply_errors import to_store_error
from ._survey import MakeTo, Node, Said, Survey

#: Seconds after which the sentinels are asked whether there is another primary, by the next
#: request: the old one may be reached still, and then nothing else tells.
_PACE: Final = 2.0
#: Which part of the time that an answer may take a look may take, and the asking for a connection.
_LOOK: Final = 0.25
_ASKING: Final = 0.75

_ADVICE: Final = {
    "NOAUTH": "user name or password for the sentinels are missing or wrong: check "
    "sentinel_username and sentinel_password in the store's URL",
    "NOPERM": "the user may not ask the sentinels: grant it SENTINEL",
}
_ADVICE["WRONGPASS"] = _ADVICE[NO_PASSWORD] = _ADVICE["NOAUTH"]


class _Word(NamedTuple):
    """What a sentinel says."""

    epoch: int
    """Of the configuration; of two words on the primary the one with the higher is newer."""
    primary: Node
    down: bool
    """The sentinel cannot reach that primary itself: another one may know its successor."""


@final
class SentinelLocator(Locator):
    """Asks sentinels for the primary.

    Args:
        ready: See `Survey`.
        sentinels: Where they are.
        service: What they call the primary and its replicas.
        patience: Seconds that an answer may take.
    """

    def __init__(
        self,
        ready: Callable[[], Awaitable[MakeTo]],
        sentinels: Sequence[Node],
        service: str,
        patience: float,
    ) -> None:
        self._survey = Survey(ready, "sentinel", patience)
        self._sentinels = list(sentinels)  # in the order in which they are asked
        self._service = service
        self._patience = patience
        self._known: _Word | None = None
        self._looked_at = PerRun(lambda: -float("inf"))  # when they were asked last

    def extra_time(self) -> float:
        """See `Locator.extra_time`."""
        return (self._survey.stretch - 1) * _ASKING * self._patience

    @property
    def looks(self) -> bool:
        """An old primary may be reached still, where a network is cut in two."""
        return True

    @property
    def look_at(self) -> float:
        """After which instant there should be another look."""
        return self._looked_at.get() + _PACE

    async def locate(self, slot: int) -> Node:  # noqa: ARG002 - all slots are at the primary
        """Ask the sentinels; see `Locator.locate`."""
        begun_at = trio.current_time()
        words, failures = await self._ask_all(_ASKING)
        if not words:
            raise self._nobody_tells(failures)
        # If all are older than what we know, the sentinels have been set up anew.
        self._known = self._newest(words)
        self._looked_at.set(begun_at)
        return self._known.primary

    async def check(
        self, connection: Connection, node: Node | None, patience: float | None
    ) -> None:  # noqa: ASYNC910 - internal: callers make the checkpoint
        """Refuse a replica: sentinels learn late of some changes, and servers from them."""
        try:
            role = await connection.call(b"ROLE", patience=patience)
        except ErrorReplyError as error:
            if error.code in {None, NO_COMMAND, "NOPERM"}:
                return  # it does not tell us, or not everybody  # noqa: ASYNC910 - as above
            raise
        if not (isinstance(role, list) and role and role[0] == b"master"):
            raise StoreAwayError(
                f"the store cannot serve now: the server at {node}, which the sentinels name, is "
                "no primary"
            )

    def serves(self, slot: int, node: Node | None) -> bool:  # noqa: ARG002 - as above
        """Return whether a server is the primary that was heard of last."""
        return self._known is None or self._known.primary == node

    async def look(self) -> None:
        """Ask one sentinel after another until one knows the primary; see `Locator.look`."""
        self._looked_at.set(trio.current_time())  # others need not look meanwhile
        words, _ = await self._ask_all(_LOOK, grows=False)  # as requests wait for it
        if not words:
            return  # noqa: ASYNC910 - asking was one
        newest = self._newest(words)
        # As in `locate`, all may be older.
        anew = len(words) == len(self._sentinels) and not newest.down
        if anew or self._is_newer(newest):
            self._known = newest

    # ---------------------------------------------------------------- asking them

    async def _ask_all(self, part: float, *, grows: bool = True) -> Said[_Word]:
        """Ask them until one says something new, for a part of the time an answer may take."""
        # Each is the first to be asked in its turn: one may know less.
        nodes, self._sentinels = self._sentinels, self._sentinels[1:] + self._sentinels[:1]
        patience = part * self._patience
        return await self._survey.ask(nodes, self._ask, self._is_enough, patience, grows=grows)

    def _is_enough(self, word: _Word) -> bool:
        """Return whether nobody else need be asked.

        Sentinels may name one server differently, as a name and as an address. If each said a
        newer word, all connections would leave the server again and again.
        """
        known = self._known
        says_the_same = known is None or (known.epoch, known.primary) == (word.epoch, word.primary)
        return not word.down and (says_the_same or self._is_newer(word))

    def _newest(self, words: Sequence[_Word]) -> _Word:
        known = None if self._known is None else self._known.primary
        return max(words, key=lambda word: (word.epoch, not word.down, word.primary == known))

    def _is_newer(self, word: _Word) -> bool:
        return self._known is None or word.epoch > self._known.epoch

    async def _ask(self, sentinel: Connection, node: Node) -> _Word:  # noqa: ARG002
        try:
            await sentinel.connect()
            # First the number: what is said later is not older.
            name = self._service.encode()
            fields = await sentinel.call(b"SENTINEL", b"MASTER", name)
            address = await sentinel.call(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name)
        except ErrorReplyError as error:
            if "No such master" in error.text:
                raise self._unknown() from None
            raise to_store_error(error, _ADVICE) from None
        words = cast("list[bytes]", fields)
        match address:
            case [bytes() as host, bytes() as port]:
                said = dict(zip(words[::2], words[1::2], strict=False))
                epoch, flags = said.get(b"config-epoch", b"0"), said.get(b"flags", b"")
                down = b"_down" in flags or b"disconnected" in flags
                return _Word(int(epoch), Node(host.decode(), int(port)), down)
            case _:
                raise self._unknown()

    def _nobody_tells(self, failures: list[StoreError]) -> StoreError:
        """Return why there is no primary: a refusal only if all refuse, as others may know."""
        refusals = [e for e in failures if not isinstance(e, StoreUnavailableError)]
        if len(refusals) == len(self._sentinels):
            return refusals[0]
        why = "; ".join(dict.fromkeys(map(str, failures))) or "none has answered in time"
        return StoreUnavailableError(f"no sentinel says which server is the primary: {why}")

    def _unknown(self) -> StoreUnavailableError:
        """Return what is wrong where they know no such service: they may be told of it later."""
        return StoreUnavailableError(
            f"those that answer know no service named {self._service!r}: the store's URL has to "
            "give it the name that it has in `sentinel monitor`"
        )
