"""Is the candidate better than the serving model, by more than chance? Pure decision, no file and no network.

Why so, and what asking again and again does, is in `docs/adr/0002-gate.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmd.artifact.card import Verdict
from mmd.config import GateConfig
from mmd.promotion.answers import Comparison
from mmd.promotion.chances import Chances, joint_chances

_SLACK = 1e-9


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
    is_memory_alone: bool = False
    """Whether its weights are those that serve, and only samples are remembered."""

    def significance(self, settings: GateConfig) -> float:
        """Return the largest p with which it may serve."""
        return settings.memory_significance if self.is_memory_alone else settings.significance


def judge(
    contenders: Sequence[Contender],
    settings: GateConfig,
    *,
    round_number: int,
    generation_before: int,
    classes: tuple[str, ...],
) -> tuple[int, Verdict]:
    """Decide which of the contenders (`after`) may replace the serving model (`before`); return its place.

    Of those that may, it is the one that is surest of the true classes of the samples that judge; when none may, the
    verdict is on the one that came nearest. Contenders that the anchor set refuses do not count as looked at.
    """
    asked = [place for place, one in enumerate(contenders) if _obstacle(one, settings) is None]
    chance = [Chances(1.0, 1.0, 1.0, 1.0)] * len(contenders)
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
            -_mean(contenders[place].evidence.judged.after.certainty),
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
        reason=_explain(code, contender, settings, chance),
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
        p_certainty=chance.certainty,
        p_value=chance.combined,
        significance=contender.significance(settings),
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
    if chance.combined > contender.significance(settings):
        return "not_better_than_chance"
    return "better"


def _explain(code: str, contender: Contender, settings: GateConfig, chance: Chances) -> str:
    evidence, anchor = contender.evidence, contender.anchor
    counts = _counts(evidence)
    return {
        "better": (
            f"Better by more than chance: {counts}{_sureness(evidence.judged)}, p {_compared(chance.combined)} "
            f"against {contender.significance(settings):g}."
        ),
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
            f"against {contender.significance(settings):g}."
        ),
    }[code]


def _counts(evidence: Evidence) -> str:
    holdout, folds = evidence.holdout, evidence.out_of_fold
    counts = f"{holdout.right_before} -> {holdout.right_after} right of {holdout.total} held-out samples"
    if folds is None:
        return counts
    return f"{counts} and {folds.right_before} -> {folds.right_after} of {folds.total} out of fold"


def _sureness(judged: Comparison) -> str:
    """Say what got better where as many are right as before."""
    if judged.right_after != judged.right_before:
        return ""
    before, after = _mean(judged.before.certainty), _mean(judged.after.certainty)
    return f", {before:.1%} -> {after:.1%} sure of the true classes"


def _compared(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.0001 else "< 0.0001"


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean, capped so that it stays a JSON number; 0 of nothing."""
    return float(np.nan_to_num(values, nan=1e6, posinf=1e6).mean()) if len(values) else 0.0
