"""Does the gate promote what is better, and nothing else?"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmd.artifact.card import Verdict
from mmd.config import GateConfig
from mmd.promotion.answers import Comparison, Judged, log_softmax
from mmd.promotion.chances import chances, exact_mcnemar, joint_chances
from mmd.promotion.gate import Contender, Evidence, judge

CLASSES = ("a", "b", "c")


def judged(is_right: "list[bool] | np.ndarray[tuple[int], np.dtype[np.bool_]]", sure: float = 0.8) -> Judged:
    """Return what a model said that is right where told, with the probability `sure` for its answer."""
    count = len(is_right)
    labels = np.arange(count) % len(CLASSES)
    answers = np.where(is_right, labels, (labels + 1) % len(CLASSES))
    probabilities = np.full((count, len(CLASSES)), (1 - sure) / (len(CLASSES) - 1))
    probabilities[np.arange(count), answers] = sure
    return Judged(labels, np.log(probabilities)[None])


def comparison(before: list[bool], after: list[bool], *, sure_after: float = 0.8) -> Comparison:
    return Comparison(judged(before), judged(after, sure_after))


def verdict(
    holdout: Comparison,
    anchor: Comparison | None = None,
    *,
    out_of_fold: Comparison | None = None,
    **settings: float,
) -> Verdict:
    contender = Contender(Evidence(holdout, out_of_fold), anchor or comparison([True] * 100, [True] * 100))
    return judge(
        [contender],
        GateConfig(**settings),  # type: ignore[arg-type]
        round_number=1,
        generation_before=0,
        classes=CLASSES,
    )[1]


def test_a_candidate_that_is_clearly_better_is_promoted() -> None:
    result = verdict(comparison([False] * 10 + [True] * 20, [True] * 30))
    assert result.promoted
    assert result.code == "better"
    assert (result.holdout_right_before, result.holdout_right_after, result.holdout_total) == (20, 30, 30)
    assert "20 -> 30 right of 30 held-out samples, p = 0.001 against 0.05." in result.reason


def test_the_serving_model_itself_is_not_better_than_itself() -> None:
    result = verdict(comparison([True] * 20 + [False] * 10, [True] * 20 + [False] * 10))
    assert not result.promoted
    assert result.code == "not_better_than_chance"
    assert result.p_value == 1.0
    assert "p = 1 against 0.05." in result.reason


def test_two_more_right_of_thirty_may_be_chance() -> None:
    before = [True] * 20 + [False] * 10
    after = [True] * 22 + [False] * 8
    result = verdict(comparison(before, after))
    assert result.code == "not_better_than_chance"
    assert result.p_right == 0.25


def test_surer_answers_win_even_when_as_many_are_right() -> None:
    right = [True] * 28 + [False] * 2
    before, after = judged(right, 0.6), judged(right, 0.7)
    result = verdict(Comparison(before, after))
    assert result.code == "better"
    assert "28 -> 28 right of 30 held-out samples, 57.3% -> 66.3% sure of the true classes, p" in result.reason


def test_a_lower_loss_with_fewer_right_is_not_promoted() -> None:
    before = judged([True] * 30, 0.4)
    after = judged([True] * 29 + [False], 0.95)
    result = verdict(Comparison(before, after))
    assert result.log_loss_after < result.log_loss_before
    assert result.code == "fewer_right"


def test_a_candidate_that_forgets_the_general_task_is_not_promoted() -> None:
    better = comparison([False] * 10 + [True] * 20, [True] * 30)
    result = verdict(better, comparison([True] * 100, [True] * 98 + [False] * 2))
    assert result.code == "anchor_fell"
    assert "100 -> 98 right of 100" in result.reason


def test_losing_exactly_the_margin_on_the_anchor_set_is_allowed() -> None:
    better = comparison([False] * 10 + [True] * 20, [True] * 30)
    assert verdict(better, comparison([True] * 100, [True] * 99 + [False])).promoted
    assert verdict(better, comparison([True] * 7, [True] * 6 + [False]), anchor_margin=0.15).promoted


def test_too_few_held_out_samples_are_never_enough() -> None:
    result = verdict(comparison([False] * 7, [True] * 7))
    assert result.code == "too_few_to_judge"
    assert "Only 7" in result.reason
    assert "8 are needed" in result.reason


def test_samples_out_of_fold_judge_together_with_the_held_out_ones() -> None:
    held_out, folds = (
        comparison([False] * 2 + [True] * 4, [True] * 6),
        comparison([False] * 5 + [True] * 9, [True] * 14),
    )
    alone = verdict(held_out, min_judged=1)
    assert alone.code == "not_better_than_chance"
    together = verdict(held_out, out_of_fold=folds)
    assert together.promoted
    assert (together.holdout_right_before, together.holdout_right_after, together.holdout_total) == (4, 6, 6)
    counts = (together.out_of_fold_right_before, together.out_of_fold_right_after, together.out_of_fold_total)
    assert counts == (9, 14, 14)
    assert "4 -> 6 right of 6 held-out samples and 9 -> 14 of 14 out of fold" in together.reason


def test_a_recipe_that_fails_out_of_fold_is_not_saved_by_the_held_out_samples() -> None:
    held_out, folds = (
        comparison([False] * 3 + [True] * 9, [True] * 12),
        comparison([True] * 36, [True] * 30 + [False] * 6),
    )
    assert verdict(held_out, out_of_fold=folds).code == "fewer_right"


def test_no_held_out_sample_at_all_is_too_few() -> None:
    result = verdict(comparison([], []))
    assert result.code == "too_few_to_judge"
    assert result.p_value == 1.0
    assert result.confusion_before == ((0, 0, 0),) * 3


def test_an_empty_anchor_set_has_nothing_to_lose() -> None:
    assert verdict(comparison([False] * 30, [True] * 30), comparison([], [])).promoted


def test_outputs_that_are_not_finite_are_never_promoted() -> None:
    good = judged([True] * 30)
    broken = Judged(good.labels, np.full_like(good.log_probabilities, np.nan))
    result = verdict(Comparison(good, broken))
    assert result.code == "not_finite"
    assert math.isfinite(result.log_loss_after)


def test_the_confusion_counts_every_held_out_sample_once() -> None:
    result = verdict(comparison([True, False] * 15, [True] * 30))
    assert sum(map(sum, result.confusion_before)) == 30
    assert sum(row[index] for index, row in enumerate(result.confusion_before)) == 15
    assert result.confusion_after == ((10, 0, 0), (0, 10, 0), (0, 0, 10))


@pytest.mark.parametrize(
    ("wins", "losses", "expected"), [(0, 0, 1.0), (1, 0, 0.5), (5, 0, 1 / 32), (5, 1, 7 / 64), (3, 3, 42 / 64)]
)
def test_mcnemar_counts_tosses_of_a_fair_coin(wins: int, losses: int, expected: float) -> None:
    assert exact_mcnemar(wins, losses) == pytest.approx(expected)


def test_few_samples_are_judged_by_all_sign_patterns() -> None:
    before, after = judged([True] * 5, 0.5), judged([True] * 5, 0.6)
    assert chances(Comparison(before, after), seed=1).log_loss == pytest.approx(1 / 32)


def test_many_samples_are_judged_by_a_seeded_draw() -> None:
    rng = np.random.default_rng(0)
    before, after = judged(rng.random(60) < 0.7), judged(rng.random(60) < 0.8)
    one, two = (chances(Comparison(before, after), seed=5) for _ in range(2))
    assert one == two
    assert one.right == pytest.approx(_sign_flip_estimate(before, after), abs=0.02)


def _sign_flip_estimate(before: Judged, after: Judged) -> float:
    gains = after.is_right.astype(int) - before.is_right.astype(int)
    signs = np.random.default_rng(9).choice([-1, 1], (20_000, len(gains)))
    return float(((signs * gains).sum(axis=1) >= gains.sum()).mean())


def test_looking_at_all_figures_is_paid_for() -> None:
    rng = np.random.default_rng(2)
    before, after = judged(rng.random(40) < 0.6), judged(rng.random(40) < 0.8)
    result = chances(Comparison(before, after), seed=1)
    best = min(result.log_loss, result.right, result.certainty)
    assert best - 0.01 <= result.combined <= 3 * best + 0.01


@pytest.mark.parametrize(("samples", "candidates"), [(12, 400), (40, 100)])
def test_equally_good_models_are_promoted_no_more_often_than_promised(samples: int, candidates: int) -> None:
    """Candidates that are as good as the serving model: at most 5 % plus three standard errors get through."""
    rng = np.random.default_rng(11)
    promoted = 0
    for _ in range(candidates):
        labels = rng.integers(0, 3, samples)
        base = rng.normal(0, 1, (samples, 3))
        base[np.arange(samples), labels] += 1.0
        one, two = (Judged(labels, log_softmax(base + rng.normal(0, 0.7, base.shape))[None]) for _ in range(2))
        promoted += verdict(Comparison(one, two)).promoted
    assert promoted / candidates <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / candidates)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=25))
def test_a_promoted_candidate_always_keeps_every_promise(pairs: list[tuple[bool, bool]]) -> None:
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    result = verdict(comparison(before, after))
    for p in (result.p_log_loss, result.p_right, result.p_certainty, result.p_value):
        assert 0 < p <= 1
    if result.promoted:
        assert result.holdout_right_after >= result.holdout_right_before
        assert result.p_value <= result.significance == 0.05
        assert result.holdout_total >= 8


def in_views(*shares: float) -> Judged:
    """Return what a model said that gives the true class of 30 samples one of these probabilities in each view."""
    labels = np.zeros(30, np.int64)
    of_truth = np.repeat(np.array(shares)[:, None], 30, axis=1)
    return Judged(labels, np.log(np.stack([of_truth, 1 - of_truth], axis=2)))


def test_a_candidate_that_is_surer_only_in_other_views_is_better_too() -> None:
    result = verdict(Comparison(in_views(0.9, 0.5, 0.5), in_views(0.9, 0.8, 0.8)))
    assert result.promoted
    assert result.p_log_loss == 1.0, "the samples themselves are read as before"
    assert result.p_certainty == result.p_value < 0.001


def test_views_are_no_further_samples() -> None:
    few = Comparison(Judged(*_first(in_views(0.5, 0.5), 3)), Judged(*_first(in_views(0.9, 0.9), 3)))
    assert chances(few, seed=1).certainty == pytest.approx(1 / 8)
    assert verdict(few).code == "too_few_to_judge"


def _first(said: Judged, count: int) -> tuple[np.ndarray, np.ndarray]:
    return said.labels[:count], said.log_probabilities[:, :count]


def test_an_owner_may_ask_less_of_a_memory_alone_than_of_trained_weights() -> None:
    after = [True] * 2 + [False] * 18 + [True] * 20
    memory, trained = replace(contender(after), is_memory_alone=True), contender(after)
    assert not choose(memory)[1].promoted, "by default it needs as much"
    place, result = choose(trained, memory, memory_significance=0.3)
    assert (place, result.code, result.significance) == (1, "better", 0.3)
    assert 0.05 < result.p_value <= 0.3
    assert choose(trained, memory_significance=0.3)[1].code == "not_better_than_chance"


def test_a_memory_that_makes_nothing_better_is_not_promoted() -> None:
    same = replace(contender([False] * 20 + [True] * 20), is_memory_alone=True)
    assert choose(same)[1].code == "not_better_than_chance"


def test_log_softmax_survives_great_logits() -> None:
    values = log_softmax(np.array([[1000.0, 0.0, -1000.0]], np.float32))
    assert np.isfinite(values).all()
    assert np.exp(values).sum() == pytest.approx(1.0)


def contender(after: list[bool], *, anchor_lost: int = 0, sure: float = 0.8) -> Contender:
    """Return a candidate against a model that has 20 of 40 right."""
    general = comparison([True] * 100, [True] * (100 - anchor_lost) + [False] * anchor_lost)
    return Contender(Evidence(Comparison(judged([False] * 20 + [True] * 20), judged(after, sure))), general)


def choose(*contenders: Contender, memory_significance: float = 0.05) -> tuple[int, Verdict]:
    settings = GateConfig(memory_significance=memory_significance)
    return judge(list(contenders), settings, round_number=1, generation_before=0, classes=CLASSES)


def test_of_several_that_are_better_the_surest_of_the_truth_serves() -> None:
    good, better = contender([False] * 10 + [True] * 30), contender([True] * 40)
    assert choose(good, better)[0] == 1
    place, result = choose(better, good)
    assert (place, result.promoted, result.holdout_right_after) == (0, True, 40)


def test_the_best_that_keeps_the_general_task_serves_when_a_better_one_forgets_it() -> None:
    forgetful, careful = contender([True] * 40, anchor_lost=5), contender([False] * 8 + [True] * 32)
    place, result = choose(forgetful, careful)
    assert (place, result.code) == (1, "better")
    alone = choose(careful)[1]
    assert result.p_value == alone.p_value, "what the anchor set refused was never looked at"


def test_looking_at_more_candidates_is_paid_for() -> None:
    rng = np.random.default_rng(1)
    candidates = [contender([bool(right) for right in rng.random(40) < 0.62]) for _ in range(6)]
    together = joint_chances([one.evidence.judged for one in candidates], seed=1)
    for one, corrected in zip(candidates, together, strict=True):
        assert corrected.combined >= chances(one.evidence.judged, seed=1).combined


def test_when_none_is_better_the_verdict_is_on_the_nearest() -> None:
    place, result = choose(contender([False] * 25 + [True] * 15), contender([False] * 20 + [True] * 20))
    assert (place, result.code) == (1, "not_better_than_chance")


def test_the_verdict_says_which_of_several_candidates_it_is_on() -> None:
    memory = replace(contender([False] * 10 + [True] * 30), name="a memory")
    trained = replace(contender([True] * 40), name="the trained weights")
    assert choose(memory, trained)[1].reason.endswith("The best of 2 candidates: the trained weights.")
    assert "candidates" not in choose(trained)[1].reason
    poor = replace(contender([False] * 20 + [True] * 20), name="the trained weights")
    assert choose(poor, poor)[1].reason.endswith("The nearest of 2 candidates: the trained weights.")
