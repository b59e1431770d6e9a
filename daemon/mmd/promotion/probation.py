"""Is a promoted model worse than the one before, judged by what came since? Pure arithmetic, no file and no network.

Why this test, which may be asked again after every sample, is in `docs/adr/0004-probation.md`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from mmd.artifact.review import Review
from mmd.config import GateConfig


@dataclass(frozen=True)
class Trial:
    """How the two models did on the samples that came since the promotion."""

    judged: int
    right_before: int
    right_after: int
    won: int
    """Samples that only the new model got right."""
    lost: int
    """Samples that only the one before got right."""


def evidence_of_worse(trial: Trial) -> float:
    """Return the e-value of "the new model is worse": what a stake on it, at fair odds, would have become.

    Of the samples on which the models differ, share t is lost; a fair coin pays 2t for each one lost and 2(1 - t) for
    each one won. The stake is spread evenly over all t in (1/2, 1), the mixture of Robbins (1970,
    doi:10.1214/aoms/1177696786). If the new model is no worse, the fortune is a supermartingale and reaches 1/a at any
    time with a chance of a at most (Ville, 1939). The integral has a closed form in whole numbers.
    """
    n, lost = trial.won + trial.lost, trial.lost
    return sum(math.comb(n + 1, k) for k in range(lost + 1)) / ((n + 1) * math.comb(n, lost))


def review(trial: Trial, settings: GateConfig, *, generation: int, generation_before: int, now: float) -> Review:
    """Decide whether the model stays on probation, has passed it, or goes back."""
    evidence = evidence_of_worse(trial)
    counts = f"{trial.right_before} -> {trial.right_after} right of {trial.judged} samples that came since"
    state: Literal["open", "passed", "failed"]
    if evidence * settings.significance >= 1:
        state, reason = "failed", f"Worse than generation {generation_before} by more than chance: {counts}."
    elif trial.judged >= settings.probation_samples:
        state, reason = "passed", f"No worse than generation {generation_before}: {counts}."
    else:
        state, reason = "open", f"{counts[0].upper()}{counts[1:]}; {settings.probation_samples} end the probation."
    return Review(
        state=state,
        reason=reason,
        generation=generation,
        generation_before=generation_before,
        judged=trial.judged,
        right_before=trial.right_before,
        right_after=trial.right_after,
        evidence=evidence,
        reviewed=now,
    )
