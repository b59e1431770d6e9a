"""`mmd-tools prepare`: public files in, arrays and pictures out. Only parses, calls and prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmd_tools.takes import Takes

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("prepare")
def prepare() -> None:
    """Make training data out of public files."""


@prepare.command("digits", short_help="Split MNIST's training digits by writer.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where the files are.")
@click.option("--out", type=FILE, required=True, help="The digits, split by writer (.npz).")
@click.option("--anchor", "anchor_file", type=FILE, required=True, help="The anchor set (.npz).")
def prepare_digits(data: Path, out: Path, anchor_file: Path) -> None:
    """Split MNIST's training digits by writer, and take the anchor set from its licensed part."""
    import numpy as np

    from mmd_tools.prepare_digits import SPLITS, choose_anchor, read_digits, read_licensed, split_by_writer

    digits = read_digits(data)
    split = split_by_writer(digits)
    anchor = choose_anchor(digits, read_licensed(data))
    _save(
        out,
        inputs=digits.inputs,
        labels=digits.labels,
        writers=digits.writers,
        split=split,
        splits=np.array(SPLITS),
    )
    _save(anchor_file, inputs=anchor.inputs, labels=anchor.labels)
    for index, name in enumerate(SPLITS):
        chosen = split == index
        writers = len(np.unique(digits.writers[chosen]))
        click.echo(f"{name:10}  {int(chosen.sum()):6} digits  {writers:4} writers")
    click.echo(f"Wrote {out} and {anchor_file} ({len(anchor.labels)} digits: even for replay, odd for the gate).")


@prepare.command("speech", short_help="Split spoken digits by speaker and take.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="DIGIT_SPEAKER_TAKE.wav.")
@click.option("--recipe", "recipe_file", type=FILE, required=True, help="The recipe, for what is stored.")
@click.option("--stranger", required=True, help="The speaker whom no network is to hear.")
@click.option("--out", type=FILE, required=True, help="The recordings, split by speaker and take (.npz).")
@click.option("--anchor", "anchor_file", type=FILE, required=True, help="The anchor set (.npz).")
def prepare_speech(data: Path, recipe_file: Path, stranger: str, out: Path, anchor_file: Path) -> None:
    """Split spoken digits: all of one speaker's for the test, the others' by take."""
    from mmd_tools.prepare_speech import read_speech
    from mmd_tools.recipe_check import load_recipe

    _save_takes(read_speech(data, load_recipe(recipe_file)), stranger, out, anchor_file)


@prepare.command("motion", short_help="Cut wrist motion into windows, split by person and take.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="watch_dataset.npy.")
@click.option("--recipe", "recipe_file", type=FILE, required=True, help="The recipe, for the classes.")
@click.option("--stranger", required=True, help="The person whom no network is to know, such as `person 01`.")
@click.option("--out", type=FILE, required=True, help="The windows, split by person and take (.npz).")
@click.option("--anchor", "anchor_file", type=FILE, required=True, help="The anchor set (.npz).")
def prepare_motion(data: Path, recipe_file: Path, stranger: str, out: Path, anchor_file: Path) -> None:
    """Cut wrist motion into windows: all of one person's for the test, the others' by take."""
    from mmd_tools.prepare_motion import read_motion
    from mmd_tools.recipe_check import load_recipe

    _save_takes(read_motion(data, load_recipe(recipe_file)), stranger, out, anchor_file)


@prepare.command("fashion", short_help="Split Fashion-MNIST's training pictures.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True, help="The four files.")
@click.option("--out", type=FILE, required=True, help="The pictures, split (.npz).")
@click.option("--anchor", "anchor_file", type=FILE, required=True, help="The anchor set (.npz).")
def prepare_fashion(data: Path, out: Path, anchor_file: Path) -> None:
    """Split Fashion-MNIST's training pictures; its test files are not looked at."""
    import numpy as np

    from mmd_tools.prepare_fashion import SPLITS, read_garments, split_by_place

    garments = read_garments(data)
    split = split_by_place(len(garments.labels))
    is_anchor = split == SPLITS.index("anchor")
    _save(out, inputs=garments.inputs, labels=garments.labels, split=split, splits=np.array(SPLITS))
    _save(anchor_file, inputs=garments.inputs[is_anchor], labels=garments.labels[is_anchor])
    for index, name in enumerate(SPLITS):
        click.echo(f"{name:10}  {int((split == index).sum()):6} pictures")
    click.echo(f"Wrote {out} and {anchor_file}.")


@prepare.command("owner")
@click.option("--data", type=FILE, required=True, help="What `prepare digits` wrote.")
@click.option("--writer", type=int, required=True, help="A stranger's number; `prepare strangers` lists them.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A folder per class.")
def prepare_owner(data: Path, writer: int, out: Path) -> None:
    """Write one stranger's digits as PNG files, a folder per class."""
    from mmd_tools.prepare_digits import digits_of
    from mmd_tools.prepare_pictures import write_pictures

    images, labels = digits_of(_load(data), writer)
    write_pictures(images, labels, out)
    click.echo(f"Wrote {len(labels)} digits of writer {writer} to {out}.")


@prepare.command("strangers")
@click.option("--data", type=FILE, required=True, help="What `prepare digits` wrote.")
@click.option("--mentee", type=FILE, required=True, help="The trained Mentee (.onnx).")
@click.option("--mentor", type=FILE, required=True, help="The trained Mentor (.onnx).")
@click.option("--recipe", "recipe_file", type=FILE, required=True, help="The recipe, for the normalisation.")
@click.option("--at-least", type=int, default=110, show_default=True, help="Leave out writers with fewer digits.")
def prepare_strangers(data: Path, mentee: Path, mentor: Path, recipe_file: Path, at_least: int) -> None:
    """List the strangers, those first whom the Mentee reads worst."""
    from mmd_tools.prepare_pictures import score_strangers
    from mmd_tools.recipe_check import load_recipe

    scores = score_strangers(_load(data), mentee, mentor, load_recipe(recipe_file).input, at_least=at_least)
    click.echo("writer  digits  mentee  mentor")
    for score in scores:
        click.echo(f"{score.writer:6}  {score.digits:6}  {score.mentee:.4f}  {score.mentor:.4f}")


def _save_takes(samples: "Takes", stranger: str, out: Path, anchor_file: Path) -> None:
    import numpy as np

    from mmd_tools.takes import SPLITS, anchor_order, split_by_person

    split = split_by_person(samples, stranger)
    anchor = anchor_order(samples, split)
    _save(out, inputs=samples.inputs, labels=samples.labels, split=split, splits=np.array(SPLITS))
    _save(anchor_file, inputs=samples.inputs[anchor], labels=samples.labels[anchor])
    for index, name in enumerate(SPLITS):
        people = len(np.unique(samples.people[split == index]))
        click.echo(f"{name:10}  {int((split == index).sum()):6} samples  {people:2} people")
    click.echo(f"Wrote {out} and {anchor_file} ({len(anchor)} samples: even for replay, odd for the gate).")


def _save(path: Path, **arrays: "NDArray[Any]") -> None:
    import io

    import numpy as np

    from mmd.durable import make_folder, write_bytes
    from mmd_tools.destination import behind_links

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    place = behind_links(path)
    make_folder(place.parent)
    write_bytes(place, buffer.getvalue())


def _load(path: Path) -> "dict[str, NDArray[Any]]":
    from mmd_tools.train_data import read_prepared

    return read_prepared(path)
