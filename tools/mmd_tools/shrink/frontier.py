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
from mmd.errors import UsageError
from mmd_tools.fuse.network import Network, prepare
from mmd_tools.nets import PretrainRecipe
from mmd_tools.recipe import Recipe
from mmd_tools.shrink.budget import Budget, Taking
from mmd_tools.shrink.depth import removable, shallower
from mmd_tools.shrink.groups import trace_channels
from mmd_tools.shrink.prune import pruned
from mmd_tools.shrink.resolution import lower_resolution
from mmd_tools.shrink.spare import with_spare_outputs
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
    trainer_bytes: int
    """Of the whole process, at most: measured here, with what asking the Mentor and judging take on top."""
    beside_ms: float
    """Of a round: to start the trainer and to judge, on this machine."""
    round_minutes: float
    exceeds: tuple[str, ...]
    """Which of `memory` and `time` it takes more of than the board gives."""
    accuracy: float | None
    """On the validation part, after training under the Mentor; None without data, and for what does not fit."""
    model: bytes

    @property
    def fits(self) -> bool:
        return not self.exceeds


def derive(
    mentor: Network, factors: Factors, *, samples: np.ndarray | None = None, spare_classes: int = 0
) -> onnx.ModelProto:
    """Return the Mentee: shallower first, then narrower, then behind a pool. Raises `UsageError`, `rewrite.Unfit`."""
    network = mentor
    if factors.depth < 1:
        network = _again(shallower(network, factors.depth), network)
    if factors.width < 1:
        network = _again(pruned(network, factors.width, samples=samples), network)
    if factors.resolution < 1:
        network = _again(lower_resolution(network, factors.resolution), network)
    if spare_classes:
        network = _again(with_spare_outputs(network, spare_classes), network)
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
    spare_classes: int = 0,
    report: Callable[[str], None] = lambda stage: None,
) -> Iterator[Candidate]:
    """Yield each candidate with what a step of it needs and, where there is data, how well it does once trained.

    Raises `UsageError`, before anything is measured, for a factor that changes nothing or does not fit.
    """
    _refuse_what_changes_nothing(mentor, factors)
    for number, each in enumerate(factors, start=1):
        name = f"{number} of {len(factors)}: width {each.width:g}, depth {each.depth:g}, resolution {each.resolution:g}"
        report(f"{name}: measuring a step")
        model = derive(mentor, each, samples=samples, spare_classes=spare_classes)
        with tempfile.TemporaryDirectory(prefix="mmd-shrink-") as folder:
            path = Path(folder) / "mentee.onnx"
            onnx.save(model, path)
            cost = weigh_step(path, batch=budget.batch, engines=("portable",))
            step_bytes, step_ms = cost.step_bytes["portable"], cost.step_ms["portable"]
            taking = Taking(step_ms, cost.process.start_ms, cost.process.open_ms, cost.process.answer_ms)
            exceeds = budget.exceeded(cost.process.bytes, taking)
            accuracy, encoded = None, bytes(path.read_bytes())
            if data is not None and not exceeds:
                report(f"{name}: training")
                accuracy, encoded = _trained(path, mentor_file, data)
        parameters = sum(math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1)
        yield Candidate(
            factors=each,
            parameters=parameters,
            step_bytes=step_bytes,
            step_ms=step_ms,
            trainer_bytes=budget.trainer_bytes(cost.process.bytes),
            beside_ms=budget.beside_ms(taking),
            round_minutes=budget.round_minutes(taking),
            exceeds=exceeds,
            accuracy=accuracy,
            model=encoded,
        )


def _refuse_what_changes_nothing(mentor: Network, factors: Sequence[Factors]) -> None:
    if any(each.depth < 1 for each in factors) and not removable(mentor):
        raise UsageError(
            f"--depth changes nothing: {mentor.source} has no block beside an identity, and no convolution in a row "
            "that keeps its shape; leave --depth away."
        )
    if any(each.width < 1 for each in factors) and not any(len(group) > 1 for group in trace_channels(mentor).groups()):
        raise UsageError(
            f"--width changes nothing: no channels of {mentor.source} can be told apart from those of its input and "
            "its logits; give --width 1 only."
        )
    for resolution in {each.resolution for each in factors if each.resolution < 1}:
        lower_resolution(mentor, resolution)


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
