"""How likely would a candidate that is no better look at least this good? Paired permutation tests.

Why these tests, and what asking again and again does, is in `docs/adr/0002-gate.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmd.promotion.answers import Comparison

Doubles = NDArray[np.float64]

_EXACT_UP_TO = 14
"""With this many samples or fewer all 2^n sign patterns are tried."""
_DRAWS = 20_000
_CHUNK = 256
_SLACK = 1e-9
"""Relative; sums that differ by rounding only count as equal."""


@dataclass(frozen=True)
class Chances:
    """How likely a candidate that is no better would look at least this good."""

    log_loss: float
    right: float
    certainty: float
    combined: float
    """Of the smallest, corrected for having looked at all of every candidate (Westfall & Young's min-p)."""


def exact_mcnemar(wins: int, losses: int) -> float:
    """Return P(at least `wins` heads in `wins + losses` fair tosses): the one-sided exact McNemar test."""
    tosses = wins + losses
    favourable: int = sum(math.comb(tosses, heads) for heads in range(wins, tosses + 1))
    return favourable / int(1 << tosses)


def chances(comparison: Comparison, *, seed: int) -> Chances:
    """Return the one-sided paired permutation tests of the three figures, and of the best of them."""
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
            right=exact_mcnemar(*wins_and_losses(comparison)),
            certainty=float(certainty),
            combined=float((smallest <= min(log_loss, right, certainty) * (1 + _SLACK)).mean()),
        )
        for comparison, (log_loss, right, certainty) in zip(comparisons, tails[0].reshape(-1, 3), strict=True)
    ]


def _gains(comparison: Comparison) -> Doubles:
    """Return what the candidate gains on each sample, [n, 3]: in log loss, in right answers, in certainty."""
    before, after = comparison.before, comparison.after
    right = after.is_right.astype(np.float64) - before.is_right.astype(np.float64)
    with np.errstate(invalid="ignore"):
        log_loss, certainty = before.log_losses - after.log_losses, after.certainty - before.certainty
        gains = np.stack([log_loss, right, certainty], axis=1)
    # A loss of infinity against a loss of infinity says nothing about which is better.
    return np.nan_to_num(gains, nan=0.0, posinf=1e6, neginf=-1e6)


def wins_and_losses(comparison: Comparison) -> tuple[int, int]:
    """Return how many samples only the candidate got right, and how many only the model before."""
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
