"""How strong is each term of the loss, and how long is each step, at this point of the round?"""

import math
from collections.abc import Sequence

from mmd.artifact.manifest import Point, Schedule
from mmd.training.curves import interpolate
from mmd.training.engine import LossWeights
from mmd.training.plan import RoundPlan

_FINAL_SHARE = 0.05
"""What the learning rate decays to, as a share of the highest one."""


def weights_at(plan: RoundPlan, step: int) -> LossWeights:
    """Return a(t), b_l(t), g(t) and T for the step that follows `step` finished ones."""
    progress = step / max(1, plan.steps - 1)
    return LossWeights(
        alpha=interpolate(plan.schedule.alpha, progress),
        betas=betas_at(plan.schedule, plan.hint_weights, plan.hint_schedules, progress),
        gamma=interpolate(plan.schedule.gamma, progress),
        temperature=plan.temperature,
    )


def betas_at(
    schedule: Schedule, weights: Sequence[float], factors: Sequence[Sequence[Point]], progress: float
) -> tuple[float, ...]:
    """Return b_l(t) of every probe pair: the schedule's beta, times the pair's weight, times the pair's own factor."""
    beta = interpolate(schedule.beta, progress)
    return tuple(
        beta * weight * (interpolate(points, progress) if points else 1.0)
        for weight, points in zip(weights, factors or ((),) * len(weights), strict=True)
    )


def learning_rate_at(plan: RoundPlan, step: int) -> float:
    """Return the learning rate of the step that follows `step` finished ones.

    Linear warm-up over `warmup_steps`, then half a cosine down to a twentieth (Loshchilov & Hutter, arXiv:1608.03983,
    without restarts).
    """
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    progress = (step - plan.warmup_steps) / max(1, plan.steps - plan.warmup_steps)
    share = _FINAL_SHARE + (1 - _FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
    return plan.learning_rate * share
