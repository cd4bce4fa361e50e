"""Rules about those who watch: they see how it ends, and none of them comes to harm."""

from __future__ import annotations

import trio
from hypothesis import strategies as st
from hypothesis.stateful import rule

from distkit_actors import CounterValue, InstanceConflictError
from tests.stateful.fleet import Member
from tests.stateful.hold_rules import WHO, HoldRules
from tests.stateful.operations import KEYS

#: Watchers of one counter.
MOST_WATCHERS = 2


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

    def compare_watchers(self) -> None:
        """Mended and at rest, each has seen last what its counter says."""

        async def run() -> None:
            for watcher in self.watchers:
                if watcher.member not in self.members:
                    assert watcher.over, f"nobody ends the watch of {watcher.member}"
                    continue
                call = self._ask(watcher.member, "get", watcher.key)
                await self.host.quiesce(self.meter)
                watcher.member.calls.remove(call)
                assert call.result == watcher.last, f"{watcher.member} sees {watcher.last}"
            await self.judge()

        self.run(run)
