"""A limiter of the fleet, as trio's own would look."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio

if TYPE_CHECKING:
    from types import TracebackType

    from ._limiter import FleetLimiter


def as_capacity_limiter(limiter: FleetLimiter) -> trio.CapacityLimiter:
    """Return a view of ``limiter`` with all that a `trio.CapacityLimiter` has.

    That is a final class, so nothing else can be one. Trio takes whatever does the same, and says
    so; `tests/behaviour/test_limiter_view.py` compares the two name by name.
    """
    return cast("trio.CapacityLimiter", _CapacityView(limiter))


class _CapacityView:
    """Does what the limiter does, under the names and with the types of trio's."""

    def __init__(self, limiter: FleetLimiter) -> None:
        self._limiter = limiter

    @property
    def total_tokens(self) -> float:
        return self._limiter.total_tokens

    @total_tokens.setter
    def total_tokens(self, new_total_tokens: float) -> None:
        # An infinite number is no limit: it is refused, as any other float is.
        self._limiter.total_tokens = cast("int", new_total_tokens)

    @property
    def borrowed_tokens(self) -> int:
        return self._limiter.borrowed_tokens

    @property
    def available_tokens(self) -> float:
        return self._limiter.available_tokens

    def acquire_nowait(self) -> None:
        self._limiter.acquire_nowait()

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        self._limiter.acquire_on_behalf_of_nowait(borrower)

    async def acquire(self) -> None:
        await self._limiter.acquire()

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._limiter.acquire_on_behalf_of(borrower)

    def release(self) -> None:
        self._limiter.release()

    def release_on_behalf_of(self, borrower: object) -> None:
        self._limiter.release_on_behalf_of(borrower)

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> None:
        await self._limiter.acquire()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(  # noqa: ASYNC910 - what must not fail must not be cancelled
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limiter.release()

    def statistics(self) -> trio.CapacityLimiterStatistics:
        found = self._limiter.statistics()
        return trio.CapacityLimiterStatistics(
            borrowed_tokens=found.borrowed_tokens,
            total_tokens=found.total_tokens,
            borrowers=list(found.borrowers),
            tasks_waiting=found.tasks_waiting,
        )

    def __repr__(self) -> str:
        return repr(self._limiter)
