"""What does each size of Mentee cost on the board, and how well does it do? Measured one candidate at a time."""

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx

from mmd.augmentation import Augmentation
from mmd_tools.fuse.network import Network, prepare
from mmd_tools.nets import PretrainRecipe
from mmd_tools.recipe import Recipe
from mmd_tools.shrink.depth import shallower
from mmd_tools.shrink.prune import pruned
from mmd_tools.shrink.resolution import lower_resolution
from mmd_tools.train_data import Part
from mmd_tools.train_run import TrainRequest, train_network
from mmd_tools.weigh import weigh as weigh_step


@dataclass(frozen=True)
class Factors:
    """How much of the Mentor stays: of its channels, of its removable blocks, of the height and width it sees."""

    width: float = 1.0
    depth: float = 1.0
    resolution: float = 1.0


@dataclass(frozen=True)
class Budget:
    """What the board gives to a night's round."""

    memory_bytes: float = math.inf
    minutes: float = math.inf
    samples: int = 200
    epochs: int = 10
    batch: int = 16
    slowdown: float = 1.0
    """How many times longer than here a step takes on the board."""

    def round_minutes(self, step_ms: float) -> float:
        return self.epochs * math.ceil(self.samples / self.batch) * step_ms * self.slowdown / 60_000


@dataclass(frozen=True)
class Data:
    """What candidates are trained and judged on."""

    recipe: Recipe
    train: Part
    validation: Part
    epochs: int


@dataclass(frozen=True)
class Candidate:
    """One size of Mentee, weighed."""

    factors: Factors
    parameters: int
    step_bytes: int
    step_ms: float
    round_minutes: float
    fits: bool
    accuracy: float | None
    """On the validation part, after training under the Mentor; None without data, and for what does not fit."""
    model: bytes


def derive(mentor: Network, factors: Factors, *, samples: np.ndarray | None = None) -> onnx.ModelProto:
    """Return the Mentee: shallower first, then narrower, then behind a pool. Raises `UsageError`, `rewrite.Unfit`."""
    network = mentor
    if factors.depth < 1:
        network = _again(shallower(network, factors.depth), network)
    if factors.width < 1:
        network = _again(pruned(network, factors.width, samples=samples), network)
    if factors.resolution < 1:
        network = _again(lower_resolution(network, factors.resolution), network)
    return network.model


def _again(model: onnx.ModelProto, before: Network) -> Network:
    return prepare(model, before.role, before.source)


def grid(widths: Sequence[float], depths: Sequence[float], resolutions: Sequence[float]) -> list[Factors]:
    return [Factors(*each) for each in itertools.product(widths, depths, resolutions)]


def weigh(
    mentor: Network,
    mentor_file: Path,
    factors: Sequence[Factors],
    budget: Budget,
    data: Data | None,
    *,
    samples: np.ndarray | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> Iterator[Candidate]:
    """Yield each candidate with what a step of it needs and, where there is data, how well it does once trained."""
    for resolution in {each.resolution for each in factors if each.resolution < 1}:
        # A resolution that does not fit is refused before anything is measured.
        lower_resolution(mentor, resolution)
    for number, each in enumerate(factors, start=1):
        name = f"{number} of {len(factors)}: width {each.width:g}, depth {each.depth:g}, resolution {each.resolution:g}"
        report(f"{name}: measuring a step")
        model = derive(mentor, each, samples=samples)
        with tempfile.TemporaryDirectory(prefix="mmd-shrink-") as folder:
            path = Path(folder) / "mentee.onnx"
            onnx.save(model, path)
            cost = weigh_step(path, batch=budget.batch, engines=("portable",))
            step_bytes, step_ms = cost.step_bytes["portable"], cost.step_ms["portable"]
            minutes = budget.round_minutes(step_ms)
            fits = step_bytes <= budget.memory_bytes and minutes <= budget.minutes
            accuracy, encoded = None, bytes(path.read_bytes())
            if data is not None and fits:
                report(f"{name}: training")
                accuracy, encoded = _trained(path, mentor_file, data)
        parameters = sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1)
        yield Candidate(each, parameters, step_bytes, step_ms, minutes, fits, accuracy, encoded)


def _trained(mentee: Path, mentor: Path, data: Data) -> tuple[float, bytes]:
    request = TrainRequest(
        net=mentee,
        mentor=mentor,
        recipe=msgspec.structs.replace(data.recipe, probe=()),
        training=PretrainRecipe(epochs=data.epochs, batch_size=32, schedule=data.recipe.loss.default_schedule),
        augment=Augmentation(),
        train=data.train,
        validation=data.validation,
    )
    best = train_network(request)
    return best.validation_accuracy, best.model


def best_that_fits(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the most accurate candidate within the budget; without accuracies, the one with the most parameters."""
    fitting = [each for each in candidates if each.fits]
    return max(fitting, key=lambda each: (each.accuracy or 0.0, each.parameters), default=None)
