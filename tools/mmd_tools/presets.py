"""Which schedules does every artifact set carry? Four, after Venkatesan & Li's mentor-mentee work (arXiv:1604.08220).

They keep the shape of the authors' schedules, as relative coefficients: an AdamW step does not feel the common scale
that the authors' plain gradient steps were tuned to. One departure: `gamma` of *obedient* levels out at a quarter
instead of zero, because *unlabelled*, which shares it, would otherwise end on hints alone.
"""

from mmd.artifact.manifest import Schedule

PRESETS: dict[str, Schedule] = {
    # Mentor first, then labels.
    "obedient": Schedule(
        alpha=((0.0, 0.2), (1.0, 1.0)),
        beta=((0.0, 1.0), (1.0, 0.1)),
        gamma=((0.0, 1.0), (2 / 3, 0.25), (1.0, 0.25)),
    ),
    # Labels first; the Mentor's word weighs little and fades.
    "adamant": Schedule(
        alpha=((0.0, 1.0), (1.0, 0.2)),
        beta=((0.0, 0.25), (1.0, 0.05)),
        gamma=((0.0, 0.125), (1.0, 0.0)),
    ),
    # Labels only.
    "independent": Schedule(alpha=((0.0, 1.0),), beta=((0.0, 0.0),), gamma=((0.0, 0.0),)),
    # The Mentor only.
    "unlabelled": Schedule(
        alpha=((0.0, 0.0),),
        beta=((0.0, 1.0), (1.0, 0.1)),
        gamma=((0.0, 1.0), (2 / 3, 0.25), (1.0, 0.25)),
    ),
}
