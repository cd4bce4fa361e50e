"""How many histories, how long, and from which seed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast
from unittest import mock

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from distkit_actors._actor import _batch_loop
from distkit_actors._namespace import _epochs
from distkit_actors._stores._redis._lua_constants import CONSTANTS
from distkit_actors._stores._redis._scripts import load_scripts

#: So few moves stay in the journal, and go to the archive at once, as histories are short.
_ARCHIVING: Final = {"JOURNAL_KEPT": 1, "ARCHIVE_AT_LEAST": 1}


@contextmanager
def _archiving() -> Iterator[None]:
    """Have stores put moves away early, in Python and in Lua."""
    scripts = mock.patch.dict(cast("dict[str, int | str]", CONSTANTS), _ARCHIVING)
    with mock.patch.multiple(_epochs, **_ARCHIVING), scripts:
        load_scripts.cache_clear()
        yield
    load_scripts.cache_clear()


def run_histories(machine: type[RuleBasedStateMachine], *, default: int) -> None:
    """Run random histories; print the seed, so that it can be given again.

    Environment: ``DISTKIT_HISTORIES`` (how many), ``DISTKIT_STEPS`` (how long, 40),
    ``DISTKIT_SEED``.
    """
    count = int(os.environ.get("DISTKIT_HISTORIES", default))
    steps = int(os.environ.get("DISTKIT_STEPS", "40"))
    seed = int(os.environ.get("DISTKIT_SEED", random.SystemRandom().randrange(2**32)))
    print(f"{machine.__name__}: {count} histories of {steps} steps; DISTKIT_SEED={seed}")
    # A lone operation is sent by its caller sooner than usual, as few here come one by one (P38,
    # lone operation).
    with mock.patch.object(_batch_loop, "_SOLO_STREAK", 2), _archiving():
        run_state_machine_as_test(
            hypothesis.seed(seed)(machine),
            settings=settings(
                max_examples=count,
                stateful_step_count=steps,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
