"""What do the raw counts of the owners say? Means over owners with their intervals, who gained, and who lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmd.promotion.chances import exact_mcnemar
from mmd_tools.bench.owners_run import Record

Doubles = NDArray[np.float64]

RESAMPLES = 10_000
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Mean:
    """A mean over owners with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RowSummary:
    """One line of the table. Shares are in percent, differences in percentage points."""

    row: str
    size: int
    owners: int
    seeds: int
    accuracy: Mean
    gain: Mean
    """Over the shipped Mentee, paired."""
    quartile_accuracy: float
    quartile_gain: float
    """Of the quarter of owners whom the shipped Mentee reads worst, chosen on what they give away, not on the test."""
    worse_owners: int
    """Owners whose mean over the seeds is below the shipped Mentee's."""
    worse_beyond_noise: int
    """Pairs of owner and seed with a one-sided exact McNemar p <= 0.05 against the shipped Mentee; see `pairs`."""
    pairs: int
    anchor_change: float
    anchor_worst: float
    cpu_seconds: float
    is_gated: bool
    promoted: int
    """Pairs that the gate let through."""


def summarise(records: Iterable[Record]) -> list[RowSummary]:
    """Return a line for each row and size, in the order in which they first appear."""
    groups: dict[tuple[int, str], list[Record]] = {}
    shipped: dict[tuple[str, int, int], Record] = {}
    for record in records:
        groups.setdefault((record.size, record.row), []).append(record)
        if record.row == "shipped":
            shipped[record.owner, record.seed, record.size] = record
    return [
        _summary(members, [shipped[one.owner, one.seed, one.size] for one in members]) for members in groups.values()
    ]


def _summary(members: Sequence[Record], shipped: Sequence[Record]) -> RowSummary:
    accuracy = np.array([100 * one.right / one.total for one in members])
    gain = np.array([100 * (one.wins - one.losses) / one.total for one in members])
    anchor = np.array(
        [
            100 * (one.anchor_right - old.anchor_right) / one.anchor_total
            for one, old in zip(members, shipped, strict=True)
        ]
    )
    names = [one.owner for one in members]
    is_hard = hard_to_read(members)
    return RowSummary(
        row=members[0].row,
        size=members[0].size,
        owners=len(set(names)),
        seeds=len({one.seed for one in members}),
        accuracy=bootstrap(by_owner(names, accuracy)),
        gain=bootstrap(by_owner(names, gain)),
        quartile_accuracy=float(accuracy[is_hard].mean()),
        quartile_gain=float(gain[is_hard].mean()),
        worse_owners=int((by_owner(names, gain) < 0).sum()),
        worse_beyond_noise=sum(exact_mcnemar(one.losses, one.wins) <= SIGNIFICANCE for one in members),
        pairs=len(members),
        anchor_change=float(anchor.mean()),
        anchor_worst=float(anchor.min()),
        cpu_seconds=float(np.mean([one.cpu_seconds for one in members])),
        is_gated=any(one.gate for one in members),
        promoted=sum(one.gate == "better" for one in members),
    )


def difference(records: Sequence[Record], row: str, other: str, size: int) -> Mean | None:
    """Return the mean of accuracy in `row` less that in `other`, paired, in points; `None` when one was not run."""
    found = {
        name: {
            (one.owner, one.seed): 100 * one.right / one.total for one in records if (one.row, one.size) == (name, size)
        }
        for name in (row, other)
    }
    if not found[row] or found[row].keys() != found[other].keys():
        return None
    gaps = np.array([accuracy - found[other][pair] for pair, accuracy in found[row].items()])
    return bootstrap(by_owner([owner for owner, _ in found[row]], gaps))


def hard_to_read(members: Sequence[Record]) -> NDArray[np.bool_]:
    """Return who is in the worst quartile of his seed."""
    score = np.array([one.shipped_right_of_own / one.own for one in members])
    seeds = np.array([one.seed for one in members])
    chosen = np.zeros(len(members), np.bool_)
    for seed in np.unique(seeds):
        places = np.flatnonzero(seeds == seed)
        worst = places[np.argsort(score[places], kind="stable")]
        chosen[worst[: max(1, round(len(places) / 4))]] = True
    return chosen


def by_owner(names: Sequence[str], values: Doubles) -> Doubles:
    """Return the mean over seeds of each owner."""
    index = {name: place for place, name in enumerate(dict.fromkeys(names))}
    places = np.array([index[name] for name in names])
    means: Doubles = np.bincount(places, weights=values) / np.bincount(places)
    return means


def bootstrap(values: Doubles, *, seed: int = 0) -> Mean:
    """Return the mean of `values` and the 95 % percentile interval of resampled means (Efron & Tibshirani, 1993)."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return Mean(float(values.mean()), float(low), float(high))
