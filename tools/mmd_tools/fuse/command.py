"""`mmd-tools fuse` and `pairs`: parse, call, show progress on a terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmd_tools.tables import print_table

if TYPE_CHECKING:
    from mmd_tools.fuse.pairing import Likeness

_FILE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 12
"""Rows of the ranking in a table; `--json` has them all."""


@click.command("fuse")
@click.option("--mentor", type=_FILE, help="The big network (ONNX).")
@click.option("--mentee", type=_FILE, required=True, help="The small one (ONNX).")
@click.option("--recipe", type=_FILE, required=True, help="The recipe (TOML).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the artifact set.")
@click.option("--no-mentor", is_flag=True, help="Build a set that trains on labels alone.")
@click.option("--force", is_flag=True, help="Replace the folder when it is not empty.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the set, and how the pairs were found.")
def fuse_command(
    mentor: Path | None, mentee: Path, recipe: Path, out: Path, no_mentor: bool, force: bool, as_json: bool
) -> None:
    """Make one artifact set out of a Mentor, a Mentee and a recipe."""
    from rich.console import Console

    from mmd.errors import UsageError
    from mmd_tools.fuse import fuse
    from mmd_tools.recipe_check import load_recipe

    if (mentor is None) != no_mentor:
        raise UsageError("Name a --mentor, or say --no-mentor for a set that trains on labels alone.")
    asked = load_recipe(recipe)
    console = Console(stderr=True)
    with console.status("starting") as status:
        ranking = fuse(mentor, mentee, asked, out, force=force, report=status.update)
    if as_json:
        click.echo(json.dumps({"set": str(out), "ranking": [asdict(pair) for pair in ranking]}))
    elif ranking:
        show_ranking(ranking)
    if console.is_terminal:
        console.print(f"Wrote the artifact set {out}; check it with `mmd-tools verify {out}`.")


@click.command("pairs", short_help="Rank the layers of Mentor and Mentee; build nothing.")
@click.option("--mentor", type=_FILE, required=True, help="The big network (ONNX).")
@click.option("--mentee", type=_FILE, required=True, help="The small one (ONNX).")
@click.option("--recipe", type=_FILE, required=True, help="The recipe (TOML).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, every two layers in it.")
def pairs_command(mentor: Path, mentee: Path, recipe: Path, as_json: bool) -> None:
    """Rank the layers of Mentor and Mentee by how alike they are on the anchor set, and build nothing."""
    from rich.console import Console

    from mmd_tools.fuse import find_pairs
    from mmd_tools.recipe_check import load_recipe

    asked = load_recipe(recipe)
    with Console(stderr=True).status("comparing the layers"):
        ranking = find_pairs(mentor, mentee, asked)
    if as_json:
        click.echo(json.dumps([asdict(pair) for pair in ranking]))
    else:
        show_ranking(ranking)


def show_ranking(ranking: "Sequence[Likeness]") -> None:
    """Print the most alike layers, and all that are paired."""
    shown = [pair for index, pair in enumerate(ranking) if index < _SHOWN or pair.is_chosen]
    rows = []
    for pair in shown:
        shapes = ["x".join(map(str, shape)) for shape in (pair.mentor_shape, pair.mentee_shape)]
        scores = f"{pair.cka:.3f}", f"{pair.cosine:.3f}", "paired" if pair.is_chosen else ""
        rows.append((pair.mentor, shapes[0], pair.mentee, shapes[1], *scores))
    print_table(("mentor", "shape", "mentee", "shape", "cka", "cosine", ""), rows)
    if len(shown) < len(ranking):
        click.echo(f"and {len(ranking) - len(shown)} less alike; --json lists all")
