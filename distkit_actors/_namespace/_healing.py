"""How an instance tells a store again what it had lost (step 7; P18, P22).

In Lua: ``resume.lua``.
"""

from __future__ import annotations

from collections import OrderedDict

from .._protocol._messages import (
    Resume,
)
from ._entries import Entries
from ._registry import Record, State


class Healing(Entries):
    """A namespace that takes in what it had lost."""

    def _reassert(self, request: Resume, record: Record, at: int, now: int) -> bool:
        """Take in what the store had lost, before any claim; True if leftovers remain."""
        registry = self.registry
        if request.first:
            if registry.purge(request.instance, record, at, now):
                self.clock = max(self.clock, at)
            if record.slices:
                return True
        if request.cleared > registry.epochs.cleared:
            self._clear_late(request.instance, request.cleared, now)
        for key, epoch in request.moves:
            if epoch > registry.epochs.of(key) and epoch > registry.epochs.floor:
                self._move_late(key, epoch, at, now)
        return False

    def _clear_late(self, caller: str, cleared: int, now: int) -> None:
        """Execute a lost clear: nobody but ``caller`` lives then, and those who did must resume.

        P22, late moves.
        """
        registry = self.registry
        registry.epochs.clear_late(cleared)
        self.clock = max(self.clock, cleared)  # a slice made from now on is younger
        registry.forget_sums()
        for instance, record in list(registry.contributors()):
            record.slices, record.swept = OrderedDict(), cleared
            if instance != caller:
                state = State.DEAD if record.state is State.LIVE else record.state
                registry.reap_queue.pop(instance, None)
                registry.mark_dead(instance, record, state, now)

    def _move_late(self, key: str, epoch: int, at: int, now: int) -> None:
        """Remove what a lost move had made void; younger slices survive (P22, late moves)."""
        registry = self.registry
        counted_from = registry.epochs.in_journal(key)
        registry.sums.pop(key, None)
        registry.note(key)
        contributors = sorted(registry.contributors(), key=lambda pair: (pair[1].known, pair[0]))
        for instance, record in contributors:
            own = record.slices.get(key)
            if own is None or own.stamp < counted_from:
                continue
            if own.stamp < epoch:
                del record.slices[key]
            elif not registry.add(key, own.value):
                # It waits with its owner until it fits (I12): the owner must re-assert it.
                del record.slices[key]
                if record.state is State.LIVE:
                    registry.mark_dead(instance, record, State.DEAD, now)
        registry.epochs.move_late(key, epoch, at)
        self.clock = max(self.clock, at, epoch)  # a slice made from now on is younger
