"""`mmd-tools train`: one network from a recipe, or one that is there, trained through the product's own engine."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from mmd_tools.nets import NetRecipe
    from mmd_tools.recipe import Recipe
    from mmd_tools.train_data import Part
    from mmd_tools.train_run import Epoch, TrainRequest

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("train")
@click.option("--net", "net_name", required=True, help="Which [nets.NAME] of the recipe.")
@click.option("--start", type=FILE, help="Begin with these weights (ONNX) instead of fresh ones.")
@click.option("--mentor", type=FILE, help="Train under this network (ONNX); labels alone otherwise.")
@click.option("--recipe", "recipe_file", type=FILE, required=True, help="The recipe (TOML).")
@click.option("--data", type=FILE, required=True, help="What `mmd-tools prepare` wrote (.npz).")
@click.option("--out", type=FILE, required=True, help="The trained network (ONNX).")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the recipe's.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "portable", "ort_training"]),
    default="auto",
    show_default=True,
    help="Runs the steps.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of the engine.")
def train(
    net_name: str,
    start: Path | None,
    mentor: Path | None,
    recipe_file: Path,
    data: Path,
    out: Path,
    epochs: int | None,
    seed: int | None,
    engine: str,
    threads: int,
) -> None:
    """Train one network of a recipe. OUT appears when the training is over, whole or not at all."""
    import msgspec
    from rich.console import Console

    from mmd.durable import make_folder, write_bytes
    from mmd_tools.destination import behind_links
    from mmd_tools.recipe_check import load_recipe
    from mmd_tools.train_data import part, read_prepared
    from mmd_tools.train_run import TrainRequest

    place = behind_links(out)
    recipe = load_recipe(recipe_file)
    net = _named(recipe, net_name)
    if seed is not None:
        net = msgspec.structs.replace(net, seed=seed)
    training = net.training if epochs is None else msgspec.structs.replace(net.training, epochs=epochs)
    arrays = read_prepared(data)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="mmd-net-") as folder:
        request = TrainRequest(
            net=start or _fresh(net, Path(folder) / f"{net_name}.onnx"),
            mentor=mentor,
            recipe=recipe,
            training=training,
            augment=net.augment,
            audio_augment=net.audio_augment,
            train=part(arrays, "train"),
            validation=part(arrays, "validation"),
            seed=net.seed,
            engine=engine,
            threads=threads,
        )
        best = _train_visibly(request, console)
    make_folder(place.parent)
    write_bytes(place, best.model)
    click.echo(f"Wrote {out}: epoch {best.number}, validation {best.validation_accuracy:.4f}")
    if "strangers" in arrays["splits"]:
        click.echo(_score_strangers(best, recipe, part(arrays, "strangers")))


def _named(recipe: "Recipe", name: str) -> "NetRecipe":
    from mmd.errors import UsageError
    from mmd_tools.nearest import nearest

    if name not in recipe.nets:
        raise UsageError(f"The recipe has no [nets.{name}]; {nearest(name, list(recipe.nets))}")
    return recipe.nets[name]


def _fresh(net: "NetRecipe", path: Path) -> Path:
    from mmd_tools.nets import build_net, parameter_count

    model = build_net(net)
    path.write_bytes(model.SerializeToString(deterministic=True))
    click.echo(f"{path.stem}: {parameter_count(model):,} parameters, {len(net.layers)} layers")
    return path


def _train_visibly(request: "TrainRequest", console: "Console") -> "Epoch":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mmd_tools.train_run import Epoch, train_network

    columns = (TextColumn("loss {task.fields[loss]:.4f}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=request.steps, loss=float("nan"))

        def show(epoch: Epoch) -> None:
            figures = f"loss {epoch.mean_loss:.4f}  validation {epoch.validation_accuracy:.4f}"
            click.echo(f"epoch {epoch.number:2}  {figures}")

        return train_network(
            request,
            on_step=lambda step, loss: progress.update(task, completed=step, loss=loss),
            on_epoch=show,
        )


def _score_strangers(best: "Epoch", recipe: "Recipe", strangers: "Part") -> str:
    from mmd_tools.train_score import Scorer

    accuracy = Scorer(best.model, recipe.input).accuracy(strangers.inputs, strangers.labels)
    return f"strangers, never trained or chosen on: {accuracy:.4f} of {len(strangers.labels)}"
