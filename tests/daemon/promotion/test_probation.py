"""Does the probation find a worse model, spare one that is not, and never say more than it knows?"""

import math

import numpy as np
import pytest

from mmd.config import GateConfig
from mmd.promotion.probation import Trial, evidence_of_worse, review

SETTINGS = GateConfig()


def trial(won: int, lost: int, *, both: int = 0, neither: int = 0) -> Trial:
    judged = won + lost + both + neither
    return Trial(judged=judged, right_before=both + lost, right_after=both + won, won=won, lost=lost)


def state(of: Trial, settings: GateConfig = SETTINGS) -> str:
    return review(of, settings, generation=3, generation_before=2, now=0.0).state


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (0, 1), (3, 5), (0, 9), (12, 30)])
def test_the_evidence_is_the_mixture_of_all_bets(won: int, lost: int) -> None:
    width = 1e-5
    shares = np.arange(0.5 + width / 2, 1.0, width)
    fortunes = (2 * shares) ** lost * (2 * (1 - shares)) ** won
    assert evidence_of_worse(trial(won, lost)) == pytest.approx(2 * width * fortunes.sum(), rel=1e-6)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (2, 3), (7, 1), (20, 20)])
def test_a_fair_coin_adds_nothing_to_it_on_average(won: int, lost: int) -> None:
    """The fortune is a martingale: that is why it may be looked at after every sample."""
    after = [evidence_of_worse(trial(won + 1, lost)), evidence_of_worse(trial(won, lost + 1))]
    assert sum(after) / 2 == pytest.approx(evidence_of_worse(trial(won, lost)))


def test_without_a_difference_there_is_no_evidence() -> None:
    assert evidence_of_worse(trial(0, 0, both=40, neither=5)) == 1.0


def test_seven_samples_lost_and_none_won_end_it_and_six_do_not() -> None:
    assert state(trial(0, 6)) == "open"
    assert state(trial(0, 7)) == "failed"


def test_a_model_that_wins_as_much_as_it_loses_passes_when_enough_have_judged() -> None:
    assert state(trial(5, 5, both=39)) == "open"
    assert state(trial(5, 5, both=40)) == "passed"


def test_a_model_that_fails_on_the_last_sample_does_not_pass() -> None:
    assert state(trial(0, 10, both=90)) == "failed"


def test_the_owner_says_how_sure_it_must_be() -> None:
    assert state(trial(0, 7), GateConfig(significance=0.001)) == "open"
    assert state(trial(0, 14), GateConfig(significance=0.001)) == "failed"


def test_thousands_of_samples_are_no_trouble() -> None:
    assert math.isfinite(evidence_of_worse(trial(400, 600)))


def test_the_reason_names_what_was_counted() -> None:
    failed = review(trial(1, 12, both=3), SETTINGS, generation=3, generation_before=2, now=5.0)
    assert failed.reason == (
        "Worse than generation 2 by more than chance: 15 -> 4 right of 16 samples that came since."
    )
    assert (failed.generation, failed.generation_before, failed.reviewed) == (3, 2, 5.0)
    still_open = review(trial(1, 2), SETTINGS, generation=3, generation_before=2, now=5.0)
    assert still_open.reason == "2 -> 1 right of 3 samples that came since; 50 end the probation."


def test_looking_after_every_sample_takes_back_hardly_a_model_that_is_as_good() -> None:
    """Of 400 equally good pairs, looked at after each of 50 samples that tell them apart, at most 5 % are expected."""
    rng = np.random.default_rng(0)
    taken_back = 0
    for _ in range(400):
        lost = 0
        for number, is_lost in enumerate(rng.random(50) < 0.5, 1):
            lost += int(is_lost)
            if evidence_of_worse(trial(number - lost, lost)) >= 1 / SETTINGS.significance:
                taken_back += 1
                break
    assert taken_back <= 0.05 * 400
