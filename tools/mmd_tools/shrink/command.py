"""`mmd-tools shrink`: parse, weigh the candidates with progress, show the frontier, write the best one that fits."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np

    from mmd_tools.fuse.network import Network
    from mmd_tools.recipe import Recipe
    from mmd_tools.shrink.budget import Budget
    from mmd_tools.shrink.frontier import Candidate, Data

FILE = click.Path(path_type=Path, dir_okay=False)


class _Number(click.FloatRange):
    """A number of a range; `nan` compares with nothing and would pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is no number.", param, ctx)
        return number


FACTOR = _Number(min=0.0, max=1.0, min_open=True)
_SCORED = 5000
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(text: str) -> float:
    """Return `512MB`, `0.5 GiB` or a plain number in bytes. Raises `UsageError`."""
    from mmd.errors import UsageError

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not found or found[2].lower() not in _UNITS:
        raise UsageError(f"`{text}` is no size; write 512MB or 0.5GiB.")
    return float(found[1]) * _UNITS[found[2].lower()]


@click.command("shrink", short_help="Derive a Mentee from a Mentor.")
@click.argument("mentor", type=FILE)
@click.option("--width", "widths", type=FACTOR, multiple=True, help="Share of the channels that stay; repeatable.")
@click.option("--depth", "depths", type=FACTOR, multiple=True, help="Share of the removable blocks; repeatable.")
@click.option("--resolution", "resolutions", type=FACTOR, multiple=True, help="1, 0.5, 0.25, ...; repeatable.")
@click.option(
    "--by",
    type=click.Choice(["weights", "activations"]),
    default="weights",
    show_default=True,
    help="What makes a filter a strong one.",
)
@click.option("--data", "data_file", type=FILE, help="Train and judge on this (.npz of `mmd-tools prepare`).")
@click.option("--recipe", "recipe_file", type=FILE, help="Of the data: classes and how the input is normalised.")
@click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True, help="Of training each candidate.")
@click.option(
    "--train-samples",
    type=click.IntRange(min=32),
    default=4000,
    show_default=True,
    help="Of --data, for each candidate.",
)
@click.option("--spare-classes", type=click.IntRange(min=0), help="Outputs for new classes [default: the recipe's].")
@click.option("--memory", default="", help="What the trainer may take on the board, as 512MB.")
@click.option("--minutes", type=_Number(min=0, min_open=True), default=math.inf, help="A round may take.")
@click.option("--samples", type=click.IntRange(min=1), default=200, show_default=True, help="Of the owner, in a round.")
@click.option("--round-epochs", type=click.IntRange(min=1), help="Of a round [default: the recipe's, or 10].")
@click.option("--batch", type=click.IntRange(min=1), help="Samples a step [default: the recipe's, or 32].")
@click.option(
    "--slowdown", type=_Number(min=0, min_open=True), default=1.0, show_default=True, help="Of the board against here."
)
@click.option("--out", type=FILE, required=True, help="The best candidate that fits (ONNX).")
@click.option("--plot", type=FILE, help="The frontier as a picture (PNG; needs the bench extra).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def shrink_command(mentor: Path, out: Path, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Derive a Mentee from MENTOR: fewer channels, fewer blocks, a smaller map, with the Mentor's strongest filters.

    Every combination of --width, --depth and --resolution is a candidate (without any: widths 1, 0.75, 0.5, 0.25). Its
    step is measured here; with --data each one that fits the budget is trained under the Mentor and judged.
    """
    from mmd.durable import write_bytes
    from mmd.errors import UsageError
    from mmd_tools.destination import destination
    from mmd_tools.shrink.frontier import best_that_fits
    from mmd_tools.shrink.show import picture, row, show_table, told

    place, drawing = destination(out), None
    if plot is not None:
        drawing = destination(plot, "--plot")
        _require_matplotlib()
    options["memory"] = parse_bytes(options["memory"]) if options["memory"] else math.inf
    data = _data(options)
    budget, candidates = _weighed(mentor, options, data)
    best = best_that_fits(candidates)
    if drawing is not None:
        write_bytes(drawing, picture(candidates, best, budget))
    if as_json:
        rows = [row(each, best) for each in candidates]
        click.echo(json.dumps({"budget": told(budget), "candidates": rows}))
    else:
        show_table(candidates, best, budget)
    if best is None:
        raise UsageError("No candidate fits the budget; give smaller factors, or a larger --memory or --minutes.")
    write_bytes(place, best.model)
    if not as_json:
        click.echo(f"Wrote {out}: {best.parameters:,} parameters.")


def _weighed(mentor: Path, options: dict[str, Any], data: Data | None) -> tuple[Budget, list[Candidate]]:
    """Weigh every candidate for the board, with progress on a terminal."""
    from rich.console import Console

    from mmd_tools.fuse.network import read_network
    from mmd_tools.shrink.frontier import grid, weigh

    network = read_network(mentor, "mentee")
    others = options["depths"] or options["resolutions"]
    widths = options["widths"] or ((1.0,) if others else (1.0, 0.75, 0.5, 0.25))
    with Console(stderr=True).status("asking the Mentor") as status:
        budget = _budget(options, network, data)
        weighed = weigh(
            network,
            mentor,
            grid(widths, options["depths"] or (1.0,), options["resolutions"] or (1.0,)),
            budget,
            data,
            samples=_exciting(options, data),
            spare_classes=_spare_classes(options, data),
            report=status.update,
        )
        return budget, list(weighed)


def _budget(options: dict[str, Any], network: Network, data: Data | None) -> Budget:
    """Return what the board gives; what a round is, is the recipe's where there is one."""
    from mmd.config import GateConfig, TrainingConfig
    from mmd_tools.recipe import TrainingRecipe
    from mmd_tools.shrink.budget import Budget, measure_asking

    gate, usual = GateConfig(), TrainingConfig()
    round_of = data.recipe.training if data is not None else TrainingRecipe()
    return Budget(
        memory_bytes=options["memory"],
        minutes=options["minutes"],
        samples=options["samples"],
        epochs=options["round_epochs"] or round_of.epochs,
        batch=options["batch"] or round_of.batch_size,
        replay=round_of.replay,
        views=round_of.views,
        folds=gate.folds,
        enough_holdout=gate.enough_holdout,
        candidates=len(usual.blends) + usual.memory,
        classes=network.classes,
        anchor=_anchor_of(data) // 2,
        slowdown=options["slowdown"],
        asking=measure_asking(network),
    )


def _data(options: dict[str, Any]) -> Data | None:
    """Read the data; of its training part a seeded draw, as many as were asked for."""
    import numpy as np

    from mmd.errors import UsageError
    from mmd_tools.recipe_check import load_recipe
    from mmd_tools.shrink.frontier import Data
    from mmd_tools.train_data import Part, part, read_prepared

    if (options["data_file"] is None) != (options["recipe_file"] is None):
        raise UsageError("--data and --recipe go together: the recipe says what the classes and the input are.")
    if options["data_file"] is None:
        if options["by"] == "activations":
            raise UsageError("--by activations needs --data and --recipe: the samples that excite the channels.")
        return None
    recipe: Recipe = load_recipe(options["recipe_file"])
    arrays = read_prepared(options["data_file"])
    parts = {}
    for name, count in (("train", options["train_samples"]), ("validation", _SCORED)):
        whole = part(arrays, name)
        chosen = np.sort(np.random.default_rng(0).permutation(len(whole.labels))[:count])
        parts[name] = Part(whole.inputs[chosen], whole.labels[chosen])
    return Data(recipe, parts["train"], parts["validation"], options["epochs"])


def _anchor_of(data: Data | None) -> int:
    """Return how many samples the recipe's anchor set holds; 0 where there is none."""
    from mmd_tools.fuse.anchor import read_anchor

    if data is None or not Path(data.recipe.anchor).is_file():
        return 0
    is_audio = data.recipe.input.kind == "audio"
    shape = data.train.inputs.shape[1:]
    return len(read_anchor(Path(data.recipe.anchor), shape, len(data.recipe.classes), is_audio=is_audio)[1])


def _spare_classes(options: dict[str, Any], data: Data | None) -> int:
    from mmd.errors import UsageError

    asked: int | None = options["spare_classes"]
    if data is None:
        return asked or 0
    if asked not in (None, data.recipe.spare_classes):
        raise UsageError(f"--spare-classes is {asked}, and the recipe has {data.recipe.spare_classes}; leave one away.")
    return data.recipe.spare_classes


def _exciting(options: dict[str, Any], data: Data | None) -> np.ndarray | None:
    from mmd.artifact.load import normalise
    from mmd_tools.audio.features import recipe_preprocessing
    from mmd_tools.train_score import input_spec

    if options["by"] == "weights" or data is None:
        return None
    inputs = recipe_preprocessing(data.recipe.input)(data.train.inputs[:64])
    return normalise(inputs, input_spec(data.recipe.input, inputs.shape[1:]))


def _require_matplotlib() -> None:
    from importlib.util import find_spec

    from mmd.errors import UsageError

    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; install it with `pip install 'mmd-daemon[bench]'`.")
