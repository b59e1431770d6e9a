"""Who are the strangers of the bench, and which artifact set has never seen each of them?

Everybody is the owner once: a Mentor, a Mentee and an anchor set are made of the others' samples alone. What was made
lies in a folder a person, and is used again.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx

from mmd.artifact.load import ArtifactSet, open_set
from mmd.durable import make_folder, write_bytes
from mmd_tools.bench.owners_data import Owner
from mmd_tools.fuse import fuse
from mmd_tools.nets import build_net
from mmd_tools.prepare_motion import read_motion
from mmd_tools.prepare_speech import read_speech
from mmd_tools.recipe import Recipe
from mmd_tools.takes import SPLITS, Takes, anchor_order, split_by_person
from mmd_tools.train_data import Part
from mmd_tools.train_run import TrainRequest, train_network

SIZES = {"speech": (10, 20, 50), "motion": (7, 21, 49)}
"""One, two and five takes a digit; one, three and seven windows an exercise."""
NETS = ("mentor", "mentee")

Report = Callable[[str], None]


def read_people(
    kind: str, data: Path, recipe: Recipe, sets: Path, report: Report
) -> Iterator[tuple[Owner, ArtifactSet]]:
    """Yield everybody in `data` and the set that was made without him, by name; make what `sets` lacks."""
    samples = read_speech(data, recipe) if kind == "speech" else read_motion(data, recipe)
    for name in samples.names:
        folder = sets / name
        if not (folder / "set").is_dir():
            _make_set(samples, name, recipe, folder, report)
        chosen = samples.people == name
        yield Owner(name, Part(samples.inputs[chosen], samples.labels[chosen]), by_takes=True), open_set(folder / "set")


def _make_set(samples: Takes, stranger: str, recipe: Recipe, folder: Path, report: Report) -> None:
    split = split_by_person(samples, stranger)
    anchor = anchor_order(samples, split)
    make_folder(folder.absolute())
    np.savez_compressed(folder / "anchor.npz", inputs=samples.inputs[anchor], labels=samples.labels[anchor])
    recipe = msgspec.structs.replace(recipe, anchor=str(folder / "anchor.npz"))
    mentor, mentee = (folder / f"{name}.onnx" for name in NETS)
    for name, path, teacher in (("mentor", mentor, None), ("mentee", mentee, mentor)):
        if not path.exists():
            report(f"training the {name} that has never met {stranger}")
            write_bytes(path.absolute(), _trained(samples, split, recipe, name, teacher, folder))
    fuse(mentor, mentee, recipe, folder / "set")


def _trained(samples: Takes, split: np.ndarray, recipe: Recipe, name: str, teacher: Path | None, folder: Path) -> bytes:
    net = recipe.nets[name]
    fresh = folder / f"{name}.fresh.onnx"
    onnx.save(build_net(net), fresh)
    train, validation = (
        Part(samples.inputs[split == SPLITS.index(part)], samples.labels[split == SPLITS.index(part)])
        for part in ("train", "validation")
    )
    request = TrainRequest(
        net=fresh,
        mentor=teacher,
        recipe=recipe,
        training=net.training,
        augment=net.augment,
        audio_augment=net.audio_augment,
        train=train,
        validation=validation,
        seed=net.seed,
    )
    best = train_network(request)
    fresh.unlink()
    return best.model
