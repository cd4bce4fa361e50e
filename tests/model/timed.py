"""Observed time (P40), explored with real times: every pattern of suspensions on a grid of ticks.

Each instance beats at the package's own pace unless it is suspended, and may be suspended at any
tick for any number of ticks. Instances may live by different paces. Jobs may come at any tick, be
heard once or twice, and leave. The server's clock may jump once in a history. Whatever the pattern:

* nobody is declared dead who was heard within its threshold, or within the part of it that a jump
  of the clock leaves, which is longer than its heartbeat interval;
* after a silence of everybody that was longer than threshold - interval, nobody is declared
  dead for one more threshold who was heard since the last time that this was so (I5);
* who stays silent is dead in time, as long as somebody beats normally (I3);
* who stays silent is dead before its observed time is two thresholds and three intervals,
  whoever comes and goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Final, NamedTuple, TypeAlias

from distkit_actors._instance._session import Phase, Session
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import Blackouts, Heard
from distkit_actors._namespace._registry import Record, State
from distkit_actors._protocol._liveness import MICROSECONDS, LivenessConfig
from distkit_actors._protocol._messages import Applied, Apply, Open, Opened, Periods, Slice
from tests.model.oracle import Violation

#: Some time long after the beginning.
_NOW: Final = 10**12
#: What blackouts had taken from observed time when an exploration begins.
_LOST: Final = 10**9
#: The one slice that everybody has.
_PIECE: Final = Slice(1, 1)

#: Who may be heard in a tick: an instance by its number, a job by its word.
Sign: TypeAlias = int | str
#: A job is heard and leaves, in one tick; or comes, and leaves in the next tick.
_VISITS, _COMES, _LEAVES = "a job comes and goes", "a job comes", "the job leaves"


class Rhythm:
    """The periods of one instance, in ticks of a second."""

    def __init__(self, threshold: int, interval: int) -> None:
        liveness = LivenessConfig.of(threshold, interval)
        self.threshold, self.interval = threshold, interval
        self.periods: Periods = liveness.periods
        self.period = round(liveness.period)  # between two beats
        if self.period * MICROSECONDS != int(liveness.period * MICROSECONDS + 0.5):
            raise ValueError(f"beats every {liveness.period} are off the grid")
        #: Silence that is taken for no blackout, half-way between what must differ.
        self.silence = (self.period + threshold - interval) / 2
        #: Nobody is silent for longer in observed time without being dead, in microseconds.
        self.longest = 2 * self.periods.threshold
        #: Nor is it then, in ticks, though others were held up and did not judge.
        self.bound = 2 * threshold + 3 * interval

    def patience(self, watcher: Rhythm, *, jumped: bool, unsteady: bool, overtaken: bool) -> int:
        """Return the age at which it must be dead if this one has beaten without a pause."""
        if watcher.period > self.silence and unsteady:
            # Others end the pauses of the watcher: each counts as an interval at least.
            return -(-self.bound // self.interval) * watcher.period
        if watcher.period > self.silence or jumped or overtaken:
            # The pauses of the watcher are blackouts for it, or the jump was, or another one was
            # late: a fresh threshold.
            return 2 * (self.threshold + watcher.period) + (watcher.period if jumped else 0)
        return self.threshold + watcher.period


@dataclass(frozen=True)
class Grid:
    """What is explored together."""

    by_periods: tuple[tuple[int, int], ...]
    """Threshold and interval of each instance, in ticks of a second."""
    job: tuple[int, int] | None = None
    """Those of the jobs, if there are any."""
    jumps: tuple[int, ...] = ()
    """How far the clock may jump, in ticks; once in a history."""

    def __str__(self) -> str:
        """Return what a report calls it."""
        words = ["instances of", *map("{0[0]}/{0[1]}".format, self.by_periods)]
        if self.job:
            words += ["jobs of", f"{self.job[0]}/{self.job[1]}"]
        if self.jumps:
            words += ["jumps of", *map("{:+}".format, self.jumps)]
        return " ".join(words)

    @cached_property
    def rhythms(self) -> tuple[Rhythm, ...]:
        """One for each instance."""
        return tuple(Rhythm(*periods) for periods in self.by_periods)

    @cached_property
    def visitor(self) -> Rhythm:
        """That of the jobs."""
        assert self.job is not None
        return Rhythm(*self.job)

    @cached_property
    def distinct(self) -> tuple[tuple[int, int], ...]:
        """The paces as the store tells them apart."""
        return tuple(dict.fromkeys(rhythm.periods[:2] for rhythm in self.rhythms))

    @cached_property
    def horizons(self) -> tuple[int, ...]:
        """Ages from here on are the same, for each instance."""
        return tuple(
            1
            + max(
                own.patience(other, jumped=bool(self.jumps), unsteady=unsteady, overtaken=True)
                for other in self.rhythms
                for unsteady in (False, True)
            )
            for own in self.rhythms
        )


def alike(instances: int, threshold: int, interval: int) -> Grid:
    """Return a grid of instances of one pace, without jobs and jumps."""
    return Grid(((threshold, interval),) * instances)


#: Explored by the tests.
GRIDS: Final = (
    # Intervals of a fifth and a third of the threshold; a tenth and half of it are among the long
    # ones.
    alike(2, 5, 1),
    alike(2, 6, 2),
    # The usual pause of the second is a silence that the first one dies of.
    Grid(((3, 1), (9, 3))),
    Grid(((3, 1),), job=(3, 1), jumps=(1, 20, -20)),
    Grid(((3, 1), (3, 1)), jumps=(20, -20)),
)
#: Explored by ``make modelcheck`` too.
LONG_GRIDS: Final = (
    alike(3, 3, 1),
    alike(3, 4, 1),
    alike(3, 5, 1),
    alike(2, 10, 1),
    alike(2, 12, 4),
    alike(2, 20, 10),
    Grid(((3, 1), (6, 2)), jumps=(1, 20, -1, -20)),
    Grid(((3, 1), (9, 3)), jumps=(30, -30)),
    Grid(((3, 1), (3, 1)), job=(3, 1)),
    Grid(((3, 1), (3, 1)), job=(9, 3)),
    Grid(((6, 2), (6, 2)), job=(3, 1)),
    Grid(((9, 3),), job=(3, 1), jumps=(2, 30, -30)),
)


class One(NamedTuple):
    """One instance, as the store and we see it; times are ticks ago."""

    age: int = 0  # heard last
    watched: tuple[bool, ...] = ()  # by whom who has beaten without a pause ever since
    blackouts: int = 0  # how many it was given time for since it was heard; 2 is many
    fresh: int = 0  # the one blackout ended that it was given time for
    observed: int = 0  # of this silence
    jumped: int = 0  # whether the clock has jumped since it was heard, and which way
    unsteady: bool = False  # a blackout was ended since by one who had not beaten without a pause
    overtaken: bool = False  # another one was heard since that was late (P42, overload)
    excused: bool = False  # so it lived, though it was overdue when the blackout began
    # What the store knows, in microseconds.
    heard: int = 0  # ago, as far as it matters
    silent: int = 0  # observed since then, or since a blackout ended after which it has had time
    graced: bool = False  # it has had that
    deadline: int = 0  # from now
    live: bool = True


class Timed(NamedTuple):
    """One state."""

    ones: tuple[One, ...]
    quiet: int  # nobody was heard, in ticks
    guest: bool  # a job has come in the last tick
    jumps: int  # how often the clock may still jump
    last: int  # somebody was heard, in microseconds ago; negative when the clock has jumped back
    ended: tuple[int, ...]  # the last blackout that matters of each pace, in microseconds ago


class Moment(NamedTuple):
    """What happens in one tick."""

    jump: int
    signs: tuple[Sign, ...]


@dataclass(slots=True)
class _Track:
    """What we know of one instance within a tick."""

    rhythm: Rhythm
    age: int
    watched: tuple[bool, ...]
    blackouts: int
    fresh: int
    observed: int
    jumped: int
    unsteady: bool
    overtaken: bool
    excused: bool
    live: bool

    def gap(self, quiet: int, gap: int, *, steady: bool) -> None:
        """Take a gap into account that lasted ``quiet``, and ``gap`` by the store's clock."""
        rhythm = self.rhythm
        self.unsteady |= gap > rhythm.silence and not steady
        overdue = self.overtaken and self.observed >= rhythm.threshold
        self.observed += min(gap, rhythm.interval) if gap > rhythm.silence else max(gap, 0)
        if quiet > rhythm.threshold - rhythm.interval:
            # A jump back hides it: the store cannot know that it gave no time.
            self.blackouts = min(2, self.blackouts + 1) if gap > rhythm.silence else 2
            self.fresh, self.excused = 0, overdue
        elif max(gap, quiet) > rhythm.silence:
            self.blackouts = min(2, self.blackouts + 1)

    @property
    def safe(self) -> float:
        """Ticks for which it cannot be dead after it was heard, or had a blackout."""
        rhythm = self.rhythm
        # A jump forward that is no longer than the silence cannot be told from one.
        return rhythm.threshold - (rhythm.silence if self.jumped > 0 else 0)


def first_of(grid: Grid) -> Timed:
    """Return where everybody has just been heard."""
    count = len(grid.by_periods)
    ones = tuple(
        One(watched=(True,) * count, fresh=own.threshold, deadline=own.periods.threshold)
        for own in grid.rhythms
    )
    return Timed(ones, 0, False, 1, 0, (_NOW,) * len(grid.distinct))


def explore(grid: Grid) -> int:
    """Visit every state; return how many there are, or raise `Violation`."""
    first = first_of(grid)
    parents: dict[Timed, tuple[Timed, Moment] | None] = {first: None}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        for moment in _moments(state, grid):
            try:
                new = _tick(state, moment, grid)
            except AssertionError as error:
                error.add_note(f"who was heard in each tick: {_history(parents, state, moment)}")
                raise
            if new not in parents:
                parents[new] = state, moment
                queue.append(new)
    return len(parents)


def _history(parents: dict[Timed, tuple[Timed, Moment] | None], state: Timed, last: Moment) -> str:
    moments = [last]
    while (parent := parents[state]) is not None:
        state, moment = parent
        moments.append(moment)
    return ", ".join(
        f"{'jump ' + format(jump, '+') + ' ' if jump else ''}{list(signs)}"
        for jump, signs in reversed(moments)
    )


def _moments(state: Timed, grid: Grid) -> Iterator[Moment]:
    """Give all that may happen in this tick.

    Of those whose beat is due any may be heard, in every order; and a job.
    """
    rhythms = grid.rhythms
    due = [n for n, one in enumerate(state.ones) if one.age + 1 >= rhythms[n].period]
    jobs = [_LEAVES] if state.guest else ["", _VISITS, _COMES] if grid.job else [""]
    for jump in (0, *(grid.jumps if state.jumps else ())):
        for job in jobs:
            extra = len(due) if job else -1
            signs = [*due, job]
            for count in range(bool(job), len(due) + bool(job) + 1):
                for order in permutations(range(len(due) + bool(job)), count):
                    if not job or extra in order:
                        yield Moment(jump, tuple(signs[index] for index in order))


def _tick(state: Timed, moment: Moment, grid: Grid) -> Timed:
    rhythms = grid.rhythms
    ns = _thaw(state, grid)
    registry = ns.registry
    now = _NOW + MICROSECONDS * (1 + moment.jump)
    direction = (moment.jump > 0) - (moment.jump < 0)
    tracks = [
        _Track(
            rhythms[number],
            one.age + 1,
            one.watched,
            one.blackouts,
            one.fresh + 1,
            one.observed,
            one.jumped or direction,
            one.unsteady,
            one.overtaken,
            one.excused,
            one.live,
        )
        for number, one in enumerate(state.ones)
    ]
    quiet, gap = state.quiet + 1, 1 + moment.jump + state.last // MICROSECONDS
    for sign in moment.signs:
        if quiet or gap:
            steady = isinstance(sign, int) and tracks[sign].age <= rhythms[sign].silence
            for track in tracks:
                track.gap(quiet, gap, steady=steady)
            quiet = gap = 0
        if isinstance(sign, int):
            judge = tracks[sign]
            # One that was held up judges nobody by its own lateness (P42, overload).
            in_time = judge.age <= judge.rhythm.silence and not judge.jumped
            for track in tracks:
                too_long = judge.age > track.rhythm.silence or bool(judge.jumped)
                track.overtaken |= not in_time and too_long
            judge.age = judge.blackouts = judge.observed = judge.jumped = 0
            judge.unsteady = judge.overtaken = judge.excused = False
            judge.watched = (True,) * len(tracks)
            judge.fresh = judge.rhythm.threshold
            _beat(ns, sign, judge.rhythm.periods, now)
            judge.live = True
        else:
            in_time = True
            _work(ns, sign, grid.visitor.periods, now)
        _check(ns, tracks, in_time=in_time)
        if sign == _COMES or (state.guest and _LEAVES in moment.signs):
            _check_guest(ns)
    regular = [track.age < track.rhythm.period for track in tracks]
    for number, track in enumerate(tracks):
        if not track.live:
            continue
        track.watched = tuple(w and s for w, s in zip(track.watched, regular, strict=True))
        for other, watched in enumerate(track.watched):
            if watched and track.age >= track.rhythm.patience(
                rhythms[other],
                jumped=bool(track.jumped),
                unsteady=track.unsteady,
                overtaken=track.overtaken,
            ):
                raise Violation(f"{number} was heard {track.age} ticks ago and is not dead")
    total = sum(record.state is State.LIVE for record in registry.records.values())
    guest = _COMES in moment.signs
    if registry.total("k") != total - guest:
        raise Violation(f"{total - guest} are alive, and the sum is {registry.total('k')}")
    jumps = state.jumps - bool(moment.jump)
    return _freeze(ns, tracks, Timed((), quiet, guest, jumps, 0, ()), now, grid)


def _check(ns: Namespace, tracks: list[_Track], *, in_time: bool) -> None:
    for number, track in enumerate(tracks):
        if not track.live:
            continue
        rhythm = track.rhythm
        if ns.registry.records[str(number)].state is State.LIVE:
            if in_time and track.observed >= rhythm.bound:
                raise Violation(f"{number} is not dead after {track.observed} observed ticks")
            continue
        track.live = False
        if track.age < track.safe:
            raise Violation(f"{number} was heard {track.age} ticks ago and declared dead")
        if track.fresh < track.safe and track.blackouts == 1 and not track.excused:
            raise Violation(f"{number} died {track.fresh} ticks after a blackout")


def _check_guest(ns: Namespace) -> None:
    if ns.registry.records["job"].state is State.DEAD:
        raise Violation("a job was heard in the last tick and declared dead")


def _beat(ns: Namespace, number: int, periods: Periods, now: int) -> None:
    name, incarnation = str(number), number + 1
    record = ns.registry.records[name]
    if record.state is State.LIVE:
        seq = record.seq
        reply = ns.execute(
            Apply(name, incarnation, seq + 1, 0, periods, budget=50, before=seq), now
        )
        if not isinstance(reply, Applied):
            raise Violation(f"{number} beats and is answered {reply}")
    else:
        session = Session(name, "", periods)
        session.phase, session.incarnation = Phase.LIVE, incarnation
        session.seq = session.used = 1
        session.slices["k"] = _PIECE
        session.begin((), budget=50)
        while (request := session.request()) is not None:
            session.receive(ns.execute(request, now))
    if record.state is not State.LIVE:
        raise Violation(f"{number} beats and is not alive")


def _work(ns: Namespace, sign: str, periods: Periods, now: int) -> None:
    """Have a job heard that has nothing to count."""
    if sign == _LEAVES:
        record = ns.registry.records["job"]
        incarnation, seq = record.incarnation, record.seq
    else:
        opened = ns.execute(Open("job", "nonce", 0, 1, inherit=False, periods=periods), now)
        assert isinstance(opened, Opened)
        incarnation, seq = opened.incarnation, 0
    leave = sign != _COMES
    reply = ns.execute(
        Apply("job", incarnation, seq + 1, 0, periods, leave=leave, budget=50, before=seq), now
    )
    if not isinstance(reply, Applied):
        raise Violation(f"a job is answered {reply}")


def _thaw(state: Timed, grid: Grid) -> Namespace:
    ns = Namespace()
    registry = ns.registry
    ns.born, ns.clock, registry.observed.last = 1, _NOW - state.last, _NOW - state.last
    by_periods = registry.observed.by_periods
    for periods, ended in zip(grid.distinct, state.ended, strict=True):
        by_periods[periods] = Blackouts(_LOST, _NOW - ended)
    for number, one in enumerate(state.ones):
        periods = grid.rhythms[number].periods
        record = registry.records[str(number)] = Record(number + 1, "", periods, 0)
        record.seq = 1
        record.deadline = _NOW + one.deadline
        if one.graced:
            record.heard = Heard(_NOW - one.heard, _LOST, _NOW - one.silent)
        else:
            record.heard = Heard(_NOW - one.heard, _LOST - (one.heard - one.silent))
        if one.live:
            by_periods[periods[:2]].living += 1
            record.slices["k"] = _PIECE
            registry.add("k", 1)
        else:
            record.state = State.DEAD
            registry.expiring[str(number)] = 2 * _NOW
    if state.guest:
        periods = grid.visitor.periods
        record = registry.records["job"] = Record(len(state.ones) + 1, "", periods, 0)
        record.seq = 1
        record.heard = Heard(
            _NOW - state.last, by_periods.setdefault(periods[:2], Blackouts()).lost
        )
        record.deadline = record.heard.at + periods.threshold
        by_periods[periods[:2]].living += 1
    for key in [key for key, blackouts in by_periods.items() if not blackouts.living]:
        del by_periods[key]
    return ns


def _freeze(ns: Namespace, tracks: list[_Track], state: Timed, now: int, grid: Grid) -> Timed:
    observed = ns.registry.observed
    steady = observed.steady(now)
    longest = max(rhythm.longest for rhythm in grid.rhythms)
    last = min(steady - observed.last, longest)
    frozen: list[One] = []
    ended = dict.fromkeys(grid.distinct, _NOW)
    for number, track in enumerate(tracks):
        rhythm = track.rhythm
        if not track.live:
            # Only its next beat matters, which is due or not.
            frozen.append(One(min(track.age, rhythm.period), live=False))
            continue
        record = ns.registry.records[str(number)]
        heard, blackouts = record.heard, observed.by_periods[rhythm.periods[:2]]
        silent = observed.last - (heard.graced or heard.at) - (blackouts.lost - heard.lost)
        ago = min(observed.last - heard.at, max(rhythm.periods.threshold, silent))
        if not heard.graced and blackouts.ended > heard.at:
            ended[rhythm.periods[:2]] = steady - blackouts.ended
        frozen.append(
            One(
                min(track.age, grid.horizons[number]),
                track.watched,
                track.blackouts,
                min(track.fresh, rhythm.threshold) if track.blackouts == 1 else rhythm.threshold,
                min(track.observed, rhythm.bound),
                track.jumped,
                track.unsteady,
                track.overtaken,
                track.excused,
                ago + last,
                silent + last,
                bool(heard.graced),
                max(record.deadline - observed.last, -MICROSECONDS) - last,
                True,
            )
        )
    return state._replace(
        ones=tuple(frozen),
        quiet=min(state.quiet, longest // MICROSECONDS),
        last=last,
        ended=tuple(ended.values()),
    )
