"""The instances a store knows, their slices, and the sums over them.

A record lives in three places at most: among the `records`; in the *reap queue* while it is
dead or left and still has slices; and as *expiring* once it has none. Sums are kept with the
slices, so that reading one is a look-up (P9, exact sums).
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from .._protocol._messages import MAX_CHANGED, MAX_PURGE, Applied, Periods, Slice
from .._protocol._values import fits
from ._epochs import Epochs
from ._observed_time import RECENT_PART, Heard, Observed, longest_silence

#: "Never", as an instant.
FOREVER = 2**63


class State(enum.Enum):
    """What is recorded of an instance. One that is `LIVE` may be overdue (`Registry.alive`)."""

    LIVE = "live"
    DEAD = "dead"
    LEFT = "left"


class Record:
    """What the store knows of an instance: its session (P14, remembered answers), its slices."""

    __slots__ = (
        "about",
        "deadline",
        "heard",
        "incarnation",
        "inherited",
        "known",
        "nonce",
        "periods",
        "reply",
        "seq",
        "slices",
        "state",
        "swept",
    )

    def __init__(
        self, incarnation: int, nonce: str, periods: Periods, known: int, about: str = ""
    ) -> None:
        self.incarnation = incarnation
        self.nonce = nonce
        self.about = about  # what it says of itself (P25, opening)
        self.inherited = False  # it took its predecessor's slices over
        self.seq = 0
        self.reply = Applied(0, ())
        self.state = State.LIVE
        self.periods = periods
        self.heard = Heard(0, 0)  # its last sign of life that was written down
        self.deadline = 0  # not dead before this instant of steady time
        self.known = known  # it has heard of all moves up to this stamp (P10, learning moves)
        self.slices: dict[str, Slice] = OrderedDict()  # so that the first is found at once
        self.swept = 0  # no slice here is older than the clears up to this stamp

    @property
    def starts_afresh(self) -> bool:
        """Whether all slices that are still here are on their way out (P18, empty ground).

        Then it has done nothing and inherited nothing yet, or its last answer says that leftovers
        remain.
        """
        return self.reply.again or not (self.inherited or self.seq)


class Registry:
    """Records, slices and sums of one namespace."""

    def __init__(self) -> None:
        self.epochs = Epochs()
        self.observed = Observed()
        # {key: sum of the slices that count}, no zeros (P3, zero is absence).
        self.sums: dict[str, int] = {}
        self.records: dict[str, Record] = {}
        self.reap_queue: dict[str, int] = {}  # {instance: since when it waits}, oldest first
        # {instance without slices: when to forget it}
        self.expiring: dict[str, int] = OrderedDict()
        self.partitions = 1  # over how many parts those who live, or lived last, spread it
        self.due = 0  # no instance has a deadline before this instant of steady time
        self.watched = False  # whether it is noted what a request changes (P37, notifications)
        self.changed: set[str] | None = set()  # the keys noted; None: any may have changed

    def total(self, key: str) -> int:
        """Return the cumulative of ``key``."""
        return self.sums.get(key, 0)

    def add(self, key: str, amount: int) -> bool:
        """Add to a sum, unless it would leave int64 (P4, no partial effect)."""
        total = self.sums.get(key, 0) + amount
        if not fits(total):
            return False
        if total:
            self.sums[key] = total
        else:
            self.sums.pop(key, None)
        if amount:
            self.note(key)
        return True

    def put(self, key: str, total: int) -> None:
        """Make a sum what it was before."""
        self.add(key, total - self.total(key))

    def forget_sums(self) -> None:
        """Remove every sum."""
        self.sums.clear()
        if self.watched:
            self.changed = None

    def note(self, key: str) -> None:
        """Note that the values of ``key`` may have changed, if somebody wants to know.

        P37, notifications.
        """
        if self.watched and self.changed is not None:
            self.changed.add(key)
            if len(self.changed) > MAX_CHANGED:
                self.changed = None

    def take_away(self, record: Record, key: str) -> bool:
        """Remove a slice; False if it counts and the sum without it would leave int64 (I12)."""
        value, stamp = record.slices[key]
        if stamp >= self.epochs.in_journal(key) and not self.add(key, -value):
            return False
        del record.slices[key]
        return True

    def revive(self, instance: str, record: Record, periods: Periods) -> None:
        """Count ``instance``, which has just been heard, among the living."""
        old = self.records.get(instance)
        self.observed.add_living(periods)
        if old and old.state is State.LIVE:
            self.observed.remove_living(old.periods)
        self.records[instance] = record
        record.state, record.periods = State.LIVE, periods
        self.reap_queue.pop(instance, None)
        self.expiring.pop(instance, None)
        self.beat(record)
        self.due = min(self.due, record.deadline)

    def beat(self, record: Record) -> None:
        """Write down the sign of life that has just been observed."""
        record.heard = self.observed.sign(record.periods)
        record.deadline = record.heard.at + record.periods.threshold

    def judge(self, record: Record, steady: int) -> bool:
        """Return whether a living instance is still alive; its deadline is then set anew."""
        left, heard = self.observed.judge(record.periods, record.heard, steady)
        if left > 0:
            record.heard, record.deadline = heard, steady + left
        return left > 0

    def alive(self, record: Record, now: int) -> bool:
        """Return whether an instance counts as alive; changes nothing."""
        return self.alive_at(record, self.observed.steady(now))

    def alive_at(self, record: Record, steady: int) -> bool:
        """Do as `alive`, for an instant of steady time."""
        if record.state is not State.LIVE:
            return False
        return self.observed.judge(record.periods, record.heard, steady)[0] > 0

    def agree(self, partitions: int, now: int) -> bool:
        """Spread the namespace over so many parts; False if the living disagree (P44, parts).

        Instances that lived by another number are marked dead. If one lives all the same, it must
        resume.
        """
        if partitions == self.partitions:
            return True
        live = [(i, record) for i, record in self.records.items() if record.state is State.LIVE]
        if any(self.alive(record, now) for _, record in live):
            return False
        for instance, record in sorted(live, key=lambda pair: (pair[1].deadline, pair[0])):
            self.mark_dead(instance, record, State.DEAD, now)
        self.partitions = partitions
        return True

    def seen_alive(self, record: Record, now: int, asker: Record | None) -> bool:
        """Return whether ``asker`` would find an instance alive if ``asker`` were heard now.

        Changes nothing. A blackout up to now, or a jump of the clock, proves nothing.
        """
        steady = self.observed.steady(now)
        if record.state is not State.LIVE:
            return False
        present = False
        if asker and asker.state is State.LIVE:
            silent = steady - asker.heard.at
            if steady >= self.observed.last and silent < asker.periods.threshold // RECENT_PART:
                return self.alive(record, now)  # it would not be written down
            present = silent <= longest_silence(*asker.periods[:2])
        return self.observed.lives(record.periods, record.heard, steady, present=present)

    def mark_dead(self, instance: str, record: Record, state: State, now: int) -> None:
        """Count ``instance`` among the living no more; its slices wait to be reaped."""
        if record.state is State.LIVE:
            self.observed.remove_living(record.periods)
        record.state = state
        if record.slices:
            self.reap_queue[instance] = now
            self.due = 0
        else:
            self.retire(instance, record, now)

    def retire(self, instance: str, record: Record, now: int) -> None:
        """Start the retention of a record whose slices are gone (P14, remembered answers)."""
        self.reap_queue.pop(instance, None)
        self.expiring[instance] = now + record.periods.retention

    def purge(self, instance: str, record: Record, at: int, now: int) -> bool:
        """Remove up to `MAX_PURGE` slices of a record that starts afresh (P18, empty ground).

        A slice that cannot leave its sum yet goes to an orphan, a dead record of its own. So the
        instance has nothing left here that it does not know of (I12). Returns whether there is an
        orphan. The orphan is named by the stamp ``at``, which is then used.
        """
        orphans: dict[str, Slice] = {}
        for key in list(islice(record.slices, MAX_PURGE)):
            one = record.slices[key]
            if not self.take_away(record, key):
                orphans[key] = one
                del record.slices[key]
        if orphans:
            orphan = Record(0, "", record.periods, record.known)
            orphan.slices, orphan.state = orphans, State.DEAD
            name = f"{instance}:{at}"
            self.records[name] = orphan
            self.mark_dead(name, orphan, State.DEAD, now)
        return bool(orphans)

    def contributors(self) -> Iterator[tuple[str, Record]]:
        """Every instance that may have slices: the living and the reap queue."""
        for instance, record in self.records.items():
            if record.state is State.LIVE or instance in self.reap_queue:
                yield instance, record

    def expire(self, now: int) -> None:
        """Look at a few records, and forget those whose retention is over."""
        for instance in list(islice(self.expiring, 4)):
            due = self.expiring.pop(instance)
            if due <= now:
                del self.records[instance]
            else:
                self.expiring[instance] = due  # behind the others, which may be kept less long
