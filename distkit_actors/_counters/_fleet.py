"""Looking at a whole namespace, and at those who share it."""

from __future__ import annotations

from functools import partial

from .._actor._actor import Actor
from .._actor._groups import all_of
from .._actor._operations import AtomicBatch, ExclusiveKind, Operation, QueryOperation
from .._protocol._about import instance_infos
from .._protocol._messages import Query, QueryKind, QueryPage
from .._protocol._values import InstanceInfo, checked_id, checked_name
from ._base import CounterBase


class FleetMixin(CounterBase):
    """What the store knows beside values. These ask it, on lax counters too."""

    async def instances(self) -> list[InstanceInfo]:
        """Return the instances that live, and the dead that are not reaped yet, by id.

        A dead one is told until an instance has noticed its death, and its slices are gone; it may
        have had none. Read in steps of some hundred, so one that joins or leaves meanwhile may be
        missing or not. A checkpoint; cancelling it leaves nothing behind. Raises what
        `InstanceAwareCounter.get` raises.

        If the store spreads the prefix over several parts, each instance is in all of them, and is
        told once: alive if it is in any part, as one may be cut off from a node and from no other;
        and as silent as in the part that has not heard it for longest. All parts must answer.
        """
        return instance_infos(*await self._pages(QueryKind.INSTANCES))

    async def slices(self, key: str) -> dict[str, int]:
        """Return who contributes what to a key's cumulative, ``{instance_id: slice}``.

        The slices of the dead are among them until they have been taken away. Of several parts it
        asks the one that the key is in. Read in steps, as `instances`. A checkpoint; cancelling it
        leaves nothing behind. Raises what `InstanceAwareCounter.get` raises.
        """
        checked_name(key)
        await self._actor.of(key).ask(_catching_up())
        rows = await self._query(QueryKind.SLICES, key)
        slices = {instance_id: value for instance_id, (value, _) in rows.items()}
        me = self._actor.instance_id or ""
        slices[me] = self._own_slice(key, slices.get(me, 0))
        return {instance_id: value for instance_id, value in slices.items() if value}

    async def keys(self) -> list[str]:
        """Return the keys whose cumulative is not 0, and those this instance has a slice of.

        Sorted. A key whose slices, none of them this instance's, cancel each other out is not
        among them. All parts are asked at the same time, and each tells of an instant of its own.
        Read in steps, as `instances`. A checkpoint; cancelling it leaves nothing behind. Raises
        what `InstanceAwareCounter.get` raises.
        """
        await self._actor.ask(_catching_up())
        rows = await self._query(QueryKind.KEYS)
        return sorted(rows.keys() | self._own_keys())

    async def forget(self, instance_id: str) -> None:
        """Mark an instance dead and remove its slices now, without waiting for its threshold.

        For one that hangs but still beats, or whose threshold is long. If it lives, it comes
        back with its slices when it next reaches the store; stop it for good by stopping
        its process. An id that nobody has is no error. In steps of up to 500 keys, in all parts
        at the same time; single operations and lax counts go between them. If the store refuses
        in the midst, the steps before have taken effect, and a note of the error says so. A
        checkpoint; cancelled in the midst, it goes on to its end unheard. Raises what
        `InstanceAwareCounter.get` raises.

        Raises:
            ValueError: It is this counter's own id: use `InstanceAwareCounter.aclose`, or
                `InstanceAwareCounter.clear_on_instance`.
        """
        if instance_id == self._actor.instance_id:
            raise ValueError("a counter cannot forget itself: use aclose or clear_on_instance")
        await self._actor.ask(Operation(ExclusiveKind.FORGET, checked_id(instance_id)))

    async def _query(self, kind: QueryKind, key: str = "") -> dict[str, tuple[int, bool]]:
        rows: dict[str, tuple[int, bool]] = {}
        for pages in await self._pages(kind, key):
            for page in pages:
                rows |= {name: (number, flag) for name, number, flag in page.rows}
        return rows

    async def _pages(self, kind: QueryKind, key: str = "") -> list[list[QueryPage]]:
        """Return the answers of every part, or of the one that ``key`` is in."""
        await self._actor.wait_open()
        parts = [self._actor.of(key)] if key else self._actor.parts
        return await all_of([partial(all_pages, part, kind, key) for part in parts])

    def _own_slice(self, key: str, stored: int) -> int:  # noqa: ARG002 - lax counters have more
        """Return this instance's slice as its own reads show it (I8, own reads)."""
        return stored

    def _own_keys(self) -> set[str]:
        return self._actor.own_keys()


def _catching_up() -> AtomicBatch:
    """Return what hears of others' moves, and returns if we were taken for dead.

    A query does neither.
    """
    return AtomicBatch(())


async def all_pages(actor: Actor, kind: QueryKind, key: str) -> list[QueryPage]:  # noqa: ASYNC910 - each page is a checkpoint
    """Return every page of the answer of one part. A checkpoint."""
    pages: list[QueryPage] = []
    cursor = ""
    while True:  # noqa: ASYNC913
        query = QueryOperation(Query(actor.instance_id or "", kind, key, cursor))
        await actor.ask(query)
        assert isinstance(query.reply, QueryPage)
        pages.append(query.reply)
        cursor = query.reply.cursor
        if not cursor:
            return pages
