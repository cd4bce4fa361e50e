"""How long a connection may be silent, which the least patient one of its users does not decide."""

from __future__ import annotations

from distkit_actors._stores._redis._silence import Silence


def test_half_of_somebodys_patience_in_silence_is_enough() -> None:
    silence = Silence(2.0)
    assert not silence.is_dead(0.9, 2.0)
    assert not silence.is_dead(4.9, 10.0)
    assert silence.is_dead(1.0, 2.0)


def test_after_each_loss_it_takes_longer_and_not_for_ever() -> None:
    silence = Silence(2.0)
    needed = []
    for _ in range(5):
        waited = 1.0
        while not silence.is_dead(waited, 2.0):
            waited += 1.0
        needed.append(waited)
    assert needed == [1.0, 4.0, 8.0, 16.0, 16.0]


def test_an_answer_in_good_time_makes_it_short_again() -> None:
    silence = Silence(2.0)
    assert silence.is_dead(2.0, 2.0)
    silence.heard(3.0)
    assert not silence.is_dead(2.0, 2.0)
    silence.heard(1.0)
    assert silence.is_dead(2.0, 2.0)
