"""The scenarios of `test_defects.py` fail when the defects are put back.

Each mutation breaks one rule of the package, as the reference breaks it, over the memory
store. (The Lua scripts are held to the same rules by the conformance kit.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from distkit_actors import DistkitError, LaxInstanceAwareCounter, StoreError
from distkit_actors._actor import _agenda
from distkit_actors._actor._agenda import Agenda
from distkit_actors._instance._buffered_key import BufferedKey
from distkit_actors._instance._session import Session
from distkit_actors._namespace import _observed_time, _reaper
from distkit_actors._namespace._entries import Step
from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._registry import Record, Registry, State
from distkit_actors._protocol._liveness import LivenessConfig
from distkit_actors._protocol._messages import Apply, Entry, Journal, Kind, Slice
from tests.behaviour import test_defects as scenarios
from tests.behaviour.world import MemoryBackend, World, run_on_mock_clock
from tests.harness import unique_prefix

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], None]


# ------------------------------------------------------------------------------ mutations


def reaper_without_epochs(patch: Patch) -> None:
    """H1, H2: a dead instance's slices leave the sum whether they counted or not."""

    def take_away(registry: Registry, record: Record, key: str) -> bool:
        registry.add(key, -record.slices.pop(key).value)
        return True

    patch.setattr(Registry, "take_away", take_away)


def no_blackout_guard(patch: Patch) -> None:
    """H3: silence of all is not noticed."""
    patch.setattr(_observed_time, "longest_silence", lambda *_: 2**63)


def unpack_fails(patch: Patch) -> None:
    """H4: a body with more slices than fit on Lua's stack fails the step."""
    reap = _reaper.reap

    def failing(registry: Registry, *rest: Any) -> Any:
        result = reap(registry, *rest)
        if any(len(registry.records[body].slices) >= 8000 for body in registry.reap_queue):
            raise StoreError("too many results to unpack")
        return result

    patch.setattr(_reaper, "reap", failing)


def floats(patch: Patch) -> None:
    """H5: values pass through a double."""
    total = Registry.total
    patch.setattr(Registry, "total", lambda registry, key: int(float(total(registry, key))))


def only_positive_slices_return(patch: Patch) -> None:
    """H6: a return claims what is greater than 0."""
    _filter_claims(patch, lambda slices: [k for k, piece in slices.items() if piece.value > 0])


def only_one_key_returns(patch: Patch) -> None:
    """H12: a return claims one key."""
    _filter_claims(patch, lambda slices: list(slices)[-1:])


def _filter_claims(patch: Patch, keep: Callable[[dict[str, Slice]], list[str]]) -> None:
    restart = Session._restart

    def mutant(session: Session, resumption: Any = None) -> None:
        restart(session, resumption)
        assert session._resumption is not None
        session._resumption.claims = deque(keep(session.slices))

    patch.setattr(Session, "_restart", mutant)


def failed_flush_forgets(patch: Patch) -> None:
    """H7: counts are forgotten when they are sent, so a repeat has none."""
    lost = Session.lost

    def mutant(session: Session) -> None:
        lost(session)
        if session._batch:
            session._batch.entries = [
                entry._replace(value=0, after=None) if entry.kind is Kind.ADD else entry
                for entry in session._batch.entries
            ]

    patch.setattr(Session, "lost", mutant)


def repeats_count_again(patch: Patch) -> None:
    """H7, H10: a batch that is repeated is executed again."""
    judge = Namespace._judge

    def mutant(namespace: Namespace, request: Any, now: int) -> Any:
        record = namespace.registry.records.get(request.instance)
        if isinstance(request, Apply) and record and request.seq == record.seq:
            record.seq = request.follows
        return judge(namespace, request, now)

    patch.setattr(Namespace, "_judge", mutant)


def reads_dip(patch: Patch) -> None:
    """H8: what is in flight is not part of the local view."""

    def without(buffered: BufferedKey) -> tuple[int, int]:
        if buffered.assign is None:
            return buffered.cumulative, buffered.own
        return buffered.cumulative + buffered.assign - buffered.own, buffered.assign

    patch.setattr(BufferedKey, "_without_delta", without)


def no_last_flush(patch: Patch) -> None:
    """H8: a counter that stops sends nothing more."""
    has_work = Agenda.has_work
    patch.setattr(Agenda, "has_work", lambda agenda: not agenda.stopping and has_work(agenda))


def reaping_without_bounds(patch: Patch) -> None:
    """H9: one step takes all of the dead away."""
    patch.setattr(_agenda, "_REAPING_BUDGET", 10**9)
    patch.setattr(_agenda, "_REAPING_BUDGET_OF_A_CROWD", 10**9)
    patch.setattr(_agenda, "_IDLE_REAPING_BUDGET", 10**9)


def reaped_instances_just_go_on(patch: Patch) -> None:
    """H11: the first batch after a death is executed as if nothing had happened."""
    judge = Namespace._judge

    def mutant(namespace: Namespace, request: Any, now: int) -> Any:
        record = namespace.registry.records.get(request.instance)
        if record and record.state is State.DEAD:
            namespace.registry.revive(request.instance, record, request.periods)
        return judge(namespace, request, now)

    patch.setattr(Namespace, "_judge", mutant)


def stale_slices_stay(patch: Patch) -> None:
    """H13, H14, H15: an instance keeps what a move of another has made void."""

    def catch_up(namespace: Namespace, record: Record, known: int) -> tuple[Journal, bool]:
        record.known = max(record.known, known)
        return namespace.registry.epochs.since(known)

    patch.setattr(Namespace, "_catch_up", catch_up)


def clear_is_recovered(patch: Patch) -> None:
    """H14: the next operation of another instance adds its old slice again."""
    run = Namespace._run

    def mutant(namespace: Namespace, step: Step, entry: Entry) -> Any:
        slices = step.record.slices
        own = slices.get(entry.key)
        if own and own.stamp < namespace.registry.epochs.of(entry.key):
            namespace.registry.add(entry.key, own.value)
            slices[entry.key] = own._replace(stamp=step.at)
        return run(namespace, step, entry)

    stale_slices_stay(patch)
    patch.setattr(Namespace, "_run", mutant)


def fixed_heartbeat(patch: Patch) -> None:
    """H16: a heartbeat every 15 seconds, whatever the threshold."""
    patch.setattr(LivenessConfig, "period", 15.0)


def first_value_for_ever(patch: Patch) -> None:
    """H17: a lax reader that knows a value does not ask again."""
    refresh = LaxInstanceAwareCounter._refresh

    async def mutant(counter: LaxInstanceAwareCounter, buffered: BufferedKey) -> None:
        if not buffered.has_base:
            await refresh(counter, buffered)

    patch.setattr(LaxInstanceAwareCounter, "_refresh", mutant)


def moves_do_not_move(patch: Patch) -> None:
    """`set` and `delete` change the sum, and leave the epoch where it is."""
    run = Namespace._run

    def mutant(namespace: Namespace, step: Step, entry: Entry) -> Any:
        if entry.kind is not Kind.MOVE:
            return run(namespace, step, entry)
        latest = namespace.registry.epochs.latest
        before = run(namespace, step, entry)
        namespace.registry.epochs.moved.pop(entry.key)
        namespace.registry.epochs.latest = latest
        return before

    patch.setattr(Namespace, "_run", mutant)


# ------------------------------------------------------------------------------ scenarios

H = scenarios
strict = {"flavour": "strict"}
lax = {"flavour": "lax"}

CASES: list[tuple[Callable[..., Any], Mutation]] = [
    (partial(H.test_h1_death_after_a_set_takes_nothing, **strict), reaper_without_epochs),
    (partial(H.test_h1_death_after_a_set_takes_nothing, **lax), moves_do_not_move),
    (partial(H.test_h2_death_after_a_delete_takes_nothing, **strict), reaper_without_epochs),
    (partial(H.test_h2_death_after_a_delete_takes_nothing, **lax), moves_do_not_move),
    (partial(H.test_h3_the_first_one_back_does_not_reap_the_rest, **strict), no_blackout_guard),
    (partial(H.test_h3_the_first_one_back_does_not_reap_the_rest, **lax), no_blackout_guard),
    (partial(H.test_h4_thousands_of_keys_on_a_dead_instance, **strict), unpack_fails),
    (partial(H.test_h5_values_beyond_the_floats_are_exact, start=2**53, **strict), floats),
    (partial(H.test_h5_values_beyond_the_floats_are_exact, start=2**53, **lax), floats),
    (partial(H.test_h6_negative_slices_return_too, **strict), only_positive_slices_return),
    (partial(H.test_h6_negative_slices_return_too, **lax), only_positive_slices_return),
    *(
        (
            partial(
                H.test_h7_a_failed_flush_neither_loses_nor_doubles,
                fault="drop_request",
                move=move,
                **lax,
            ),
            failed_flush_forgets,
        )
        for move in ("delete_on_instance", "set", "delete", "clear")
    ),
    *(
        (
            partial(
                H.test_h7_a_failed_flush_neither_loses_nor_doubles,
                fault="drop_reply",
                move=move,
                **flavour,
            ),
            repeats_count_again,
        )
        for move in ("delete", "set")
        for flavour in (strict, lax)
    ),
    (H.test_h8_reads_do_not_dip_during_a_flush, reads_dip),
    (H.test_h8_the_last_counts_are_flushed_at_the_end, no_last_flush),
    (
        partial(H.test_h9_the_dead_are_taken_away_in_small_steps, **strict),
        reaping_without_bounds,
    ),
    (partial(H.test_h9_a_long_batch_takes_more_of_the_dead_away, crowd=80), reaping_without_bounds),
    *(
        (
            partial(H.test_h10_a_big_batch_repeated_counts_once, fault="drop_reply", **flavour),
            repeats_count_again,
        )
        for flavour in (strict, lax)
    ),
    *(
        (
            partial(H.test_h11_a_batch_as_first_step_back_brings_everything, **flavour),
            reaped_instances_just_go_on,
        )
        for flavour in (strict, lax)
    ),
    *(
        (
            partial(H.test_h12_all_keys_return_not_only_the_touched_one, **flavour),
            only_one_key_returns,
        )
        for flavour in (strict, lax)
    ),
    (partial(H.test_h13_a_stale_slice_is_absent_for_its_owner, **strict), stale_slices_stay),
    (partial(H.test_h13_a_stale_slice_is_absent_for_its_owner, **lax), stale_slices_stay),
    (partial(H.test_h14_clear_stays_cleared, **strict), stale_slices_stay),
    (partial(H.test_h14_clear_stays_cleared, **strict), clear_is_recovered),
    (partial(H.test_h14_clear_stays_cleared, **lax), clear_is_recovered),
    (partial(H.test_h15_a_stale_slice_is_not_removed_again, **strict), stale_slices_stay),
    (partial(H.test_h15_a_stale_slice_is_not_removed_again, **lax), stale_slices_stay),
    (partial(H.test_h16_an_idle_instance_with_a_short_threshold_lives, **strict), fixed_heartbeat),
    (partial(H.test_h16_an_idle_instance_with_a_short_threshold_lives, **lax), fixed_heartbeat),
    (H.test_h17_an_idle_reader_sees_what_others_count, first_value_for_ever),
]


def _name(value: Any) -> str:
    function = getattr(value, "func", value)
    words = getattr(value, "keywords", {})
    return "-".join([function.__name__.removeprefix("test_"), *map(str, words.values())])


async def in_a_world(scenario: Callable[..., Any]) -> None:
    """Run a scenario as its test does."""
    with trio.fail_after(1000):  # on the mock clock
        await _in_a_world(scenario)


async def _in_a_world(scenario: Callable[..., Any]) -> None:
    async with trio.open_nursery() as nursery:
        world = World(MemoryBackend(), unique_prefix(), nursery)
        await scenario(world)
        await world.close()


@pytest.mark.parametrize(("scenario", "mutation"), CASES, ids=_name)
def test_the_scenario_fails_with_the_defect(
    monkeypatch: pytest.MonkeyPatch, scenario: Callable[..., Any], mutation: Mutation
) -> None:
    """The scenario passes; with the defect put back it finds a wrong answer, or an error."""
    run_on_mock_clock(partial(in_a_world, scenario))
    mutation(monkeypatch)
    with pytest.raises((AssertionError, DistkitError, BaseExceptionGroup, trio.TooSlowError)) as e:
        run_on_mock_clock(partial(in_a_world, scenario))
    # A mutation that no longer fits the code it changes finds nothing.
    assert not isinstance(e.value, BaseExceptionGroup) or e.value.subgroup(TypeError) is None


def test_every_defect_is_put_back() -> None:
    """No scenario is left out."""
    every = {name for name in vars(scenarios) if name.startswith("test_h")}
    assert every == {getattr(case, "func", case).__name__ for case, _ in CASES}
