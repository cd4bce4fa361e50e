"""The conformance kit for stores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeGuard

import trio

from .._stores._contract import Store
from . import _checks_about as about
from . import _checks_batches as batches
from . import _checks_counters as counters
from . import _checks_entries as entries
from . import _checks_epochs as epochs
from . import _checks_ids as ids
from . import _checks_incarnations as incarnations
from . import _checks_links as links
from . import _checks_looks as looks
from . import _checks_parts as parts
from . import _checks_push as push
from . import _checks_queries as queries
from . import _checks_several as several
from . import _checks_time as time
from ._reply_validator import ReplyValidator

#: Seconds that no check takes unless it hangs.
_PATIENCE: Final = 100.0

#: Every check, the simplest first.
CHECKS: Final[tuple[Callable[[Store], Awaitable[None]], ...]] = (
    counters.strict_operations,
    counters.lax_operations,
    counters.numbers_are_exact,
    counters.overflow_is_refused,
    counters.many_at_once,
    links.one_after_the_other,
    counters.names_do_not_mix,
    several.several_keys,
    several.conditional_operations,
    several.holds_end,
    several.the_fleet_is_seen,
    push.changes_are_told,
    push.values_are_followed,
    batches.entries_run_in_order,
    batches.bad_entries_harm_nobody,
    batches.folds_are_split_near_the_limits,
    batches.a_slice_nobody_counts_is_none,
    batches.a_thousand_entries,
    batches.repeats_get_the_first_answer,
    batches.gaps_are_noticed,
    batches.what_was_withdrawn_is_noticed,
    batches.links_work_side_by_side,
    links.links_look_at_settings,
    incarnations.newcomers_take_over,
    incarnations.heirs_continue,
    incarnations.thousands_of_slices,
    incarnations.resumes_reassert,
    incarnations.strangers_resume,
    incarnations.slices_become_one,
    epochs.epochs_are_told,
    epochs.clears_take_what_is_older,
    epochs.long_journals_come_in_pages,
    epochs.moves_are_reasserted,
    incarnations.leavers_leave,
    entries.whole_batches_stand_or_fall,
    entries.what_is_undone_was_never_made,
    entries.conditions_are_decided_in_order,
    entries.conditions_are_exact,
    entries.verdicts_are_remembered,
    entries.guards_stop_what_is_void,
    entries.guards_look_beyond_what_is_told,
    queries.the_forgotten_are_dead,
    queries.forgetting_is_bounded,
    queries.queries_tell_who_has_what,
    queries.queries_come_in_pages,
    about.instances_say_who_they_are,
    about.the_lost_say_who_they_are,
    looks.looks_are_free_of_the_dead,
    looks.onlookers_forget,
    looks.prefixes_are_found,
    parts.the_living_agree_on_parts,
    parts.the_number_of_parts_may_change,
    parts.parts_do_not_mix,
    time.the_dead_stop_counting,
    time.reaping_is_bounded,
    time.an_answer_is_free_of_the_dead,
    time.the_dead_return,
    time.heartbeats_keep_alive,
    ids.the_living_keep_their_ids,
    time.a_blackout_kills_nobody,
    time.a_newcomer_that_ends_a_blackout_kills_nobody,
    time.blackouts_keep_nobody_alive,
    ids.the_departed_are_forgotten,
    time.old_moves_are_forgotten,
    queries.queries_tell_who_is_there,
)


async def check_store(  # noqa: ASYNC910 - the checks have checkpoints
    make_store: Callable[[], Store | Awaitable[Store]],
) -> None:
    """Check that a store keeps the contract of `Store`.

    For people who write a store of their own::

        @pytest.mark.trio
        async def test_my_store() -> None:
            await check_store(MyStore)

    Every operation is tried through real counters, then the requests that counters send
    when things go wrong: repeated, late, after a gap, for an id that was taken over. It
    works on any clock that moves, and waits for some seconds of it in all, because some
    checks are about who is dead; for these a step should take less than 40 ms. Connections
    are not cut, and nothing is cancelled. Every check uses prefixes that nobody has used before,
    and leaves in the store what instances leave that die. A checkpoint; when cancelled, it
    leaves that of the checks it has begun.

    Args:
        make_store: Called once for each check; returns the store to be checked, or an
            awaitable of it. All that it returns may be one store.

    Raises:
        AssertionError: The store does something else than it should. Its notes name the
            check; its cause is what a counter made of it, if that is how it was found.
    """
    for check in CHECKS:
        made = make_store()
        validator = ReplyValidator(made if isinstance(made, Store) else await made)
        try:
            with trio.fail_after(_PATIENCE):
                await check(validator)
        except Exception as error:  # noqa: BLE001 - whatever it is, the store caused it
            failure = _failure(error, validator.complaint)
            failure.add_note(f"in check {check_name(check)!r} of check_store: {check.__doc__}")
            raise failure from (None if failure is error else error)


def check_name(check: Callable[[Store], Awaitable[None]]) -> str:
    """Return what a check is called."""
    return getattr(check, "__name__", repr(check))


def _failure(error: Exception, complaint: str | None) -> AssertionError:
    """Return ``error`` as the store's fault. A broken store may crash a counter in many ways."""
    if complaint is not None:
        return AssertionError(complaint)
    inner: BaseException = error
    while _is_group(inner) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    if isinstance(inner, AssertionError):
        return inner
    if isinstance(inner, trio.TooSlowError):
        return AssertionError(f"no end after {_PATIENCE} seconds")
    return AssertionError(f"a counter or the kit stumbled: {inner!r}")


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    return isinstance(error, BaseExceptionGroup)
