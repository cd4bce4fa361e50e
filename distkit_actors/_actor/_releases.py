"""The ends of holds (P36): they wait, are on their way, or did not fit and are tried again.

A strict counter ends a hold by a release, an operation that nobody waits for. A lax counter keeps
the ends of its holds in the write buffer; a release is made of one only if the store refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .._instance._holds import Hold, Holds
from .._instance._write_buffer import Settled, WriteBuffer
from ._mailbox import Mailbox
from ._operations import Operation, Release


class Releases:
    """All holds of one counter, and what takes them back."""

    def __init__(self, mailbox: Mailbox, buffer: WriteBuffer | None, holds: Holds) -> None:
        self.holds = holds
        self.outstanding: dict[Hold, Release] = {}  # all releases that have not been executed
        self.deferred: list[Release] = []  # those of them that the store had to refuse
        self._unwanted: list[Release] = []  # that are not in the mailbox yet
        self._mailbox = mailbox
        self._buffer = buffer

    # ------------------------------------------------------------------- callers

    def release(self, hold: Hold, *, unwanted: bool = False) -> None:
        """Take back what a hold has added, some time soon, unless that is void.

        ``unwanted``: nobody has entered the hold. Whoever waits with another one in its place must
        not find both, so its end goes before all that waits (`send_unwanted_first`).
        """
        if hold.released:
            return
        hold.released = True
        if self._buffer is not None:
            self._buffer.give_back(hold)
        elif not hold.void:
            release = self.outstanding[hold] = Release(hold)
            if unwanted:
                self._unwanted.append(release)
            else:
                self._mailbox.enter(release)

    def send_unwanted_first(self) -> None:
        """Put the ends of holds that nobody has entered before all that waits."""
        if self._unwanted:
            unwanted, self._unwanted = self._unwanted, []
            self._mailbox.give_back([release for release in unwanted if not release.ends.void])

    def cancel_release(self, hold: Hold) -> bool:
        """Undo `release`, if nothing of it has been sent yet; False if it is too late.

        It is too late after a refusal, too: what was refused may have been executed.
        """
        if hold.void or not hold.released or hold.end_refused:
            return False
        if self._buffer is not None:
            if not self._buffer.cancel_release(hold):
                return False
        else:
            release = self.outstanding.get(hold)
            if release is None or not release.withdraw():
                return False
            del self.outstanding[hold]
        hold.released = False
        return True

    def release_all(self) -> None:
        """End every hold, because nobody can later."""
        for hold in self.holds.outstanding():
            self.release(hold)

    # ----------------------------------------------------------- the store's word

    def begin(self, hold: Hold, at: int, operation: Operation) -> None:
        """Note that a hold's addition was made; take it back if its caller was cancelled."""
        self.holds.committed(hold, at)
        if operation.task is None:
            self.release(hold, unwanted=True)

    def settle(self, operation: Operation, at: int) -> None:
        """Take in that an addition, or a release, was executed on a slice with the stamp ``at``."""
        if operation.hold is not None:
            self.begin(operation.hold, at, operation)
        elif operation.required:
            self.end(operation)

    def end(self, release: Operation) -> None:
        """Note that a release was executed, or that there is nothing to take back."""
        assert isinstance(release, Release)
        self.outstanding.pop(release.ends, None)
        self.holds.released(release.ends)

    def record(self, settled: Settled, stamp: Callable[[str], int]) -> None:
        """Take in what the counts of a lax counter have begun and ended."""
        for hold in settled.committed:
            self.holds.committed(hold, stamp(hold.key))
        for hold in settled.released:
            if hold.at > (older := stamp(hold.key)):
                # It was taken from another slice, which has become one with the own one.
                self.holds.merged(hold.key, hold.at, older)
            self.holds.released(hold)
        for hold in settled.deferred:
            release = self.outstanding[hold] = Release(hold)
            self.deferred.append(release)

    def defer(self, operations: Iterable[Operation]) -> None:
        """Try releases among ``operations`` again later: the store refuses them (I12, overflow)."""
        for operation in operations:
            if isinstance(operation, Release):
                operation.ends.end_refused = True
                self.deferred.append(operation)

    def retry_deferred(self) -> None:
        """Try again to take back what the store had to refuse, before all that has come since."""
        deferred, self.deferred = self.deferred, []
        if self._buffer is None:
            self._mailbox.give_back(deferred)
            return
        for release in deferred:
            del self.outstanding[release.ends]
            self._buffer.give_back(release.ends)

    def moved(self, epochs: Mapping[str, int], dropped: Mapping[str, int]) -> None:
        """Take in moves: to these epochs, and those that took slices with these stamps."""
        self._forget(self.holds.moved(epochs, dropped))

    def cleared(self, stamp: int) -> None:
        """Take in a clear at ``stamp``."""
        self._forget(self.holds.cleared(stamp))

    def removed(self, keys: Iterable[str]) -> None:
        """Note that this instance has removed its slices of these keys."""
        self._forget(self.holds.removed(keys))

    def _forget(self, void: Iterable[Hold]) -> None:
        """Forget the ends of holds whose additions are void."""
        over = set[Operation]()
        for hold in void:
            if self._buffer is not None:
                self._buffer.void(hold)
            release = self.outstanding.pop(hold, None)
            if release is not None:
                release.withdraw()
                over.add(release)
        if over:
            self.deferred = [release for release in self.deferred if release not in over]
