"""What an instance and a store say to each other (``docs/protocol.md``, section 4).

All are immutable values. Times are microseconds of the store's clock, "stamps" are
instants of the namespace's own, always increasing clock.

This file is a little longer than others: it is the protocol's vocabulary, nearly without code, and
is read beside that section of the page.
"""

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from ._conditions import Condition
from ._immutable import Immutable

#: Most entries or claims in one message.
MAX_ENTRIES: Final = 1000
#: Most journal entries in one reply.
MAX_JOURNAL: Final = 1000
#: Most slices that one step takes away, of its own instance or of one that is forgotten.
MAX_PURGE: Final = 200
#: Most keys that one announcement names; of more it says that any may have changed.
MAX_CHANGED: Final = 100
#: Bound on what a folded entry adds, and on the values it is added to: two such
#: together stay inside int64, whatever the order of the operations in the fold.
FOLD_LIMIT: Final = 10**18
#: Most own moves in one piece of a resume: each costs the store a look at every instance.
MAX_MOVES: Final = 100


_Message = TypeVar("_Message", bound=tuple[object, ...])


class _Make(Protocol):
    def __call__(self, kind: type[_Message], fields: tuple[object, ...], /) -> _Message: ...


#: Makes a message, or another named tuple, of all its fields. To call the class takes a frame of
#: Python and 1500 instructions more. So this is for those of which each operation needs one.
made: Final = cast("_Make", tuple.__new__)  # pyright: ignore[reportUnknownMemberType] - typeshed's


class Kind(enum.Enum):
    """What one entry of a batch does; the value is its name on the wire."""

    __hash__ = object.__hash__  # that of enum is not in C, and kinds are looked up for each entry

    ADD = "+"
    """Add to the own slice; 0 only reads."""
    PUT = "="
    """Replace the own slice; 0 removes it."""
    MOVE = "!"
    """Move the epoch: every slice of the key goes, then the own slice is set; 0 for none."""
    CLEAR = "*"
    """Move the epoch of every key at once."""
    CLAIM = "^"
    """Re-assert a slice that the store may have lost, with the stamp it was created at."""
    FORGET = "-"
    """Mark an instance dead, and remove its slices. Its id stands in place of the key. A batch
    that moves an epoch has no such entry."""


class Entry(NamedTuple):
    """One operation, or several folded into one, of a batch."""

    kind: Kind
    """What it does."""
    key: str
    """Empty for CLEAR; the instance for FORGET."""
    value: int
    """ADD: how much to add. PUT, MOVE, CLAIM: what the own slice is to be. CLEAR, FORGET: 0."""
    after: int | None = None
    """ADD and CLAIM: own slice afterwards if the store holds what the instance believes;
    None where that would leave int64, so that it must be refused."""
    folded: bool = False
    """ADD: stands for several operations, so the store may answer `Rejection.SPLIT`."""
    stamp: int = 0
    """CLAIM: when the slice was created. A slice that is there already becomes one with it, and
    as old as the older one."""
    condition: Condition | None = None
    """ADD, PUT and MOVE: take effect only where this holds."""
    of_own: bool = False
    """The condition is about the own slice, not about the cumulative."""
    guarded: bool = False
    """ADD, PUT and CLAIM: takes back what was added before. If the key's epoch has moved, and the
    instance does not know it yet, the store answers `Rejection.MOVED` and changes nothing."""


class Previous(NamedTuple):
    """Values before the entry ran; the instance replays its operations on them."""

    cumulative: int
    """Sum over the slices that count."""
    slice: int
    """The instance's own."""


class ConditionFailed(NamedTuple):
    """The condition does not hold for these values; nothing changed."""

    cumulative: int
    """Sum over the slices that count."""
    slice: int
    """The instance's own."""


class Rejection(enum.Enum):
    """Why an entry has no values."""

    REFUSED = "!"
    """Would leave int64; nothing changed."""
    SPLIT = "/"
    """Too close to the limit for a folded entry; nothing changed, send one by one."""
    MOVED = "~"
    """A claim older than the key's epoch is void; so is what is guarded."""
    UNDONE = "-"
    """Nothing changed, as another entry of the same atomic batch was refused."""
    RETRY = "retry"
    """Never applied; the instance may send it again. Not on the wire."""
    UNKNOWN = "unknown"
    """Nobody can know whether it was applied. Not on the wire."""


#: What became of one entry.
Result: TypeAlias = Previous | ConditionFailed | Rejection


class Slice(NamedTuple):
    """An instance's contribution to a key: a non-zero value and the stamp of its creation."""

    value: int
    """How much it contributes; not 0."""
    stamp: int
    """When it was created."""


class Periods(NamedTuple):
    """The times an instance lives by, in microseconds."""

    threshold: int
    """Silent for longer than this, it is dead."""
    interval: int
    """Between two of its heartbeats; tells a blackout from a pause."""
    retention: int
    """How long its record outlives it."""


# --------------------------------------------------------------------------- requests


class Peek(Immutable):
    """Which incarnation holds this id, in which namespace?"""

    __slots__ = __match_args__ = ("instance",)

    instance: str
    """The id."""

    def __init__(self, instance: str) -> None:
        self._put("instance", instance)


class Open(NamedTuple):
    """Take the id over from incarnation ``expected`` (0: nobody), as a compare-and-set."""

    instance: str
    """The id that is to be taken over."""
    nonce: str
    """Drawn by the instance, so that a repeat is known from another one's request."""
    expected: int
    """The incarnation that has the id, as `Peeked` has told; 0 for none."""
    born: int
    """When the namespace was made, as `Peeked` has told."""
    inherit: bool
    """Continue the slices that are there; else they are a predecessor's, and go."""
    periods: Periods
    """The times that the instance lives by."""
    refuse: bool = False
    """Take the id over only if its holder is not alive; otherwise change nothing."""
    about: str = ""
    """What the instance says of itself: kept with it, and given out as it is."""
    partitions: int = 1
    """Over how many parts the instance spreads the namespace, of which this is one."""


class Load(NamedTuple):
    """Give a page of the slices that count, for an instance that inherits them.

    The last page is recorded under ``seq``, like everything that an instance learns. So the
    instance notices if the store goes back to a state before that page.
    """

    instance: str
    """The id of the instance that sends it."""
    incarnation: int
    """What `Opened` has given."""
    seq: int
    """Counts the requests of an incarnation; a repeat has the same."""
    cursor: str
    """Where to go on, as the page before has told; empty for the first page."""


class Apply(NamedTuple):
    """A batch. With no entries it is a heartbeat."""

    instance: str
    """The id of the instance that sends it."""
    incarnation: int
    """What `Opened` has given: the one with the highest number has the id."""
    seq: int
    """Counts the batches of an incarnation; a repeat has the same, and gets the first answer."""
    known: int
    """Journal stamp up to which the instance knows others' moves."""
    periods: Periods
    """The times that the instance lives by."""
    entries: Sequence[Entry] = ()
    """What to do, in this order; at most `MAX_ENTRIES`."""
    leave: bool = False
    """The instance leaves: after the entries it counts as dead. A repeat gets no results."""
    budget: int = 0
    """How many slices of the dead this step may take away."""
    atomic: bool = False
    """ADD and PUT entries are executed all, or none where one is refused."""
    before: int | None = None
    """The seq that must be the recorded one, as it was the last to be acknowledged; None:
    the number before ``seq``."""

    @property
    def follows(self) -> int:
        """The seq that must be the recorded one."""
        return self.seq - 1 if self.before is None else self.before


class Resume(NamedTuple):
    """One piece of a resume: it tells the store again what it should know of this instance."""

    instance: str
    """The id of the instance that sends it."""
    incarnation: int
    """What `Opened` has given."""
    seq: int
    """Counts the requests of an incarnation; a repeat has the same."""
    known: int
    """Journal stamp up to which the instance knows others' moves."""
    periods: Periods
    """The times that the instance lives by."""
    born: int
    """The namespace it answers to: a late copy means nothing to a successor."""
    first: bool
    """This is the first piece: forget what is left of the instance."""
    cleared: int = 0
    """Stamp of the last clear of anybody that the instance knows of."""
    moves: Sequence[tuple[str, int]] = ()
    """Own epoch moves: key, epoch."""
    claims: Sequence[Entry] = ()
    """Own slices that the store may have lost, and claims of nothing, as entries of kind CLAIM."""
    about: str = ""
    """In a first piece: what the instance says of itself."""
    partitions: int = 1
    """In a first piece: over how many parts the instance spreads the namespace."""
    since: int | None = None
    """`known` from before the return began. Until the return is complete, the instance may not have
    heard of moves that are archived. None: it is the same as ``known``."""

    @property
    def heard(self) -> int:
        """Journal stamp up to which the instance has heard of all moves, archived ones, too."""
        return self.known if self.since is None else self.since

    @property
    def follows(self) -> int:
        """The seq that must be the recorded one, unless this is a first piece."""
        return self.seq - 1


#: What an onlooker has observed of a namespace when it asks for the first time.
JUST_COME: Final = -1


class QueryKind(enum.Enum):
    """What a `Query` is about; the value is its name on the wire."""

    INSTANCES = "instances"
    """Who lives, and whose slices still wait to be taken away."""
    SLICES = "slices"
    """Whose slices a key's cumulative is the sum of."""
    KEYS = "keys"
    """Which keys have a cumulative that is not 0."""
    VALUES = "values"
    """What some keys' cumulatives are, and what in them is of the dead."""
    HELD = "held"
    """What slices an instance has that count."""


class Query(NamedTuple):
    """Give a page of what the namespace holds. Changes nothing."""

    instance: str
    """The id of the instance that asks; empty for an onlooker."""
    kind: QueryKind
    """What is asked for."""
    key: str = ""
    """SLICES: which key. HELD: which instance."""
    cursor: str = ""
    """Where to go on, as the page before has told; empty for the first page."""
    keys: Sequence[str] = ()
    """VALUES: which keys."""
    observed: int | None = None
    """For an onlooker: up to which steady time it has observed the namespace itself. Later silence
    proves nothing to it. With `JUST_COME` it believes the clock. None: an instance asks."""


class Forget(Immutable):
    """Mark an instance dead, and remove some of its slices; sent by an onlooker."""

    __slots__ = __match_args__ = ("instance", "target")

    instance: str
    """Empty, as an onlooker has no id."""
    target: str
    """The id of the instance that is taken for dead."""

    def __init__(self, instance: str, target: str) -> None:
        self._put("instance", instance)
        self._put("target", target)


class Watch(Immutable):
    """Announce changes from now on, until ``lease`` microseconds from now."""

    __slots__ = __match_args__ = ("instance", "lease")

    instance: str
    """The id of the instance that asks; empty for an onlooker."""
    lease: int
    """Microseconds from now for which changes are announced."""

    def __init__(self, instance: str, lease: int) -> None:
        self._put("instance", instance)
        self._put("lease", lease)


#: What a counter, or an onlooker, may ask of a store.
Request: TypeAlias = Peek | Open | Load | Apply | Resume | Query | Watch | Forget

# ---------------------------------------------------------------------------- replies


class Peeked(NamedTuple):
    """The incarnation that holds the id (0 for none), and when the namespace was born."""

    incarnation: int
    """Which one holds the id; 0 for none."""
    born: int
    """When the namespace was made; a successor of it has another."""
    alive: bool = False
    """It counts as alive: it is not taken for dead, and was heard within its threshold."""


class Opened(NamedTuple):
    """The id is taken. ``incarnation`` is new, or the one this nonce got before."""

    incarnation: int
    """The number under which the instance has the id."""
    known: int
    """Journal stamp: the instance need not be told of moves up to it."""
    inherited: bool
    """There may be slices to `Load`."""
    leftovers: bool
    """There are slices of a predecessor left, to be purged by a `Resume`."""


class Loaded(NamedTuple):
    """A page of slices; the last has no cursor."""

    cursor: str
    """Where the next page begins; empty if there is none."""
    slices: Sequence[tuple[str, int, int]]
    """Key, value, stamp."""


class Journal(NamedTuple):
    """What happened to epochs: others' moves the instance may not know."""

    cleared: int
    """Stamp of the last clear; 0 if there was none."""
    floor: int
    """Moves up to this stamp may have been forgotten, so claims that old are void."""
    latest: int
    """Stamp up to which the receiver knows everything once it has read this."""
    moves: Sequence[tuple[str, int]] = ()
    """Key and epoch, oldest first. If not all fit, those of the batch's own keys follow."""
    archived: int = 0
    """In answer to a `Resume`: moves up to this stamp may be archived, so they are not told."""


class Applied(NamedTuple):
    """Executed. If by an earlier copy, there is no journal, and no results of a leave."""

    at: int
    """The stamp of the step."""
    results: Sequence[Result]
    """What became of the entries, or of the claims, in their order."""
    journal: Journal | None = None
    """What happened to epochs; None where the request was executed by an earlier copy."""
    backlog: int = 0
    """Not 0: ask again soon. It is 1 if there are more moves to hear of. It is the number of living
    instances if slices of the dead are left and this step took some away: all of them ask then."""
    stuck: int = 0
    """Slices of the dead that this step could not take away without leaving int64."""
    again: bool = False
    """Leftovers remain: this first piece of a `Resume` only purged, send it again."""


class MustResume(Immutable):
    """Not executed: the store does not know the instance, or knows something else."""

    __slots__ = __match_args__ = ("recorded", "born")

    recorded: int | None
    """Last seq it has, None if no record at all."""
    born: int
    """When this namespace was made; a `Resume` must repeat it."""

    def __init__(self, recorded: int | None, born: int) -> None:
        self._put("recorded", recorded)
        self._put("born", born)


class Conflict(Immutable):
    """Not executed: another incarnation holds the id now, or one that is alive and stays."""

    __slots__ = __match_args__ = ("incarnation",)

    incarnation: int
    """Which one has the id."""

    def __init__(self, incarnation: int) -> None:
        self._put("incarnation", incarnation)


class Mismatch(Immutable):
    """Not executed: somebody lives who spreads the namespace over another number of parts."""

    __slots__ = __match_args__ = ("partitions",)

    partitions: int
    """Over how many."""

    def __init__(self, partitions: int) -> None:
        self._put("partitions", partitions)


class Stale(Immutable):
    """Not executed: a late copy; nobody waits for this answer."""

    __slots__ = ()


class QueryPage(NamedTuple):
    """A page of what was asked for; the last has no cursor. A name may come twice."""

    cursor: str
    """Where the next page begins; empty if there is none."""
    rows: Sequence[tuple[str, int, bool]]
    """INSTANCES: id, microseconds since its last sign of life, whether it counts as alive.
    SLICES: id, value, whether the instance counts as alive. KEYS: key, cumulative, True.
    VALUES: key, cumulative, True on the first page; then key, slice, False for each slice of one
    who does not count as alive. HELD: key, slice, True."""
    at: int = 0
    """The instant of steady time by which silence was judged."""
    about: Sequence[tuple[int, str]] = ()
    """INSTANCES: for each row the incarnation, and what the instance says of itself."""
    partitions: int = 0
    """Over how many parts the namespace is spread, of which this is one; 0 if nobody is there who
    says so."""


class Forgotten(Immutable):
    """What has become of the slices of an instance that is taken for dead."""

    __slots__ = __match_args__ = ("left", "gone")

    left: int
    """How many are left: ask again."""
    gone: int
    """How many this step has taken away."""

    def __init__(self, left: int, gone: int) -> None:
        self._put("left", left)
        self._put("gone", gone)


class Watched(Immutable):
    """What changes from now on is announced, until the lease is over."""

    __slots__ = ()


#: What a store may answer.
Reply: TypeAlias = (
    QueryPage
    | Watched
    | Forgotten
    | Peeked
    | Opened
    | Loaded
    | Applied
    | MustResume
    | Conflict
    | Mismatch
    | Stale
)
