"""How many histories, how long, and from which seed."""

from __future__ import annotations

import os
import random
from unittest import mock

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from distkit_actors._actor import _batch_loop


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
    with mock.patch.object(_batch_loop, "_SOLO_STREAK", 2):
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
