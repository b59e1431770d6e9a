"""Which coefficient does a line through points give, and which schedule lies between two others? Pure."""

from collections.abc import Sequence

from mmd.artifact.manifest import Point, Schedule


def interpolate(points: Sequence[Point], progress: float) -> float:
    """Return the piecewise linear function through `points` at `progress`.

    It is constant before the first point and after the last. Two points at one place are a jump: the later one
    holds from there on.
    """
    if not points:
        return 0.0
    before = points[0]
    if progress < before[0]:
        return float(before[1])
    for after in points[1:]:
        if progress < after[0]:
            share = (progress - before[0]) / (after[0] - before[0])
            return float(before[1] + share * (after[1] - before[1]))
        before = after
    return float(before[1])


def mixed(first: Schedule, second: Schedule, share: float) -> Schedule:
    """Return the schedule with (1 - share) of every coefficient of `first` and `share` of `second`, at any progress."""
    return Schedule(
        alpha=_mixed_lines(first.alpha, second.alpha, share),
        beta=_mixed_lines(first.beta, second.beta, share),
        gamma=_mixed_lines(first.gamma, second.gamma, share),
    )


def _mixed_lines(first: Sequence[Point], second: Sequence[Point], share: float) -> tuple[Point, ...]:
    points: dict[Point, None] = {}
    for progress in sorted({at for at, _ in (*first, *second)}):
        # From the left and from the right: either line may jump here.
        for read in (_before, interpolate):
            points[progress, (1 - share) * read(first, progress) + share * read(second, progress)] = None
    return tuple(points)


def _before(points: Sequence[Point], progress: float) -> float:
    """Return what the line comes from at `progress`: what it is there, unless it jumps."""
    return interpolate([(-at, value) for at, value in reversed(points)], -progress)
