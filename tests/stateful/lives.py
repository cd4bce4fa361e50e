"""How counters of a history begin and end, and what the loss of the store's data means to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import trio

from distkit_actors import DistkitError
from tests.stateful.fleet import GRACE, Member
from tests.stateful.history import History
from tests.stateful.operations import EXTREME, KEYS
from tests.stateful.reference import APPLIED, MAYBE, Op
from tests.stateful.wires import ABSENT, PRESENT, Heard


class Lives(History):
    """A history whose counters come and go."""

    def start(
        self,
        name: str,
        *,
        lax: bool,
        on_exit: Literal["leave", "linger"] = "leave",
        inherit: bool = False,
        twice: bool = False,
        in_block: bool = False,
    ) -> None:
        """Start a counter, perhaps in the place of another."""

        async def run() -> None:
            old = next((each for each in self.members if each.name == name), None)
            answers: dict[Op, object] = {}
            if old:
                self.members.remove(old)
                self.fenced.append(old)
                answers.update(self._given_up(old, MAYBE))
            self.movers = {key: who for key, who in self.movers.items() if who != name}
            if name in self.names:
                self._explain(answers, disturbed=True)
                self._end_holds(name, inherited=inherit)
                for each, key in self.model.items():
                    status = self.meters.of(each).status(name)
                    kept = {PRESENT: True, ABSENT: False}.get(status)
                    if not inherit or not kept:
                        key.drop(name, surely=not inherit or kept is False)
            else:
                self.names.append(name)
            new = Member(
                self.meters,
                self.prefix,
                name,
                lax=lax,
                on_exit=on_exit,
                inherit=inherit,
                in_block=in_block,
            )
            self.host.endings.append(new.left)
            if twice:
                new.network.duplicate(None)
            await new.start(self.host.nursery)
            new.network.forget_plan()
            self.members.append(new)
            if not inherit:
                for tap, meter in zip(new.taps.parts, self.meters.parts, strict=True):
                    tap.heard = meter.steps
            await self.judge()

        self.run(run)

    def stop(self, member: Member) -> None:
        """Stop a counter in good order, as far as its network allows."""

        async def run() -> None:
            reachable = member.can_stop and member.counter.statistics().connected
            sound = reachable and not (member.troubled or member.planned)
            await self.judge()
            answers: dict[Op, object] = {}
            member.stopping = True
            self.members.remove(member)
            for meter in self.meters.parts:
                meter.await_no_more(member.name)
            if member.on_exit == "linger":
                for block in list(member.blocks):
                    self.exited(member, block)
            failure: list[Exception] = []

            async def close() -> None:
                try:
                    await member.close()
                except DistkitError as error:
                    failure.append(error)

            self.host.nursery.start_soon(close)
            await self.host.quiesce(self.traffic)
            if not member.over.is_set():
                await self.host.advance(self.traffic, 2 * GRACE)
            assert member.over.is_set(), f"{member} does not stop"
            still = [each for each in self.meters.parts if each.status(member.name) != ABSENT]
            left = not still
            assert not sound or (not failure and (left or member.on_exit == "linger")), failure
            if member.on_exit == "leave":
                for meter in still:
                    meter.doubt(member.name)
            answers.update(self._answers(member))
            # One who leaves owes no ends of holds; if it cannot, its slices stay as they are.
            sure = not failure and (left or member.on_exit == "linger")
            answers.update(self._given_up(member, APPLIED if sure else MAYBE))
            self._explain(answers, disturbed=True)
            self._end_holds(member.name)
            self.stopped.append(member)
            await self.judge()

        self.run(run)

    def crash(self, member: Member) -> None:
        """End a counter so that it can say nothing more."""

        async def run() -> None:
            await self.judge()
            member.cut()
            member.stopping = True
            superseded = member in self.fenced
            if superseded:
                self.fenced.remove(member)
            else:
                self.members.remove(member)
                for meter in self.meters.parts:
                    meter.await_no_more(member.name)
            member.scope.cancel()
            member.left.set()
            await self.host.advance(self.traffic, 2 * GRACE)
            assert member.over.is_set(), f"{member} does not stop"
            await member.deliver_late_copies()  # no later than this
            answers = dict(self._answers(member))
            answers.update(self._given_up(member, MAYBE))
            self._explain(dict.fromkeys(answers, MAYBE), disturbed=True)
            if not superseded:  # else all that has its name is another's by now
                self._end_holds(member.name)
            await self.judge()

        self.run(run)

    def _end_holds(self, name: str, *, inherited: bool = False) -> None:
        """Nobody is left to end its holds, or to tell the store of moves that it has lost (L2)."""
        for each, key in self.model.items():
            untold = self.untold.get(each) == name and name in self.meters.of(each).lost
            if untold or (inherited and name in {*key.suspects, *key.stale}):
                key.loosen()
            key.let_go(name)

    async def lose(self, parts: Collection[int], *, calm: bool) -> None:
        """Have parts of the store lose everything; note it before anybody who watches is told.

        Args:
            parts: which of them.
            calm: nobody will ask for anything before all who can have been heard again.
        """
        for part in parts:
            self.wipe_store(part)
            alive = {member.name for member in self.members}
            self.meters.parts[part].wiped(alive, cleared=self.cleared)
        await self._lost(parts, calm=calm)

    async def go_back(self, part: int, heard: Heard) -> None:
        """Note that a part of the store has again what it had when its meter had heard that."""
        meter = self.meters.parts[part]
        meter.went_back(heard, {member.name for member in self.members}, cleared=self.cleared)
        for name, key in self.model.items():
            if self.part_of(name) == part and name == EXTREME:
                key.loosen()  # what fits depends on what the others have
            elif self.part_of(name) == part:
                key.go_back(heard.present | meter.lost)
        await self._lost([part], calm=False)

    async def _lost(self, parts: Collection[int], *, calm: bool) -> None:
        self.clock.set_right()
        for part in parts:
            self.wiped_at[part] = trio.current_time()
            self.lost_at[part] = self.meters.parts[part].steps
            keyless = all(self.part_of(key) != part for key in KEYS)
            self.meters.parts[part].lenient |= self.cleared and keyless
        calm = calm and not any(key.open for key in self.model.values())
        told = {
            member.name
            for member in self.members
            if calm and member.settled and not (member.troubled or member.planned)
        }
        for name, key in self.model.items():
            if self.part_of(name) not in parts:
                continue
            key.lose_answers()
            unheard, mover = self._unheard(name), self.movers.get(name)
            if unheard and mover is not None:
                self.untold[name] = mover
            if not unheard or mover in told:
                pass
            elif name != EXTREME and any(member.name == mover for member in self.members):
                # They may count on the key before the mover comes back (L1).
                key.blur(unheard - {mover})
            else:
                # The mover cannot come back, or nobody knows whether it is one (L2, L4).
                key.loosen()
            self.meters.of(name).lenient |= bool(unheard)
        await self.judge()
