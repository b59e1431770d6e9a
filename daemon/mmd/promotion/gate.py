"""Is the candidate better than the serving model, by more than chance? Pure statistics, no file and no network.

Why these tests, and what asking again and again does, is in `docs/adr/0002-gate.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmd.artifact.card import Confusion, Verdict
from mmd.config import GateConfig

Doubles = NDArray[np.float64]

_EXACT_UP_TO = 14
"""With this many samples or fewer all 2^n sign patterns are tried."""
_DRAWS = 20_000
_CHUNK = 256
_SLACK = 1e-9
"""Relative; sums that differ by rounding only count as equal."""


@dataclass(frozen=True)
class Judged:
    """What one model said about some labelled samples."""

    labels: NDArray[np.int64]
    """[n]"""
    log_probabilities: Doubles
    """[n, classes]"""

    @property
    def is_right(self) -> NDArray[np.bool_]:
        predicted: NDArray[np.bool_] = self.log_probabilities.argmax(axis=1) == self.labels
        return predicted

    @property
    def log_losses(self) -> Doubles:
        losses: Doubles = -self.log_probabilities[np.arange(len(self.labels)), self.labels]
        return losses

    def joined(self, other: "Judged") -> "Judged":
        """Return what was said about both lots of samples."""
        return Judged(
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.log_probabilities, other.log_probabilities]),
        )

    def confusion(self) -> Confusion:
        """Return the counts [true class][predicted class]."""
        classes = self.log_probabilities.shape[1]
        table = np.zeros((classes, classes), np.int64)
        np.add.at(table, (self.labels, self.log_probabilities.argmax(axis=1)), 1)
        return tuple(tuple(map(int, row)) for row in table)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same samples."""

    before: Judged
    after: Judged

    @property
    def total(self) -> int:
        return len(self.before.labels)

    @property
    def right_before(self) -> int:
        return int(self.before.is_right.sum())

    @property
    def right_after(self) -> int:
        return int(self.after.is_right.sum())

    def joined(self, other: "Comparison") -> "Comparison":
        """Return both comparisons as one: each sample keeps the answers that it got."""
        return Comparison(self.before.joined(other.before), self.after.joined(other.after))


@dataclass(frozen=True)
class Chances:
    """How likely a candidate that is no better would look at least this good."""

    log_loss: float
    right: float
    combined: float
    """Of the smaller of the two, corrected for having looked at both of every candidate (Westfall & Young's min-p)."""


def log_softmax(logits: NDArray[np.floating]) -> Doubles:
    """Return log probabilities [n, classes] in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True).astype(np.float64)
    normalised: Doubles = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def exact_mcnemar(wins: int, losses: int) -> float:
    """Return P(at least `wins` heads in `wins + losses` fair tosses): the one-sided exact McNemar test."""
    tosses = wins + losses
    favourable: int = sum(math.comb(tosses, heads) for heads in range(wins, tosses + 1))
    return favourable / int(1 << tosses)


def chances(comparison: Comparison, *, seed: int) -> Chances:
    """Return the one-sided paired permutation tests of both figures, and of the better of the two."""
    return joint_chances([comparison], seed=seed)[0]


def joint_chances(comparisons: Sequence[Comparison], *, seed: int) -> list[Chances]:
    """Return the tests for several candidates on the same samples, each corrected for having looked at all of them.

    Were a candidate as good as the serving model, each sample's pair of differences could as well have had the other
    sign. All sign patterns are tried for few samples, and a seeded draw of them for many, where the observed one counts
    as drawn. A pattern flips a sample for all candidates at once, so that what they have in common costs nothing.
    """
    gains = np.concatenate([_gains(comparison) for comparison in comparisons], axis=1)
    sums = _flipped_sums(gains, seed)
    tails = np.stack([_tail_shares(column) for column in sums.T], axis=1)
    smallest = tails.min(axis=1)
    return [
        Chances(
            log_loss=float(log_loss),
            right=exact_mcnemar(*_wins_and_losses(comparison)),
            combined=float((smallest <= min(log_loss, right) * (1 + _SLACK)).mean()),
        )
        for comparison, (log_loss, right) in zip(comparisons, tails[0].reshape(-1, 2), strict=True)
    ]


def _gains(comparison: Comparison) -> Doubles:
    """Return what the candidate gains on each sample, [n, 2]: in log loss, and in right answers."""
    before, after = comparison.before, comparison.after
    right = after.is_right.astype(np.float64) - before.is_right.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gains = np.stack([before.log_losses - after.log_losses, right], axis=1)
    # A loss of infinity against a loss of infinity says nothing about which is better.
    return np.nan_to_num(gains, nan=0.0, posinf=1e6, neginf=-1e6)


def _wins_and_losses(comparison: Comparison) -> tuple[int, int]:
    before, after = comparison.before.is_right, comparison.after.is_right
    return int((after & ~before).sum()), int((before & ~after).sum())


def _flipped_sums(gains: Doubles, seed: int) -> Doubles:
    """Return the sums of `gains` [n, figures] under sign patterns [patterns, figures]; the first row is observed."""
    count = len(gains)
    if count <= _EXACT_UP_TO:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        exact: Doubles = (1.0 - 2.0 * patterns) @ gains
        return exact
    generator = np.random.Generator(np.random.Philox(seed))
    rows = [gains.sum(axis=0, keepdims=True)]
    for start in range(0, _DRAWS, _CHUNK):
        size = min(_CHUNK, _DRAWS - start)
        signs = 1.0 - 2.0 * generator.integers(0, 2, size=(size, count), dtype=np.int8)
        rows.append(signs @ gains)
    return np.concatenate(rows)


def _tail_shares(sums: Doubles) -> Doubles:
    """Return for each sum the share of all sums that are at least as great."""
    slack = _SLACK * max(1e-300, float(np.abs(sums).max(initial=0.0)))
    ordered = np.sort(sums)
    below = np.searchsorted(ordered, sums - slack, side="left")
    shares: Doubles = (len(sums) - below) / len(sums)
    return shares


@dataclass(frozen=True)
class Evidence:
    """What the owner's labelled samples say that neither the serving model nor whoever answers for them has seen."""

    holdout: Comparison
    """The candidate itself on the held-out samples."""
    out_of_fold: Comparison | None = None
    """On each new training sample, the fold model that was trained without it."""

    @property
    def judged(self) -> Comparison:
        return self.holdout if self.out_of_fold is None else self.holdout.joined(self.out_of_fold)


@dataclass(frozen=True)
class Contender:
    """One candidate of a round, with what is known of it."""

    evidence: Evidence
    anchor: Comparison
    name: str = ""
    """What it is, for the owner: "the trained weights"."""


def judge(
    contenders: Sequence[Contender],
    settings: GateConfig,
    *,
    round_number: int,
    generation_before: int,
    classes: tuple[str, ...],
) -> tuple[int, Verdict]:
    """Decide which of the contenders (`after`) may replace the serving model (`before`); return its place.

    Of those that may, it is the one with the lowest log loss on the samples that judge; when none may, the verdict is
    on the one that came nearest. Contenders that the anchor set refuses do not count as looked at.
    """
    asked = [place for place, one in enumerate(contenders) if _obstacle(one, settings) is None]
    chance = [Chances(1.0, 1.0, 1.0)] * len(contenders)
    if asked and contenders[0].evidence.judged.total:
        tests = joint_chances([contenders[place].evidence.judged for place in asked], seed=round_number)
        for place, test in zip(asked, tests, strict=True):
            chance[place] = test
    codes = [_decide(one, settings, test) for one, test in zip(contenders, chance, strict=True)]
    chosen = min(
        range(len(contenders)),
        key=lambda place: (
            codes[place] != "better",
            place not in asked,
            _mean(contenders[place].evidence.judged.after.log_losses),
        ),
    )
    verdict = _verdict(
        contenders[chosen],
        settings,
        codes[chosen],
        chance[chosen],
        round_number=round_number,
        generation_before=generation_before,
        classes=classes,
    )
    return chosen, msgspec.structs.replace(verdict, reason=verdict.reason + _chosen_words(contenders, chosen, verdict))


def _chosen_words(contenders: Sequence[Contender], chosen: int, verdict: Verdict) -> str:
    """Say which of several candidates the verdict is on."""
    name = contenders[chosen].name
    if len(contenders) == 1 or not name or verdict.code == "too_few_to_judge":
        return ""
    return f" {'The best' if verdict.promoted else 'The nearest'} of {len(contenders)} candidates: {name}."


def _verdict(
    contender: Contender,
    settings: GateConfig,
    code: str,
    chance: Chances,
    *,
    round_number: int,
    generation_before: int,
    classes: tuple[str, ...],
) -> Verdict:
    evidence, anchor = contender.evidence, contender.anchor
    holdout, folds, judged = evidence.holdout, evidence.out_of_fold, evidence.judged
    return Verdict(
        promoted=code == "better",
        code=code,
        reason=_explain(code, evidence, anchor, settings, chance),
        round=round_number,
        generation_before=generation_before,
        holdout_total=holdout.total,
        holdout_right_before=holdout.right_before,
        holdout_right_after=holdout.right_after,
        out_of_fold_total=folds.total if folds else 0,
        out_of_fold_right_before=folds.right_before if folds else 0,
        out_of_fold_right_after=folds.right_after if folds else 0,
        log_loss_before=_mean(judged.before.log_losses),
        log_loss_after=_mean(judged.after.log_losses),
        p_log_loss=chance.log_loss,
        p_right=chance.right,
        p_value=chance.combined,
        significance=settings.significance,
        anchor_total=anchor.total,
        anchor_right_before=anchor.right_before,
        anchor_right_after=anchor.right_after,
        anchor_margin=settings.anchor_margin,
        classes=classes,
        confusion_before=holdout.before.confusion(),
        confusion_after=holdout.after.confusion(),
    )


def _obstacle(contender: Contender, settings: GateConfig) -> str | None:
    """Return what refuses the contender whatever the statistics say."""
    judged, anchor = contender.evidence.judged, contender.anchor
    if judged.total < settings.min_judged:
        return "too_few_to_judge"
    if not np.isfinite(judged.after.log_probabilities).all():
        return "not_finite"
    if anchor.right_before - anchor.right_after > settings.anchor_margin * anchor.total + _SLACK:
        return "anchor_fell"
    return None


def _decide(contender: Contender, settings: GateConfig, chance: Chances) -> str:
    judged = contender.evidence.judged
    obstacle = _obstacle(contender, settings)
    if obstacle is not None:
        return obstacle
    if judged.right_after < judged.right_before:
        return "fewer_right"
    if chance.combined > settings.significance:
        return "not_better_than_chance"
    return "better"


def _explain(code: str, evidence: Evidence, anchor: Comparison, settings: GateConfig, chance: Chances) -> str:
    counts = _counts(evidence)
    return {
        "better": f"Better by more than chance: {counts}, p {_compared(chance.combined)}.",
        "too_few_to_judge": (
            f"Only {evidence.judged.total} labelled samples can judge and {settings.min_judged} are needed; "
            "add or label more."
        ),
        "not_finite": "The candidate's outputs are not finite.",
        "anchor_fell": (
            f"It forgets what it knew: {anchor.right_before} -> {anchor.right_after} right of {anchor.total} "
            f"anchor samples, and at most {settings.anchor_margin:.1%} may be lost."
        ),
        "fewer_right": f"Worse: {counts}.",
        "not_better_than_chance": (
            f"Not better by more than chance: {counts}, p {_compared(chance.combined)} "
            f"against {settings.significance:g}."
        ),
    }[code]


def _counts(evidence: Evidence) -> str:
    holdout, folds = evidence.holdout, evidence.out_of_fold
    counts = f"{holdout.right_before} -> {holdout.right_after} right of {holdout.total} held-out samples"
    if folds is None:
        return counts
    return f"{counts} and {folds.right_before} -> {folds.right_after} of {folds.total} out of fold"


def _compared(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.0001 else "< 0.0001"


def _mean(values: Doubles) -> float:
    """Return the mean, capped so that it stays a JSON number; 0 of nothing."""
    return float(np.nan_to_num(values, nan=1e6, posinf=1e6).mean()) if len(values) else 0.0
