"""Operations that travel together do what they would have done one after another (P4, no partial
effect; P13, values before).

Whatever is queued, each caller gets the value or the error of its own operation, and the
store ends as it would have, also at the limits of int64 and of folding. A plain model says
what is right. The operations are carried once by hand, with the parts of an actor and no
store, and once by real counters over Redis.
"""

# ruff: noqa: SIM300 - expected == actual, all through

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st

from distkit_actors import (
    CounterOverflowError,
    LaxInstanceAwareCounter,
    MemoryStore,
    RedisStore,
    StrictInstanceAwareCounter,
)
from distkit_actors._actor import _mailbox
from distkit_actors._actor._crowd import Crowd
from distkit_actors._actor._dispatch import Dispatch
from distkit_actors._actor._life import Life
from distkit_actors._actor._mailbox import Mailbox
from distkit_actors._namespace import _entries
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._protocol._messages import (
    FOLD_LIMIT,
    Applied,
    Apply,
    Entry,
    Kind,
    Rejection,
    Reply,
    Slice,
)
from distkit_actors.testing import FaultyStore
from tests.behaviour.world import (
    MAX,
    MIN,
    Tap,
    World,
    outcome,
    run_on_mock_clock,
    run_on_real_clock,
)
from tests.harness import unique_prefix
from tests.harness.server import RedisServer

US = "us"
OTHERS = ("other", "another")
KEYS = "abc"

Call = tuple[str, str, int]  # operation, key, count or 0
Wave = list[Call]  # made at the same time, in this order
Preset = tuple[str, str, int]  # another instance, key, its slice
Task = Callable[[], Awaitable[None]]


# ------------------------------------------------------------------------------- the model


class Model:
    """Every operation by itself, in the order of the calls."""

    def __init__(self) -> None:
        self.slices = {key: dict.fromkeys((US, *OTHERS), 0) for key in KEYS}

    def run(self, who: str, operation: str, key: str, count: int) -> object:
        """Return the value for the caller, or the class of its error."""
        old = self.slices[key]
        new = dict.fromkeys(old, 0) if operation in ("set", "delete") else dict(old)
        new[who] = old[who] + count if operation in ("inc", "get") else count
        own, cumulative = new[who], sum(new.values())
        if not (MIN <= own <= MAX and MIN <= cumulative <= MAX):
            return CounterOverflowError
        self.slices[key] = new
        if operation == "delete":
            return sum(old.values()), old[who]
        return cumulative, old[who] if operation == "delete_on_instance" else own

    def value(self, who: str, key: str) -> tuple[int, int]:
        return sum(self.slices[key].values()), self.slices[key][who]


# -------------------------------------------------------------------------------- examples

SMALL = (1, -1, 2, -2, 3)
LIMITS = (FOLD_LIMIT, -FOLD_LIMIT, FOLD_LIMIT // 2, 2**62, MAX, MIN)
LARGE = tuple(
    limit + offset
    for limit in LIMITS
    for offset in (0, -1, 1, -2, 2)
    if MIN <= limit + offset <= MAX
)


def one_of(**counts: Sequence[int]) -> st.SearchStrategy[tuple[str, str, int]]:
    """Return a name with a key, oftenest the first, and one of the counts of the name."""
    # In one draw, because drawing is what takes the time.
    return st.sampled_from(
        [(name, key, count) for name in counts for count in counts[name] for key in "aaaabc"]
    )


PLAIN_CALL = one_of(get=[0], inc=(1, -1, 1, -1, 3, -2))
CALL = one_of(
    get=[0] * 6,
    inc=SMALL * 8 + LARGE,
    delete=[0] * 2,
    delete_on_instance=[0] * 2,
    set=(0, 1, *LIMITS),
    set_on_instance=(0, 1, *LIMITS),
)
CALL_WITH_ANY_COUNT = st.tuples(
    st.sampled_from(["inc", "set", "set_on_instance"]),
    st.sampled_from(KEYS),
    st.integers(MIN, MAX),
)
WAVE = st.one_of(
    st.lists(PLAIN_CALL, max_size=10),
    st.lists(CALL, max_size=10),
    st.lists(CALL_WITH_ANY_COUNT, max_size=5),
)
PRESET = one_of(**dict.fromkeys(OTHERS, (MAX, MAX - 1, MAX - 3, MIN, MIN + 2) * 5 + LARGE))
_RANDOM = given(
    presets=st.lists(PRESET, max_size=4),
    waves=st.lists(WAVE, max_size=3),
    mailbox_size=st.sampled_from([100, 100, 2, 1]),
    cut=st.booleans(),
)
#: Counts that cancel out where there is no room for the first: hardly any random history has it.
_RARE = example(
    presets=[("other", "a", MAX)],
    waves=[[("inc", "a", 5), ("inc", "a", -5), ("get", "a", 0)]],
    mailbox_size=100,
    cut=False,
)


class Halves(Crowd):
    """Cuts those few who wait here, as if they were a crowd."""

    def portion(self, keys: int, operations: int, trip: float) -> int:
        return max(1, keys // 2)


def histories(test: Callable[..., None]) -> Callable[..., None]:
    """Have a test run with random histories, and with the rare one."""
    return _RARE(_RANDOM(test))


def in_turn(
    counter: StrictInstanceAwareCounter, calls: Sequence[Call]
) -> tuple[Task, list[object]]:
    """Return a task to be started once for each call, and the list of what the callers get.

    Tasks start in any order, so each makes the call whose turn it is.
    """
    outcomes: list[object] = [None] * len(calls)
    turns = iter(enumerate(calls))

    async def task() -> None:
        index, (operation, key, count) = next(turns)
        counts = [count] if operation in ("inc", "set", "set_on_instance") else []
        outcomes[index] = await outcome(partial(getattr(counter, operation), key, *counts))

    return task, outcomes


async def at_once(counter: StrictInstanceAwareCounter, calls: Sequence[Call]) -> list[object]:
    """Make calls that all wait before the first one is sent."""
    task, outcomes = in_turn(counter, calls)
    async with trio.open_nursery() as nursery:
        for _ in calls:
            nursery.start_soon(task)
    return outcomes


def note_verdicts(replies: Sequence[Reply]) -> None:
    """Have the statistics tell how many examples come to the limits."""
    for reply in replies:
        for result in reply.results if isinstance(reply, Applied) else ():
            if isinstance(result, Rejection):
                event(f"the store says {result.name}")


# --------------------------------------------------------------------------------- by hand


class Hand:
    """A counter whose actor does not run: what that would do is done by hand."""

    def __init__(
        self, namespace: Namespace, name: str, mailbox_size: int = 100, *, cut: bool = False
    ) -> None:
        self.namespace = namespace
        self.counter = StrictInstanceAwareCounter(
            "p", MemoryStore(), instance_id=name, mailbox_size=mailbox_size
        )
        self.counter._actor._course.now = Life.RUNNING
        self.session = self.counter._actor._session
        self.dispatch = self.counter._actor._dispatch
        if cut:
            self.dispatch.crowd = Halves()
        self.replies: list[Reply] = []
        self.exchange()

    def begin(self) -> None:
        self.session.begin(self.dispatch.collect(1.0, math.inf, flush=False))

    def exchange(self) -> None:
        while (request := self.session.request()) is not None:
            reply = self.namespace.execute(request, now=1_000_000)
            self.replies.append(reply)
            self.dispatch.settle(self.session.receive(reply), now=1.0)

    async def carry(self, waves: Sequence[Wave]) -> list[object]:
        """Make calls, each wave while a batch is on its way; return what the callers get."""
        calls = [call for wave in waves for call in wave]
        task, outcomes = in_turn(self.counter, calls)
        async with trio.open_nursery() as nursery:
            for wave in waves:
                self.begin()
                for _ in wave:
                    nursery.start_soon(task)
                await trio.testing.wait_all_tasks_blocked()
                self.exchange()
            for _ in range(2 * len(calls)):  # a batch for each, and for each fold that is split
                if self.dispatch.waiting:
                    self.begin()
                    self.exchange()
            assert not self.dispatch.waiting
        return outcomes


async def carried_by_hand(
    presets: list[Preset], waves: list[Wave], mailbox_size: int, cut: bool
) -> None:
    namespace, model = Namespace(), Model()
    us = Hand(namespace, US, mailbox_size, cut=cut)
    others = {name: Hand(namespace, name) for name in OTHERS}
    for name, key, count in presets:
        others[name].session.begin([Entry(Kind.PUT, key, count)])
        others[name].exchange()
        model.run(name, "set_on_instance", key, count)

    expected = [model.run(US, *call) for wave in waves for call in wave]
    assert expected == await us.carry(waves)

    registry = namespace.registry
    for key in KEYS:
        for name in (US, *OTHERS):
            found = registry.records[name].slices.get(key)
            own = found.value if found and found.stamp >= registry.epochs.of(key) else 0
            assert model.value(name, key) == (registry.total(key), own)
        believed = us.session.slices.get(key, Slice(0, 0)).value
        assert model.value(US, key)[1] == believed
    note_verdicts(us.replies)


@settings(max_examples=500, deadline=None)
@histories
def test_by_hand(presets: list[Preset], waves: list[Wave], mailbox_size: int, cut: bool) -> None:
    """Callers and store get what the model says, whatever arrives while a batch is out."""
    trio.run(carried_by_hand, presets, waves, mailbox_size, cut)


# ---------------------------------------------------------------------------- over a store


async def carried_to_redis(
    url: str, presets: list[Preset], waves: list[Wave], mailbox_size: int, cut: bool
) -> None:
    tap, prefix, model = Tap(RedisStore(url)), unique_prefix(), Model()
    async with AsyncExitStack() as stack:

        async def join(name: str, **options: Any) -> StrictInstanceAwareCounter:
            counter = StrictInstanceAwareCounter.open(prefix, tap, instance_id=name, **options)
            return await stack.enter_async_context(counter)

        us = await join(US, mailbox_size=mailbox_size)
        if cut:
            us._actor._dispatch.crowd = Halves()
        counters = {US: us} | {name: await join(name) for name in OTHERS}
        for name, key, count in presets:
            call = ("set_on_instance", key, count)
            assert [model.run(name, *call)] == await at_once(counters[name], [call])
        for wave in waves:
            assert [model.run(US, *call) for call in wave] == await at_once(us, wave)
        for name, counter in counters.items():
            for key in KEYS:
                assert model.value(name, key) == await counter.get(key)
    note_verdicts([reply for _, _, reply in tap.seen])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@histories
def test_over_redis(
    redis_server: RedisServer,
    presets: list[Preset],
    waves: list[Wave],
    mailbox_size: int,
    cut: bool,
) -> None:
    """Callers and store get what the model says, and every counter reads it."""
    carried = partial(carried_to_redis, redis_server.url, presets, waves, mailbox_size, cut)
    run_on_real_clock(carried)


@pytest.mark.parametrize(
    ("others", "own", "sent"),
    [
        (FOLD_LIMIT - 1, 0, [6]),
        (1 - FOLD_LIMIT, 0, [6]),
        (FOLD_LIMIT, 0, ["split", 3, 2, 1]),
        (-FOLD_LIMIT, 0, ["split", 3, 2, 1]),
        (MAX - 5, 0, ["split", 3, 2, 1]),
        (1, FOLD_LIMIT - 2, [6]),
        (-FOLD_LIMIT, FOLD_LIMIT, [3, 2, 1]),
        (FOLD_LIMIT, -FOLD_LIMIT - 9, [3, 2, 1]),
    ],
)
async def test_what_comes_close_to_the_limits_is_sent_one_by_one(
    world: World, others: int, own: int, sent: list[object]
) -> None:
    """The store splits a fold by the cumulative; the own slice is known before.

    P13, values before.
    """
    a, b = await world.strict(), await world.strict()
    await b.inc("a", others)
    await a.inc("a", own)
    first = len(world.tap(a).seen)
    model = Model()
    model.slices["a"] |= {US: own, "other": others}
    calls = [("inc", "a", count) for count in (3, 2, 1)]
    assert [model.run(US, *call) for call in calls] == await at_once(a, calls)
    assert sent == [
        "split" if reply.results == (Rejection.SPLIT,) else entry.value
        for _, request, reply in world.tap(a).seen[first:]
        if isinstance(request, Apply) and isinstance(reply, Applied)
        for entry in request.entries
    ]


async def test_counts_that_cancel_out_overflow_all_the_same(world: World) -> None:
    """A fold that adds nothing is near the limit too where its parts are."""
    a, b = await world.strict(), await world.strict()
    await b.inc("a", MAX)
    outcomes = await at_once(a, [("inc", "a", 5), ("inc", "a", -5), ("get", "a", 0)])
    assert [CounterOverflowError, (MAX - 5, -5), (MAX - 5, -5)] == outcomes
    assert (MAX - 5, MAX) == await b.get("a")


# --------------------------------------------------------------------------------- defects

Patch = pytest.MonkeyPatch


def mailbox_folds_anything(patch: Patch) -> None:
    patch.setattr(_mailbox, "FOLD_LIMIT", 2**100)


def store_never_splits(patch: Patch) -> None:
    patch.setattr(_entries, "FOLD_LIMIT", 2**100)


def store_adds_nothing_anywhere(patch: Patch) -> None:
    """A fold that adds nothing is only read, and not split."""
    run = Namespace._run

    def mutant(namespace: Namespace, record: Any, entry: Entry, *rest: Any) -> Any:
        if entry.kind is Kind.ADD and entry.value == 0:
            entry = entry._replace(folded=False)
        return run(namespace, record, entry, *rest)

    patch.setattr(Namespace, "_run", mutant)


def folds_are_refused_whole(patch: Patch) -> None:
    run = Namespace._run

    def mutant(*arguments: Any) -> Any:
        result = run(*arguments)
        return Rejection.REFUSED if result is Rejection.SPLIT else result

    patch.setattr(Namespace, "_run", mutant)


def all_of_a_fold_find_the_same(patch: Patch) -> None:
    def mutant(dispatch: Dispatch, coalesced: Any, before: Any, *rest: Any) -> None:
        for operation in coalesced.operations:
            operation.done(*before)

    patch.setattr(Dispatch, "_deliver", mutant)


def what_was_split_waits_in_reverse(patch: Patch) -> None:
    give_back = Mailbox.give_back
    patch.setattr(Mailbox, "give_back", lambda mailbox, ops: give_back(mailbox, ops[::-1]))


def what_was_split_is_folded_again(patch: Patch) -> None:
    give_back = Mailbox.give_back

    def mutant(mailbox: Mailbox, operations: list[Any]) -> None:
        for operation in operations:
            operation.folds = True
        give_back(mailbox, operations)

    patch.setattr(Mailbox, "give_back", mutant)


def counts_overtake_the_rest(patch: Patch) -> None:
    pack = Mailbox._pack

    def mutant(mailbox: Mailbox, queues: Any, key: str, *rest: Any) -> Any:
        queue = sorted(queues[key], key=lambda op: op.kind is not Kind.ADD)
        queues[key].clear()
        queues[key].update(dict.fromkeys(queue))
        return pack(mailbox, queues, key, *rest)

    patch.setattr(Mailbox, "_pack", mutant)


@pytest.mark.parametrize(
    "defect",
    [
        mailbox_folds_anything,
        store_never_splits,
        store_adds_nothing_anywhere,
        folds_are_refused_whole,
        all_of_a_fold_find_the_same,
        what_was_split_waits_in_reverse,
        what_was_split_is_folded_again,
        counts_overtake_the_rest,
    ],
    ids=lambda defect: defect.__name__,
)
def test_a_defect_is_caught(monkeypatch: Patch, defect: Callable[[Patch], None]) -> None:
    """What is proven by hand above is not so with the defect."""
    # Random histories find all but one, which took 2000 of them, and sometimes more.
    rare = defect is store_adds_nothing_anywhere
    phase = Phase.explicit if rare else Phase.generate

    @settings(max_examples=2000, deadline=None, derandomize=True, database=None, phases=[phase])
    @histories
    def by_hand(presets: list[Preset], waves: list[Wave], mailbox_size: int, cut: bool) -> None:
        trio.run(carried_by_hand, presets, waves, mailbox_size, cut)

    defect(monkeypatch)
    with pytest.raises((AssertionError, ExceptionGroup)):
        by_hand()


# ------------------------------------------------------------------------------------- lax


async def counted_lax(others: int, steps: list[int | None]) -> None:
    tap = Tap(MemoryStore())
    wire = FaultyStore(tap)
    wire.delay(0.001)  # so that a `flush` that comes back too early is seen
    async with (
        StrictInstanceAwareCounter.open("p", tap) as b,
        LaxInstanceAwareCounter.open("p", wire, flush_interval=1000.0) as a,
    ):
        await b.set_on_instance("k", others)
        await a.get("k")
        own = pending = 0
        for step in [*steps, None]:
            if step is None:
                first = len(tap.seen)
                await a.flush()
                sent = [
                    entry.value
                    for request in tap.requests[first:]
                    if isinstance(request, Apply)
                    for entry in request.entries
                ]
                assert pending == sum(sent)
                assert len(sent) == bool(pending) or not MIN <= pending <= MAX
                assert len(sent) <= 3
                assert (others + own, others) == await b.get("k")
                pending = 0
            elif MIN <= own + step <= MAX and MIN <= others + own + step <= MAX:
                a.inc_nowait("k", step)
                own, pending = own + step, pending + step
                if not MIN <= pending <= MAX:
                    event("more is pending than one entry carries")
            else:
                with pytest.raises(CounterOverflowError):
                    a.inc_nowait("k", step)
            assert (others + own, own) == a.get_nowait("k")


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.just(0), st.lists(st.sampled_from((None, 1, MAX, MIN, MIN + 1)), max_size=12))
    | st.tuples(
        st.sampled_from((1, -1, *LARGE)),
        st.lists(st.sampled_from((None, *SMALL, *LARGE)) | st.integers(MIN, MAX), max_size=12),
    )
)
@example((0, [MIN, None, 1, MAX, MAX, None]))
@example((0, [MAX, None, MIN, MIN + 1, None]))
def test_lax_counts_between_two_flushes_go_as_one(history: tuple[int, list[int | None]]) -> None:
    """One entry carries what was counted, or a few where the sum exceeds int64."""
    run_on_mock_clock(partial(counted_lax, *history))
