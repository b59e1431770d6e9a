"""`mmd-tools shrink`: parse, weigh the candidates with progress, show the frontier, write the best one that fits."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np

    from mmd_tools.recipe import Recipe
    from mmd_tools.shrink.frontier import Budget, Candidate, Data

FILE = click.Path(path_type=Path, dir_okay=False)
FACTOR = click.FloatRange(min=0.0, max=1.0, min_open=True)
_SCORED = 5000
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(text: str) -> float:
    """Return `512MB`, `0.5 GiB` or a plain number in bytes. Raises `UsageError`."""
    from mmd.errors import UsageError

    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not found or found[2].lower() not in _UNITS:
        raise UsageError(f"`{text}` is no size; write 512MB or 0.5GiB.")
    return float(found[1]) * _UNITS[found[2].lower()]


@click.command("shrink")
@click.argument("mentor", type=FILE)
@click.option("--width", "widths", type=FACTOR, multiple=True, help="Share of the channels that stay; repeatable.")
@click.option("--depth", "depths", type=FACTOR, multiple=True, help="Share of the removable blocks; repeatable.")
@click.option("--resolution", "resolutions", type=FACTOR, multiple=True, help="1, 0.5, 0.25, ...; repeatable.")
@click.option("--by", type=click.Choice(["weights", "activations"]), default="weights", show_default=True)
@click.option("--data", "data_file", type=FILE, help="Train and judge on this (.npz of `mmd-tools prepare`).")
@click.option("--recipe", "recipe_file", type=FILE, help="Of the data: classes and how the input is normalised.")
@click.option("--epochs", type=click.IntRange(min=1), default=2, show_default=True, help="Of training each candidate.")
@click.option("--train-samples", type=click.IntRange(min=32), default=4000, show_default=True)
@click.option("--memory", default="", help="What a step may take on the board, as 512MB.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=math.inf, help="A round may take.")
@click.option("--samples", type=click.IntRange(min=1), default=200, show_default=True, help="Of the owner, in a round.")
@click.option("--round-epochs", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--slowdown", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Of the board against here.")
@click.option("--out", type=FILE, required=True, help="The best candidate that fits (ONNX).")
@click.option("--plot", type=FILE, help="The frontier as a picture (PNG; needs the bench extra).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def shrink_command(mentor: Path, out: Path, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Derive a Mentee from MENTOR: fewer channels, fewer blocks, a smaller map, with the Mentor's strongest filters.

    Every combination of --width, --depth and --resolution is a candidate (default: widths 1, 0.75, 0.5, 0.25). Its
    step is measured here; with --data each one that fits the budget is trained under the Mentor and judged.
    """
    from rich.console import Console

    from mmd.durable import write_bytes
    from mmd.errors import UsageError
    from mmd_tools.fuse.network import read_network
    from mmd_tools.shrink.frontier import best_that_fits, grid, weigh

    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"The folder {path.absolute().parent} for {option} does not exist; make it first.")
    if plot is not None:
        _require_matplotlib()
    budget, data = _budget(options), _data(options)
    network = read_network(mentor, "mentee")
    factors = grid(
        options["widths"] or (1.0, 0.75, 0.5, 0.25), options["depths"] or (1.0,), options["resolutions"] or (1.0,)
    )
    console = Console(stderr=True)
    with console.status("") as status:
        excite = _exciting(options, data)
        weighed = weigh(network, mentor, factors, budget, data, samples=excite, report=status.update)
        candidates = list(weighed)
    best = best_that_fits(candidates)
    if plot is not None:
        _draw(plot, candidates, best)
    _show(candidates, best, as_json=as_json)
    if best is None:
        raise UsageError("No candidate fits the budget; give smaller factors, or a larger --memory or --minutes.")
    write_bytes(out.absolute(), best.model)
    if not as_json:
        click.echo(f"Wrote {out}: {best.parameters:,} parameters.")


def _budget(options: dict[str, Any]) -> Budget:
    from mmd_tools.shrink.frontier import Budget

    return Budget(
        memory_bytes=parse_bytes(options["memory"]) if options["memory"] else math.inf,
        minutes=options["minutes"],
        samples=options["samples"],
        epochs=options["round_epochs"],
        batch=options["batch"],
        slowdown=options["slowdown"],
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


def _exciting(options: dict[str, Any], data: Data | None) -> np.ndarray | None:
    from mmd.artifact.load import normalise
    from mmd_tools.audio.features import recipe_preprocessing
    from mmd_tools.train_score import input_spec

    if options["by"] == "weights" or data is None:
        return None
    inputs = recipe_preprocessing(data.recipe.input)(data.train.inputs[:64])
    return normalise(inputs, input_spec(data.recipe.input, inputs.shape[1:]))


def _show(candidates: list[Candidate], best: Candidate | None, *, as_json: bool) -> None:
    if as_json:
        rows = [{**_row(each), "chosen": each is best} for each in candidates]
        click.echo(json.dumps({"candidates": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("", "width", "depth", "resolution", "parameters", "step MiB", "step ms", "round min", "accuracy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in candidates:
        accuracy = f"{each.accuracy:.4f}" if each.accuracy is not None else "" if each.fits else "too much"
        table.add_row(
            "*" if each is best else "",
            *(f"{factor:g}" for factor in asdict(each.factors).values()),
            f"{each.parameters:,}",
            f"{each.step_bytes / 2**20:.1f}",
            f"{each.step_ms:.1f}",
            f"{each.round_minutes:.2f}",
            accuracy,
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)


def _row(candidate: Candidate) -> dict[str, Any]:
    row = asdict(candidate)
    del row["model"]
    return {**row.pop("factors"), **row}


def _require_matplotlib() -> None:
    from importlib.util import find_spec

    from mmd.errors import UsageError

    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; install it with `pip install 'mmd-daemon[bench]'`.")


def _draw(path: Path, candidates: list[Candidate], best: Candidate | None) -> None:
    import io

    from matplotlib.figure import Figure

    from mmd.durable import write_bytes

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    is_judged = any(each.accuracy is not None for each in candidates)
    panels = (("step_bytes", "memory of a step, MiB", 2**20), ("step_ms", "time of a step, ms", 1))
    for axes, (key, title, unit) in zip(figure.subplots(1, 2), panels, strict=True):
        axes.set(xlabel=title, ylabel="accuracy" if is_judged else "parameters")
        axes.margins(0.15)
        for each in candidates:
            # What was not judged stands at the foot of the picture: its cost is known, its accuracy is not.
            is_at_foot = is_judged and each.accuracy is None
            height = 0.02 if is_at_foot else each.accuracy if is_judged else each.parameters
            place = axes.get_xaxis_transform() if is_at_foot else axes.transData
            marker = "*" if each is best else "o" if each.fits else "x"
            at = getattr(each, key) / unit
            axes.plot(at, height, marker=marker, color="black", ms=12 if each is best else 6, transform=place)
            label = " / ".join(f"{factor:g}" for factor in asdict(each.factors).values())
            axes.annotate(label, (at, height), xycoords=place, xytext=(6, 4), textcoords="offset points", fontsize=7)
    figure.suptitle("width / depth / resolution; star: chosen, cross: beyond the budget")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path.absolute(), picture.getvalue())
