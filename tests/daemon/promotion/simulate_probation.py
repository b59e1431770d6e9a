"""How often is a model taken back that is as good, or worse? The table of docs/adr/0004-probation.md.

python -m tests.daemon.promotion.simulate_probation
"""

import statistics

import numpy as np

from mmd.config import GateConfig
from mmd.promotion.probation import Trial, evidence_of_worse

MODELS = 2000
PAIRS = ((0.9, 0.95), (0.9, 0.9), (0.9, 0.8), (0.9, 0.7), (0.9, 0.5), (0.9, 0.1))


def looks_until_taken_back(before: float, after: float, rng: np.random.Generator, settings: GateConfig) -> int | None:
    """Return after how many samples the model goes back; `None` when it stays. The two err independently."""
    won = lost = 0
    for look in range(1, settings.probation_samples + 1):
        was_right, is_right = rng.random() < before, rng.random() < after
        won, lost = won + int(is_right and not was_right), lost + int(was_right and not is_right)
        trial = Trial(judged=look, right_before=0, right_after=0, won=won, lost=lost)
        if evidence_of_worse(trial) * settings.significance >= 1:
            return look
    return None


def main() -> None:
    rng = np.random.default_rng(0)
    for before, after in PAIRS:
        looks = [looks_until_taken_back(before, after, rng, GateConfig()) for _ in range(MODELS)]
        back = [look for look in looks if look is not None]
        median = f"{statistics.median(back):.0f}" if back else ""
        print(f"| {before:.0%} -> {after:.0%} | {len(back) / MODELS:.1%} | {median} |")


if __name__ == "__main__":
    main()
