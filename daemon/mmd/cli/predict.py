"""`mmd predict`: what the serving model sees in files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmd.cli.ingest import one_line
from mmd.cli.main import Session, pass_session
from mmd.errors import InputRefused

if TYPE_CHECKING:
    from mmd.serving.predictor import Predictor


@click.command(short_help="Name what the serving model sees.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_session
def predict(session: Session, paths: tuple[Path, ...], as_json: bool) -> None:
    """Name what the serving model sees in images, recordings, arrays, and folders of them.

    A file that cannot be read gets a line on standard error and exit code 3; the others are answered all the same.
    """
    import logging

    # Before onnxruntime is imported, which would set a format of its own for what the predictor warns of.
    logging.basicConfig(format="mmd: %(message)s", level=logging.WARNING)

    from mmd.serving.predictor import Predictor

    predictor = Predictor(session.initialised_state(), limits=session.config.samples)
    refusals: list[InputRefused] = []
    for path in _files(paths):
        try:
            _answer(predictor, path, as_json=as_json)
        except InputRefused as refusal:
            refusals.append(refusal)
    for earlier in refusals[:-1]:
        print(f"mmd: {one_line(str(earlier))}", file=sys.stderr)
    if refusals:
        raise InputRefused(one_line(str(refusals[-1]))) from refusals[-1]


def _files(paths: tuple[Path, ...]) -> list[Path]:
    """Return the files under `paths` in the order of their names; a file is taken whatever it is called."""
    from mmd.samples.find import SUFFIXES

    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = [each for each in sorted(path.rglob("*")) if each.suffix.lower() in SUFFIXES]
        if not inside:
            known = ", ".join(sorted(SUFFIXES))
            raise InputRefused(f"{path} holds nothing to predict; known are the extensions {known}.")
        files += inside
    return files


def _answer(predictor: "Predictor", path: Path, *, as_json: bool) -> None:
    prediction = predictor.predict(path)
    if as_json:
        for line in prediction.json_lines(str(path)):
            print(line, flush=True)
        return
    rows = len(prediction.labels)
    for row in range(rows):
        name = one_line(str(path) if rows == 1 else f"{path}[{row}]")
        print(f"{name}: {prediction.labels[row]} ({prediction.probabilities[row].max():.1%})")
