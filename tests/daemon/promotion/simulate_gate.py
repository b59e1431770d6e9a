"""How often does the gate promote what is no better, and what is? The figures of docs/adr/0002-gate.md.

`python -m tests.daemon.promotion.simulate_gate` prints them in a few minutes. Logits are normal, of ten classes; two
models differ by noise of their own, so that neither is better, unless the candidate is pushed towards the right class.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmd.promotion import chances as tests_of_chance
from mmd.promotion.answers import Comparison, Judged, log_softmax
from mmd.promotion.chances import Chances, chances

CLASSES, PUSH, LEVEL = 10, 0.5, 0.05
Logits = NDArray[np.float64]


def either(chance: Chances) -> float:
    """The rule that was not taken: the smaller p-value, as if only one had been looked at."""
    return min(chance.log_loss, chance.right, chance.certainty)


def promotes(comparison: Comparison, p_value: Callable[[Chances], float]) -> bool:
    is_no_worse = comparison.right_after >= comparison.right_before
    return is_no_worse and p_value(chances(comparison, seed=1)) <= LEVEL


def owner(rng: np.random.Generator, samples: int) -> tuple[NDArray[np.int64], Logits]:
    labels = rng.integers(0, CLASSES, samples)
    logits = rng.normal(0, 1, (samples, CLASSES))
    logits[np.arange(samples), labels] += 2.5
    return labels, logits


def model(rng: np.random.Generator, labels: NDArray[np.int64], logits: Logits, push: float = 0.0) -> Judged:
    own = logits + rng.normal(0, 0.6, logits.shape)
    own[np.arange(len(labels)), labels] += push
    return Judged(labels, log_softmax(own)[None])


def promoted_share(samples: int, runs: int, push: float) -> tuple[float, float]:
    """Return the share of candidates promoted by the gate's p-value, and by the smaller one."""
    rng = np.random.default_rng(0)
    counts = np.zeros(2)
    for _ in range(runs):
        labels, logits = owner(rng, samples)
        comparison = Comparison(model(rng, labels, logits), model(rng, labels, logits, push))
        counts += [promotes(comparison, lambda chance: chance.combined), promotes(comparison, either)]
    return counts[0] / runs, counts[1] / runs


def promotions_in_a_row(samples: int, rounds: int, chains: int) -> tuple[float, float]:
    """Return the mean number of promotions in `rounds` rounds on one holdout, and the share of chains with any."""
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(chains):
        labels, logits = owner(rng, samples)
        serving, count = model(rng, labels, logits), 0
        for _ in range(rounds):
            candidate = model(rng, labels, logits)
            if promotes(Comparison(serving, candidate), lambda chance: chance.combined):
                serving, count = candidate, count + 1
        counts.append(count)
    return float(np.mean(counts)), float(np.mean(np.array(counts) > 0))


def main() -> None:
    tests_of_chance._DRAWS = 4000
    for samples in (12, 40, 100):
        no_better, better = promoted_share(samples, 2000, 0.0), promoted_share(samples, 500, PUSH)
        print(f"{samples:>4} held out: no better {no_better[0]:.3f} ({no_better[1]:.3f} by the smaller p),", end=" ")
        print(f"better {better[0]:.3f} ({better[1]:.3f})")
    mean, share = promotions_in_a_row(40, 20, 150)
    print(f"20 rounds on one holdout of 40: {mean:.2f} promotions on average, any in {share:.2f}")


if __name__ == "__main__":
    main()
