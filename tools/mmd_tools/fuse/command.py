"""`mmd-tools fuse`: parse, call, show progress on a terminal."""

from pathlib import Path

import click


@click.command("fuse")
@click.option("--mentor", type=click.Path(path_type=Path, dir_okay=False), help="The big network (ONNX).")
@click.option("--mentee", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The small one (ONNX).")
@click.option("--recipe", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The recipe (TOML).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the artifact set.")
@click.option("--no-mentor", is_flag=True, help="Build a set that trains on labels alone.")
@click.option("--force", is_flag=True, help="Replace the folder when it is not empty.")
def fuse_command(mentor: Path | None, mentee: Path, recipe: Path, out: Path, no_mentor: bool, force: bool) -> None:
    """Make one artifact set out of a Mentor, a Mentee and a recipe."""
    from rich.console import Console

    from mmd.errors import UsageError
    from mmd_tools.fuse import fuse
    from mmd_tools.recipe import load_recipe

    if (mentor is None) != no_mentor:
        raise UsageError("Name a --mentor, or say --no-mentor for a set that trains on labels alone.")
    asked = load_recipe(recipe)
    console = Console(stderr=True)
    with console.status("starting") as status:
        fuse(mentor, mentee, asked, out, force=force, report=status.update)
    if console.is_terminal:
        console.print(f"Wrote the artifact set {out}; check it with `mmd-tools verify {out}`.")
