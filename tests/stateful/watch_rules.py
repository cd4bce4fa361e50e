"""Rules about those who watch: they see how it ends, and none of them comes to harm."""

from __future__ import annotations

from functools import partial

import trio
from hypothesis import strategies as st
from hypothesis.stateful import rule

from distkit_actors import CounterValue, InstanceConflictError
from tests.stateful.fleet import Member
from tests.stateful.fleet_rules import WHO
from tests.stateful.history import TICK
from tests.stateful.hold_rules import HoldRules
from tests.stateful.operations import EXTREME, KEYS

#: Watchers of one counter.
MOST_WATCHERS = 2
#: Seconds after which everything that is watched has been read, whatever word of it was lost.
POLLED = 2.5


class Watcher:
    """Somebody who follows one key of one counter, and remembers what was seen last."""

    def __init__(self, member: Member, key: str) -> None:
        self.member = member
        self.key = key
        self.scope = trio.CancelScope()
        self.last: CounterValue | None = None
        self.over = False

    async def follow(self) -> None:
        """Watch until the counter stops, or somebody else has its id, or there is no need."""
        try:
            with self.scope:
                async with self.member.counter.watch(self.key) as values:
                    async for value in values:
                        assert value != self.last, f"{value} is nothing new"
                        self.last = value
                assert self.member.stopping, f"{self.member} has stopped by itself"
        except InstanceConflictError:
            pass
        finally:
            self.over = True


class WatchRules(HoldRules):
    """A history in which keys are watched."""

    def __init__(self) -> None:
        super().__init__()
        self.watchers: list[Watcher] = []

    @rule(who=WHO, key=st.sampled_from(KEYS))
    def begin_to_watch(self, who: int, key: str) -> None:
        """Somebody begins to watch, whatever state the network is in."""
        member = self.member(who)
        self.watchers = [watcher for watcher in self.watchers if not watcher.over]
        if sum(watcher.member is member for watcher in self.watchers) < MOST_WATCHERS:
            watcher = Watcher(member, key)
            self.watchers.append(watcher)
            self.do(lambda: self.host.nursery.start_soon(watcher.follow))

    @rule(which=st.integers(0, 9))
    def watch_no_more(self, which: int) -> None:
        """One of them has seen enough."""
        if self.watchers:
            watcher = self.watchers.pop(which % len(self.watchers))
            self.do(watcher.scope.cancel)
            assert watcher.over, f"{watcher.member} does not let go"

    @rule(which=st.integers(0, 9))
    def watch_on(self, which: int) -> None:
        """While nothing is under way, what was seen last can be explained."""
        if not self.watchers:
            return
        watcher = self.watchers[which % len(self.watchers)]
        member = watcher.member
        if (
            watcher.key == EXTREME
            or member not in self.members
            or not member.trouble.isdisjoint({None, self.part_of(watcher.key)})
            or member.planned
        ):
            return
        self.run(partial(self._see, watcher))

    async def _see(self, watcher: Watcher) -> None:
        member, model = watcher.member, self.model[watcher.key]
        part = self.part_of(watcher.key)
        connected = member.connected_to(part)  # else it may still pause
        await self.host.advance(self.traffic, POLLED)
        await self.judge()
        await self.host.advance(self.traffic, TICK)  # what changed last is read a little later
        if connected and member.settled_in(part) and not (model.open or model.vague):
            _, unsure, absent = self._doubts(part)
            possible = model.values(member.name, unsure | absent)
            assert watcher.last in possible, f"{member} sees {watcher.last}, not {possible}"
        await self.judge()

    def compare_watchers(self) -> None:
        """Mended and at rest, each has seen last what its counter says."""

        async def run() -> None:
            for watcher in self.watchers:
                if watcher.member not in self.members:
                    assert watcher.over, f"nobody ends the watch of {watcher.member}"
                    continue
                assert not watcher.over, f"{watcher.member} has stopped telling"
                call = self._ask(watcher.member, "get", watcher.key)
                await self.host.quiesce(self.traffic)
                watcher.member.calls.remove(call)
                assert call.result == watcher.last, f"{watcher.member} sees {watcher.last}"
            await self.judge()

        self.run(run)
