"""What do many tests need? Waiting without sleeping, small pictures, a tiny artifact set, and the real command."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from mmd.artifact.manifest import (
    FORMAT_VERSION,
    FileRecord,
    Graphs,
    InputSpec,
    LossSpec,
    Manifest,
    OptimizerSpec,
    Parameter,
    Schedule,
    TrainingDefaults,
    encode_manifest,
    manifest_path,
)
from mmd.cli.main import main
from mmd.samples.store import SampleStore

COMMAND_SECONDS = 240.0


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def class_counts(store: SampleStore) -> dict[str, int]:
    """Return how many samples each label has, only those that have any."""
    return dict(Counter(record.label for record in store.records() if record.label is not None))


def eventually(claim: Callable[[], object], *, within: float = 60.0, every: float = 0.02) -> None:
    """Wait until `claim()` is true. Fails when it is not `within` so many seconds.

    The bound is wide: others may keep the processors busy, and tests run on all of them.
    """
    deadline = time.monotonic() + within
    while not claim():
        assert time.monotonic() < deadline, f"not true within {within:g} s"
        time.sleep(every)


@contextlib.contextmanager
def started(command: list[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Start a process, and kill it where the test fails before the process ends: a long round would hold the suite."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return self.err.splitlines()


def run_mmd(
    *arguments: object,
    state: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> Ran:
    """Run `mmd` in a process of its own, with no configuration but the one that is given."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MMD_")}
    environment["MMD_CONFIG"] = ""
    if state is not None:
        environment["MMD_STATE_DIR"] = str(state)
    done = subprocess.run(
        [sys.executable, "-m", "mmd", *map(str, arguments)],
        env=environment | dict(env or {}),
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def call_mmd(
    *arguments: object, state: Path | None = None, config: Path | None = None, on_terminal: bool = False
) -> Ran:
    """Run `mmd` in this process: as `run_mmd`, but quicker, for commands that neither stay nor fork."""
    out, err = (_Terminal(), _Terminal()) if on_terminal else (io.StringIO(), io.StringIO())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MMD_")}
    environment["MMD_CONFIG"] = str(config or "")
    if state is not None:
        environment["MMD_STATE_DIR"] = str(state)
    with (
        mock.patch.object(sys, "argv", ["mmd", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        mock.patch.dict(os.environ, environment, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Ran(code, out.getvalue(), err.getvalue())


def call_tools(*arguments: object) -> Ran:
    """Run `mmd-tools` in this process."""
    from mmd_tools.cli import main as tools_main

    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["mmd-tools", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            tools_main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Ran(code, out.getvalue(), err.getvalue())


def grey(seed: int, *, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """Return a grey picture of noise, (width, height), different for every seed."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), np.uint8)
    return Image.fromarray(values)


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: Path, seed: int, *, size: tuple[int, int] = (8, 8)) -> Path:
    """Write a picture of noise, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(grey(seed, size=size)))
    return path


def write_class_folders(root: Path, per_class: Mapping[str, int]) -> Path:
    """Write a folder a class with so many different 8 x 8 pictures in each."""
    seed = 0
    for name, count in per_class.items():
        for number in range(count):
            write_png(root / name / f"{number:03d}.png", seed)
            seed += 1
    return root


def image_manifest(
    files: Mapping[str, FileRecord], *, shape: tuple[int, ...] = (1, 8, 8), classes: tuple[str, ...] = ("cat", "dog")
) -> Manifest:
    """Return a manifest that parses, for a set of 8-bit images (or of tensors, when `shape` has not three entries)."""
    is_image = len(shape) == 3
    schedule = Schedule(alpha=((0.0, 1.0),), beta=((0.0, 1.0),), gamma=((0.0, 1.0),))
    return Manifest(
        format=FORMAT_VERSION,
        name="tiny",
        description="For tests: it looks like an artifact set and holds no network.",
        licence="MIT",
        input=InputSpec(
            name="input",
            kind="image" if is_image else "tensor",
            shape=shape,
            scale=1 / 255 if is_image else 1.0,
        ),
        classes=classes,
        logits="logits",
        mentor_logits="mentor_logits",
        probes=(),
        loss=LossSpec(
            temperature=2.0,
            hint_weights=(),
            schedules=dict.fromkeys(("obedient", "adamant", "independent", "unlabelled"), schedule),
            default_schedule="obedient",
        ),
        optimizer=OptimizerSpec(),
        training=TrainingDefaults(epochs=1, batch_size=8, learning_rate=0.001, replay=0.25),
        parameters=(Parameter(name="w", shape=(2, 2), role="mentee"),),
        graphs=Graphs(),
        files=dict(files),
        memory_estimate_bytes={"portable": 1_000_000},
        versions={},
    )


def write_fake_set(
    folder: Path,
    *,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: tuple[str, ...] = ("cat", "dog"),
    flavour: str = "a",
) -> Path:
    """Write a set that verifies but whose networks are only bytes. Another `flavour` makes another set."""
    folder.mkdir(parents=True)
    graphs = Graphs()
    records = {}
    for name in (graphs.inference, graphs.mentor, graphs.parameters):
        data = f"{flavour} {name}".encode()
        (folder / name).write_bytes(data)
        records[name] = FileRecord(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    manifest_path(folder).write_bytes(encode_manifest(image_manifest(records, shape=shape, classes=classes)))
    return folder


def initialised_state(tmp_path: Path, *, shape: tuple[int, ...] = (1, 8, 8)) -> Path:
    """Return a state folder that `mmd init` made from a fake set with the classes `cat` and `dog`."""
    state = tmp_path / "state"
    ran = call_mmd("init", "--set", write_fake_set(tmp_path / "fake-set", shape=shape), state=state)
    assert ran.code == 0, ran.err
    return state
