"""Everybody comes at once: the work is done once, and nobody who lives is taken for dead (I14)."""

from __future__ import annotations

import pytest

from distkit_actors._namespace._namespace import Namespace
from distkit_actors._namespace._observed_time import Heard, Observed
from distkit_actors._protocol._messages import Periods
from tests.simulation.fleet import Policy, Seen, Simulation

#: Instances, keys of each, their threshold, and in how much time they all start: the work takes
#: longer than the threshold, and a batch is longer than what is read at once.
CROWDS = [
    (100, 600, 0.3, 0.01),
    (60, 1200, 0.5, 0.01),
    (150, 400, 0.45, 0.01),
    (100, 1000, 0.3, 0.01),
    (100, 1000, 0.3, 0.1),
]


def simulate(
    instances: int, keys: int, threshold: float, spread: float, policy: Policy | None = None
) -> Seen:
    simulation = Simulation(instances, keys, threshold, policy=policy, patience=0.2, spread=spread)
    work = instances * keys * simulation.costs.entry
    assert work > 0.9 * threshold
    seen = simulation.run(4 * work)
    seen.exact = simulation.wrong == 0
    seen.work = work
    return seen


@pytest.mark.parametrize(("instances", "keys", "threshold", "spread"), CROWDS)
def test_i14_a_crowd_that_starts_at_once_gets_through(
    instances: int, keys: int, threshold: float, spread: float
) -> None:
    seen = simulate(instances, keys, threshold, spread)
    assert seen.exact
    assert not seen.deaths
    assert seen.done < 3 * seen.work


def at_rest(instances: int, keys: int, threshold: float) -> Simulation:
    """Return a fleet that has started at its ease and done all it wanted."""
    simulation = Simulation(instances, keys, threshold, patience=0.2, spread=5.0)
    simulation.run(8.0)
    assert simulation.wrong == 0
    assert not simulation.seen.deaths
    simulation.seen.work = instances * keys * simulation.costs.entry
    return simulation


def let_all_come_back(simulation: Simulation, interval: float) -> None:
    """Hold that all tell the store again what they have, in time, and that nobody is reaped."""
    seen, begun = simulation.seen, simulation.elapsed
    deaths = len(seen.deaths)
    simulation.go_on_for(interval + 4 * seen.work)
    assert simulation.wrong == 0
    assert len(seen.deaths) == deaths
    assert begun < seen.returned < begun + interval + 3 * seen.work


def test_i14_a_fleet_that_heals_at_once_gets_through() -> None:
    """Each hears with its next heartbeat that the store has lost everything."""
    instances, keys, threshold, _ = CROWDS[3]
    simulation = at_rest(instances, keys, threshold)
    simulation.wipe()
    let_all_come_back(simulation, threshold / 3)


def test_i14_a_fleet_that_returns_at_once_gets_through() -> None:
    """All but one were cut off for long, and the one has reaped them, or begun to."""
    instances, keys, threshold, _ = CROWDS[2]
    simulation = at_rest(instances, keys, threshold)
    for instance in simulation.fleet[1:]:
        instance.cut_off = True
    simulation.go_on_for(6 * threshold + 3)
    assert len(simulation.seen.deaths) > 0.9 * (instances - 1)
    for instance in simulation.fleet:
        instance.cut_off = False
    let_all_come_back(simulation, threshold / 3)


def test_whoever_judges_though_it_was_held_up_itself_reaps_the_living(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The simulation sees the defect that it is there for."""
    monkeypatch.setattr(Observed, "note_lateness", lambda *_: 0)
    assert simulate(*CROWDS[0]).deaths


def test_whoever_judges_though_others_were_held_up_reaps_the_living(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Short requests overtake long ones, so whoever is in time may judge one who was before it."""
    note = Observed.note_lateness

    def forgetful(observed: Observed, periods: Periods, heard: Heard) -> int:
        ended = {key: blackouts.ended for key, blackouts in observed.by_periods.items()}
        late = note(observed, periods, heard)
        for key, instant in ended.items():
            observed.by_periods[key].ended = instant
        return late

    monkeypatch.setattr(Observed, "note_lateness", forgetful)
    assert simulate(*CROWDS[-1]).deaths


def test_a_repeat_that_is_no_sign_of_life_has_the_living_reaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = Namespace._judge

    def mutant(namespace: Namespace, request: object, now: int) -> object:
        record = namespace.registry.records.get(request.instance)  # type: ignore[attr-defined]
        if record is not None and record.seq == request.seq:  # type: ignore[attr-defined]
            return record.reply
        return judge(namespace, request, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Namespace, "_judge", mutant)
    assert any(simulate(*crowd).deaths for crowd in CROWDS)


def test_patience_that_does_not_grow_has_more_sent_again() -> None:
    crowd = (100, 1000, 3.0)
    impatient = simulate_repeats(crowd, Policy(patience=False))
    patient = simulate_repeats(crowd, Policy())
    assert patient < impatient


def simulate_repeats(crowd: tuple[int, int, float], policy: Policy) -> int:
    simulation = Simulation(*crowd, policy=policy, patience=0.1)
    return simulation.run(5.0).repeats
