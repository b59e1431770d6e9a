"""Is each new sample left out once, and is a fold model the same round without it?"""

from collections import Counter

from tests.plans import round_plan

from mmd.training.folds import NO_FOLD, assign_folds, fold_plans, kept_places, left_out_places

LABELS = {f"{number:02d}": number % 3 for number in range(20)}


def test_every_labelled_sample_has_a_fold_and_every_fold_its_share_of_each_class() -> None:
    folds = assign_folds(LABELS, seen=(), count=4)
    assert Counter(folds) == {0: 5, 1: 5, 2: 5, 3: 5}
    shares = Counter(zip(LABELS.values(), folds, strict=True))
    assert set(shares.values()) <= {1, 2}


def test_what_has_no_label_or_was_seen_is_never_left_out() -> None:
    labels = LABELS | {"03": -1}
    folds = dict(zip(labels, assign_folds(labels, seen={"05", "06"}, count=4), strict=True))
    assert {name for name, fold in folds.items() if fold == NO_FOLD} == {"03", "05", "06"}


def test_too_few_new_samples_or_no_folds_wanted_leave_nothing_out() -> None:
    assert assign_folds(LABELS, seen=set(list(LABELS)[3:]), count=4) == ()
    assert assign_folds(LABELS, seen=(), count=0) == ()
    assert assign_folds({"a": 0, "b": 1}, seen=(), count=2) == (), "a fold model would have nothing to train on"


def test_the_folds_do_not_depend_on_the_order_of_the_samples() -> None:
    backwards = dict(reversed(LABELS.items()))
    found = dict(zip(backwards, assign_folds(backwards, seen=(), count=4), strict=True))
    assert found == dict(zip(LABELS, assign_folds(LABELS, seen=(), count=4), strict=True))


def test_the_plans_of_the_folds_leave_out_every_sample_once() -> None:
    plan = round_plan(folds=tuple(number % 3 for number in range(30)))
    plans = fold_plans(plan)
    assert len(plans) == 3
    left_out = [set(plan.sample_ids) - set(each.sample_ids) for each in plans]
    assert set.union(*left_out) == set(plan.sample_ids)
    assert sum(map(len, left_out)) == len(plan.sample_ids)
    for number, each in enumerate(plans):
        assert each.folds == ()
        assert each.steps == 4 * 4, "4 epochs of 20 samples in places of 6"
        assert [plan.labels[place] for place in kept_places(plan, number)] == list(each.labels)
        assert not {plan.sample_ids[place] for place in left_out_places(plan, number)} & set(each.sample_ids)
    assert plan.steps_in_all == 20 + 3 * 16
