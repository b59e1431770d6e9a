"""How many of these samples does a network name rightly?"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.load import normalise
from mmd.artifact.manifest import InputSpec
from mmd.artifact.session import open_session
from mmd_tools.audio.features import recipe_preprocessing
from mmd_tools.recipe import InputRecipe

BATCH = 500


def input_spec(recipe: InputRecipe, shape: tuple[int, ...]) -> InputSpec:
    return InputSpec(name="input", kind=recipe.kind, shape=shape, scale=recipe.scale, mean=recipe.mean, std=recipe.std)


class Scorer:
    """One network, opened for inference."""

    def __init__(self, model: Path | bytes, recipe: InputRecipe, *, threads: int = 1) -> None:
        self._session: Any = open_session(model, threads=threads)
        self._input = self._session.get_inputs()[0].name
        self._recipe = recipe
        self._preprocessing = recipe_preprocessing(recipe)

    def logits(self, inputs: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the logits [n, classes] of stored inputs [n, *shape]."""
        values = self._preprocessing(inputs)
        spec = input_spec(self._recipe, values.shape[1:])
        rows = [
            self._session.run(None, {self._input: normalise(values[at : at + BATCH], spec)})[0]
            for at in range(0, len(values), BATCH)
        ]
        joined: NDArray[np.float32] = np.concatenate(rows)
        return joined

    def accuracy(self, inputs: NDArray[np.generic], labels: NDArray[np.int64]) -> float:
        """Return the share of `labels` that the network gives its highest logit."""
        return float((self.logits(inputs).argmax(axis=1) == labels).mean())
