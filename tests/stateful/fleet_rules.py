"""Rules that do not depend on what is counted: counters come and go, networks fail, time passes.

Faults stack up, for nothing heals by itself: `recover` mends everything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from distkit_actors import InstanceConflictError, StoreError
from tests.stateful.fleet import Member
from tests.stateful.lives import Lives
from tests.stateful.wires import INTERVAL, PRESENT, THRESHOLD

MOST_MEMBERS = 5

#: What strikes a few requests, and what lasts.
FAULTS = ("drop_request", "drop_reply", "late_copy", "duplicate", "away")
TROUBLES = ("hold", "hold_replies", "delay", "away", "refuse")

WHO = st.integers(0, MOST_MEMBERS - 1)


class FleetRules(Lives):
    """A history of three to five counters, strict and lax, in every kind of trouble."""

    # ------------------------------------------------------------------------- lives

    @initialize(
        lax=st.lists(st.booleans(), min_size=3, max_size=4),
        chance=st.integers(0, 99),
        in_blocks=st.integers(0, 4),
    )
    def fleet(self, lax: list[bool], chance: int, in_blocks: int = 0) -> None:
        """Start the first few."""
        self.chance = chance  # who runs first, and how long a counter waits to reconnect
        for number, is_lax in enumerate(lax):
            self.start(f"i{number}", lax=is_lax, in_block=number < in_blocks)

    @precondition(lambda self: len(self.members) < MOST_MEMBERS)
    @rule(lax=st.booleans(), linger=st.booleans(), twice=st.booleans(), in_block=st.booleans())
    def join(self, lax: bool, linger: bool, twice: bool, in_block: bool = False) -> None:
        """Somebody new."""
        on_exit: Literal["leave", "linger"] = "linger" if linger else "leave"
        name = f"i{len(self.names)}"
        self.start(name, lax=lax, on_exit=on_exit, twice=twice, in_block=in_block)

    @rule(who=WHO)
    def cancel(self, who: int) -> None:
        """The block of somebody is cancelled from outside; its body goes on, and so it counts."""
        member = self.member(who)
        if member.in_block:
            self.do(member.scope.cancel)

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=WHO)
    def leave(self, who: int) -> None:
        """A clean stop."""
        self.stop(self.member(who))

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=WHO)
    def kill(self, who: int) -> None:
        """The process is no more."""
        self.crash(self.member(who))

    # ----------------------------------------------------------------------- trouble

    @rule(
        who=WHO,
        fault=st.sampled_from(FAULTS),
        times=st.integers(1, 3),
    )
    def fault(self, who: int, fault: str, times: int) -> None:
        """Trouble with the next few requests."""
        member = self.member(who)
        member.planned = True
        getattr(member.network, fault)(times)

    @rule(who=WHO, fault=st.sampled_from(TROUBLES))
    def lasting_fault(self, who: int, fault: str) -> None:
        """Trouble until somebody mends it."""
        self._trouble(self.member(who), fault)

    def _trouble(self, member: Member, fault: str, part: int | None = None) -> None:
        member.in_trouble(part)
        network = member.network_of(part)
        match fault:
            case "hold":
                network.hold()
            case "hold_replies":
                network.hold(replies=True)
            case "delay":
                network.delay(0.3)
            case "away":
                network.away(None)
            case "refuse":
                network.refuse(StoreError("OOM"))
            case _:
                member.cut(part)

    @rule(fault=st.sampled_from(["away", "refuse", "cut"]))
    def store_trouble(self, fault: str) -> None:
        """The store is away, or refuses everybody."""

        def run() -> None:
            for member in self.members:
                self._trouble(member, fault)

        self.do(run)

    @rule(who=WHO)
    def cut(self, who: int) -> None:
        """A partition."""
        self.do(self.member(who).cut)

    @rule(who=WHO, seconds=st.sampled_from([0.0, 1.5]))
    def heal(self, who: int, seconds: float) -> None:
        """The end of all trouble of somebody."""
        self.do(self.member(who).mend)
        self.pass_time(seconds)

    @rule()
    def heal_all(self) -> None:
        """The end of all trouble."""

        def run() -> None:
            for member in self.members:
                member.mend()

        self.do(run)

    @rule(who=WHO, seconds=st.sampled_from([3.0, THRESHOLD + 1.0, THRESHOLD + 5.0]))
    def partition(self, who: int, seconds: float) -> None:
        """A partition, shorter or longer than the threshold, and what comes after it."""
        member = self.member(who)
        self.do(member.cut)
        self.pass_time(seconds)
        self.do(member.mend)

    @rule(who=WHO)
    def late_copies(self, who: int) -> None:
        """What was lost for now arrives."""
        pool = [*self.members, *self.stopped, *self.fenced]
        member = pool[who % len(pool)]

        async def run() -> None:
            await member.deliver_late_copies()
            await self.judge()

        self.run(run)

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.5, 5.0, 9.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.pass_time(seconds)

    @rule(seconds=st.sampled_from([1.0, 3.5, THRESHOLD + 1.0, 20.0]))
    def suspend(self, seconds: float) -> None:
        """Time passes while all processes are frozen."""

        async def run() -> None:
            await self.judge()
            await self.host.suspend(self.traffic, seconds)
            await self.judge()

        self.run(run)

    @rule(seconds=st.sampled_from([4.5, THRESHOLD + 0.5, THRESHOLD + 4.0]))
    def blackout(self, seconds: float) -> None:
        """Nobody reaches the store for a while (I5)."""

        def cut() -> None:
            for member in (*self.members, *self.fenced):
                member.cut()

        self.do(cut)
        self.pass_time(seconds)
        self.heal_all()

    # ---------------------------------------------------------------------- recovery

    def recover(self) -> None:
        """Mend everything, and let everybody be heard, and the dead be reaped."""
        self.heal_all()

        async def late() -> None:
            for member in (*self.members, *self.stopped, *self.fenced):
                await member.deliver_late_copies()
            self.stopped.clear()
            await self.judge()

        self.run(late)
        self.run(self._dismiss)
        self.pass_time(4 * INTERVAL)
        self.run(self._all_settled)
        # The dead may have a fresh threshold after a blackout.
        self.pass_time(2 * THRESHOLD + 2 * INTERVAL)
        for meter, before in zip(self.meters.parts, self.before, strict=True):
            meter.lenient = False
            statuses = {member.name: before[member.name] for member in self.members}
            assert set(statuses.values()) <= {PRESENT}, statuses

    async def _all_settled(self) -> None:
        for member in self.members:
            assert member.settled, f"{member} has not come to rest"

    async def _dismiss(self) -> None:
        """Tell those who were superseded, and end them."""
        for member in self.fenced:
            member.mend()
            await self.host.advance(self.traffic, INTERVAL)
            with trio.fail_after(1):
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(member.counter.clear)
                        await self.host.quiesce(self.traffic)
                except* InstanceConflictError:
                    pass
                else:
                    raise AssertionError(f"{member} does not know that somebody has its id")
            if member.in_block:
                member.left.set()
                await self.host.quiesce(self.traffic)
            assert member.over.is_set(), f"{member} goes on without its id"
            assert isinstance(member.failure, InstanceConflictError), member.failure
            assert member.counter.statistics().state == "superseded"
            member.stopping = True
            with suppress(InstanceConflictError):
                await member.close()
        self.fenced.clear()
        await self.judge()
