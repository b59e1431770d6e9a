"""Who are the speakers of the bench, and which artifact set has never heard each of them?

Every speaker is the owner once: a Mentor, a Mentee and an anchor set are made of the others' recordings alone. What was
made lies in a folder a speaker, and is used again.
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
from mmd_tools.prepare_speech import SPLITS, Speech, anchor_order, read_speech, split_by_speaker
from mmd_tools.recipe import Recipe
from mmd_tools.train_data import Part
from mmd_tools.train_run import TrainRequest, train_network

SIZES = (10, 20, 50)
"""One, two and five takes a digit."""
NETS = ("mentor", "mentee")

Report = Callable[[str], None]


def read_speakers(data: Path, recipe: Recipe, sets: Path, report: Report) -> Iterator[tuple[Owner, ArtifactSet]]:
    """Yield every speaker of the recordings in `data` and the set that was made without him; make what `sets` lacks."""
    speech = read_speech(data, recipe)
    for name in np.unique(speech.speakers).tolist():
        folder = sets / name
        if not (folder / "set").is_dir():
            _make_set(speech, name, recipe, folder, report)
        chosen = speech.speakers == name
        samples = Part(speech.inputs[chosen], speech.labels[chosen])
        yield Owner(name, samples, by_takes=True), open_set(folder / "set")


def _make_set(speech: Speech, stranger: str, recipe: Recipe, folder: Path, report: Report) -> None:
    split = split_by_speaker(speech, stranger)
    anchor = anchor_order(speech, split)
    make_folder(folder.absolute())
    np.savez_compressed(folder / "anchor.npz", inputs=speech.inputs[anchor], labels=speech.labels[anchor])
    recipe = msgspec.structs.replace(recipe, anchor=str(folder / "anchor.npz"))
    mentor, mentee = (folder / f"{name}.onnx" for name in NETS)
    for name, path, teacher in (("mentor", mentor, None), ("mentee", mentee, mentor)):
        if not path.exists():
            report(f"training the {name} that has never heard {stranger}")
            write_bytes(path.absolute(), _trained(speech, split, recipe, name, teacher, folder))
    fuse(mentor, mentee, recipe, folder / "set")


def _trained(speech: Speech, split: np.ndarray, recipe: Recipe, name: str, teacher: Path | None, folder: Path) -> bytes:
    net = recipe.nets[name]
    fresh = folder / f"{name}.fresh.onnx"
    onnx.save(build_net(net), fresh)
    train, validation = (
        Part(speech.inputs[split == SPLITS.index(part)], speech.labels[split == SPLITS.index(part)])
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
