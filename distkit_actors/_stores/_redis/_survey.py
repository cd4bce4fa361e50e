"""Several servers that all may know something, of which not all may be there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

import trio
from redis.asyncio.connection import AbstractConnection

from ..._errors import StoreError, StoreUnavailableError
from ._connection import Connection
from ._per_run import PerRun
from ._stream import open_stream

#: Seconds for which one that has not answered at once is asked last.
_SHUN: Final = 60.0
#: Seconds after which the next one is asked, too.
_STAGGER: Final = 0.1
#: All may take up to so many times as long, while none has answered in time.
_MOST_PATIENCE: Final = 4

_T = TypeVar("_T")


class Node(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


#: Makes a connection to a node, not connected yet.
MakeTo: TypeAlias = Callable[[Node], AbstractConnection]


class Said(NamedTuple, Generic[_T]):
    """What came of asking."""

    answers: list[_T]
    failures: list[StoreError]


class Survey:
    """Asks one server after another the same, until one says what is good enough.

    Args:
        ready: Returns what makes a connection to one of them, not connected yet. It may ask
            a credential provider, whose time is not that of the servers.
        kind: What each is called in messages.
        patience: Seconds that an answer may take.
    """

    def __init__(
        self,
        ready: Callable[[], Awaitable[MakeTo]],
        kind: str,
        patience: float,
    ) -> None:
        self._ready = ready
        self._kind = kind
        self._patience = patience
        self.stretch = 1  # of the time for all: doubles while none answers in it
        self._shunned = PerRun[dict[Node, float]](dict)  # who was silent lately, since when

    async def ask(
        self,
        nodes: Sequence[Node],
        question: Callable[[Connection, Node], Awaitable[_T]],
        enough: Callable[[_T], bool],
        patience: float,
        *,
        grows: bool = True,
    ) -> Said[_T]:
        """Ask ``nodes``, in this order but for those that were silent lately. A checkpoint.

        One that does not answer at once is not waited for. It takes ``patience`` seconds at most;
        if that ``grows``, twice as long after each time in which none has answered, up to four
        times. What makes connections may take the time of an answer before.
        """
        said, make = Said[_T]([], []), None
        with trio.move_on_after(self._patience):
            make = await self._ready()
        if make is None:
            raise StoreUnavailableError("the credential provider does not answer")
        with trio.move_on_after((self.stretch if grows else 1) * patience) as waiting:
            await self._ask(make, nodes, question, enough, said)
        if said.answers:
            self.stretch = 1
        elif waiting.cancelled_caught and grows:
            self.stretch = min(2 * self.stretch, _MOST_PATIENCE)
        return said

    async def _ask(  # noqa: ASYNC910 - internal: callers ask one at least
        self,
        make: MakeTo,
        nodes: Sequence[Node],
        question: Callable[[Connection, Node], Awaitable[_T]],
        enough: Callable[[_T], bool],
        said: Said[_T],
    ) -> None:
        now = trio.current_time()
        shunned = {node: at for node, at in self._shunned.get().items() if now - at <= _SHUN}
        self._shunned.set(shunned)

        async def ask(node: Node, over: trio.Event) -> None:  # noqa: ASYNC910 - as above
            try:
                said.answers.append(await self._ask_one(make, node, question))
            except StoreError as error:
                said.failures.append(error)
                shunned[node] = now
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                said.failures.append(
                    StoreUnavailableError(
                        f"the {self._kind} {node} answered what makes no sense: "
                        f"{type(error).__name__}"
                    )
                )
                shunned[node] = now
            else:
                shunned.pop(node, None)
                if enough(said.answers[-1]):
                    nursery.cancel_scope.cancel()
            finally:
                over.set()

        async with trio.open_nursery() as nursery:
            for node in sorted(nodes, key=shunned.__contains__):
                over = trio.Event()
                nursery.start_soon(ask, node, over)
                with trio.move_on_after(min(_STAGGER, self._patience / 8)) as waiting:
                    await over.wait()
                if waiting.cancelled_caught:
                    shunned[node] = now  # unless it answers after all

    async def _ask_one(
        self, make: MakeTo, node: Node, question: Callable[[Connection, Node], Awaitable[_T]]
    ) -> _T:
        async def make_it() -> AbstractConnection:  # noqa: ASYNC124 - as it is called
            return make(node)  # noqa: ASYNC910 - connecting is a checkpoint

        async with open_stream(make_it, f"{self._kind} {node}", self._patience) as connection:
            return await question(connection, node)
