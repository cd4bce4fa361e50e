"""Which counters are measured, and which of them are shown."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Iterable, Iterator

from .._counters._counter import InstanceAwareCounter
from .._counters._lax import LaxInstanceAwareCounter
from .._errors import CounterClosedError
from .._limiter._names import has_tickets
from .._stores._memory import MemoryStore
from ._measures import Sample


def _place_of(counter: InstanceAwareCounter) -> str:
    """Return where a counter counts: two stores with one URL lead to the same place."""
    store = counter._store  # pyright: ignore[reportPrivateUsage]
    return f"memory {id(store)}" if isinstance(store, MemoryStore) else repr(store)


class Watched:
    """The counters that are measured, as long as somebody else has them and they have not ended.

    One that is superseded stays beyond its end: that comes sooner than anybody looks, and an alert
    is to see it. It goes once another one with its id is shown. Any thread may use it, also while
    others do.
    """

    def __init__(
        self,
        counters: Iterable[InstanceAwareCounter],
        keys: Collection[str] | None,
        max_keys: int,
    ) -> None:
        if isinstance(keys, str):
            raise TypeError(f"keys must be a collection of keys, not the string {keys!r}")
        if max_keys < 0:
            raise ValueError(f"max_keys must be at least 0, not {max_keys}")
        self._keys = None if keys is None else frozenset(keys)
        self._max_keys = max_keys
        self._counters: list[weakref.ref[InstanceAwareCounter]] = []
        self._lock = threading.Lock()
        for counter in counters:
            self.add(counter)

    def add(self, counter: InstanceAwareCounter) -> None:
        """Measure ``counter``, once."""
        if not isinstance(counter, InstanceAwareCounter):  # pyright: ignore[reportUnnecessaryIsInstance] - users without a type checker
            raise TypeError(f"a counter is needed, not {counter!r}")
        counter = counter._whole  # pyright: ignore[reportPrivateUsage] - both faces are one
        with self._lock:
            if counter not in self._living():
                self._counters.append(weakref.ref(counter))

    def _living(self) -> list[InstanceAwareCounter]:
        """Return the counters that are still there, and forget the others."""
        found = [counter for ref in self._counters if (counter := ref()) is not None]
        found = [counter for counter in found if counter.statistics().state != "closed"]
        self._counters = [weakref.ref(counter) for counter in found]
        return found

    def samples(self) -> Iterator[Sample]:
        """Return each counter that has been started, in any order.

        No labels come twice: who has the id now is shown in place of whoever is superseded. That
        one is forgotten: its totals must not come back when the other one has ended.
        """
        # Of those who do not know it yet, and of the superseded, whoever has come last has the id.
        samples = list(self._samples())[::-1]
        samples.sort(key=lambda found: found[1].statistics.state == "superseded")
        shown: dict[tuple[str, str, str], Sample] = {}
        # Store, prefix and id, whatever the kind. Two stores may lead to one server.
        held: set[tuple[str, str, str]] = set()
        replaced: list[InstanceAwareCounter] = []
        for counter, sample in samples:
            prefix, _, instance = sample.labels
            place = _place_of(counter)
            if sample.statistics.state == "superseded" and (place, prefix, instance) in held:
                replaced.append(counter)
            else:
                shown.setdefault(sample.labels, sample)
            held.add((place, prefix, instance))
        with self._lock:
            self._counters = [ref for ref in self._counters if ref() not in replaced]
        yield from shown.values()

    def _samples(self) -> Iterator[tuple[InstanceAwareCounter, Sample]]:
        with self._lock:
            counters = self._living()
        for counter in counters:
            statistics = counter.statistics()
            if statistics.state == "new":
                continue  # though it may have been given an id that another one has
            try:
                instance = counter.instance_id
            except CounterClosedError:
                continue  # it starts at this moment, and has drawn none yet
            kind = "lax" if isinstance(counter, LaxInstanceAwareCounter) else "strict"
            slices = counter.own_slices()
            if self._keys is None:
                shown = sorted(key for key in slices if not has_tickets(key))
            else:
                shown = sorted(slices.keys() & self._keys)
            sample = Sample(
                (counter.prefix, kind, instance),
                statistics,
                len(slices),
                {key: slices[key] for key in shown[: self._max_keys]},
            )
            yield counter, sample
