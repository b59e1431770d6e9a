"""Which samples are in which batch? A pure function of seed and step, so that a resumed round repeats them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

_OWN, _REPLAY = 0, 1


@dataclass(frozen=True)
class BatchOrder:
    """Draws each batch from two endless streams: the owner's samples and the replay half of the anchor set.

    Each stream is one permutation after another, so every sample comes once before any comes again.
    """

    seed: int
    own: int
    """How many samples of the owner there are; indices 0..own-1."""
    replay: int
    """How many replay samples there are; they are indexed from `own` on."""
    batch_size: int
    replay_per_batch: int
    views: int = 1
    """In how many views each sample of the owner is seen."""

    def indices(self, step: int) -> Indices:
        """Return the `batch_size` indices of the batch that follows `step` finished steps."""
        replay_places = self.replay_per_batch if self.replay else 0
        own_places = self.batch_size - replay_places
        own = _stream(self.seed, _OWN, self.own, step * own_places, own_places)
        if not replay_places:
            return own
        replay = _stream(self.seed, _REPLAY, self.replay, step * replay_places, replay_places)
        return np.concatenate([own, self.own + replay])

    def views_of(self, step: int) -> Indices:
        """Return in which view each sample of that batch is seen: its next one every epoch, and each in another.

        A replay sample is seen in view 0, as it is.
        """
        samples = self.indices(step)
        replay_places = self.replay_per_batch if self.replay else 0
        own_places = self.batch_size - replay_places
        epochs = (step * own_places + np.arange(self.batch_size)) // self.own
        return np.where(samples < self.own, (samples + epochs) % self.views, 0)


def _stream(seed: int, kind: int, size: int, start: int, count: int) -> Indices:
    positions = range(start, start + count)
    return np.array([_permutation(seed, kind, size, at // size)[at % size] for at in positions], np.int64)


@lru_cache(maxsize=8)
def _permutation(seed: int, kind: int, size: int, epoch: int) -> Indices:
    # Philox is counter-based: its stream for (seed, kind, epoch) never depends on what was drawn before.
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, kind, epoch])))
    return generator.permutation(size).astype(np.int64)
