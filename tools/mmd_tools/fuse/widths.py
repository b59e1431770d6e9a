"""How does a layer of many filters become one of few? Filters that match, or a fixed projection; both from moments.

`select`: each filter of the narrower layer gets one of the wider layer for itself, so that the sum of their
correlations on the replay samples is as large as can be (the assignment problem: Kuhn, 1955).
`pca`: the Mentor's features on their principal axes, as many as the Mentee has filters (Pearson, 1901), turned so that
they lie as near as they can to the Mentee's own (orthogonal Procrustes: Schoenemann, 1966) and moved to its mean.
Distances between samples stay as the principal axes have them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmd.errors import UsageError
from mmd_tools.fuse.calibration import Doubles, Moments
from mmd_tools.fuse.probes import FixedMap, Probe


def settle_widths(probes: Sequence[Probe], moments: Mapping[int, Moments]) -> tuple[Probe, ...]:
    """Return the probes with the filters or the projection that their layers ask for.

    Raises `UsageError` where the samples do not tell them.
    """
    return tuple(_settled(probe, moments.get(probe.index)) for probe in probes)


def _settled(probe: Probe, moments: Moments | None) -> Probe:
    if moments is None or probe.width not in ("select", "pca"):
        return probe
    if not moments.is_finite:
        raise UsageError(f"The {probe.label} has features that are not finite on the anchor set; look at its inputs.")
    if probe.width == "select":
        return replace(probe, fixed=FixedMap(filters=_matching(moments.correlation)))
    weight, offset = principal(moments)
    return replace(probe, fixed=FixedMap(weight=weight.astype(np.float32), offset=offset.astype(np.float32)))


def _matching(correlation: Doubles) -> tuple[int, ...]:
    """Return, for each filter of the narrower layer, the filter of the wider one."""
    narrow_first = correlation if correlation.shape[0] <= correlation.shape[1] else correlation.T
    return assign(narrow_first)


def assign(gain: Doubles) -> tuple[int, ...]:
    """Return a column of its own for each row so that the gains' sum is largest; no fewer columns than rows.

    The Hungarian method by shortest augmenting paths (Jonker & Volgenant, 1987); rows^2 * columns.
    """
    rows, columns = gain.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)
    for row in range(rows):
        distance, before = np.full(columns, np.inf), np.full(columns, -1)
        is_open = np.ones(columns, bool)
        reached, here, column = 0.0, row, -1
        while here >= 0:
            through = reached - gain[here] - row_price[here] - column_price
            nearer = is_open & (through < distance)
            distance[nearer], before[nearer] = through[nearer], column
            column = int(np.argmin(np.where(is_open, distance, np.inf)))
            reached, is_open[column], here = distance[column], False, int(owner[column])
        closed = ~is_open
        taken = closed & (owner >= 0)
        row_price[owner[taken]] += reached - distance[taken]
        row_price[row] += reached
        column_price[closed] -= reached - distance[closed]
        while column >= 0:
            previous = int(before[column])
            owner[column] = owner[previous] if previous >= 0 else row
            column = previous
    found = np.full(rows, -1)
    found[owner[owner >= 0]] = np.flatnonzero(owner >= 0)
    return tuple(int(column) for column in found)


def principal(moments: Moments) -> tuple[Doubles, Doubles]:
    """Return [channels of the Mentor, channels of the Mentee] and an offset: target = m weight + offset."""
    count, wanted = moments.count, len(moments.ours)
    our_mean, their_mean = moments.ours / count, moments.theirs / count
    spread = moments.their_products / count - np.outer(their_mean, their_mean)
    axes = np.linalg.eigh(spread)[1][:, ::-1][:, :wanted]
    left, _, right = np.linalg.svd(axes.T @ moments.covariance.T)
    weight = axes @ (left @ right)
    return weight, our_mean - their_mean @ weight
