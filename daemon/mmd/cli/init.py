"""`mmd init`: make the state folder out of an artifact set."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import ArtifactRefused, UsageError
from mmd.layout import StateDir

if TYPE_CHECKING:
    from mmd.artifact.load import ArtifactSet

FOLDER_MODE = 0o750
"""The owner's samples lie in there: nobody else looks in."""


@click.command(short_help="Make the state folder out of an artifact set.")
@click.option(
    "--set",
    "set_folder",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    metavar="DIR",
    help="Artifact set to install [default: the one that comes with mmd].",
)
@click.option("--force", is_flag=True, help="Replace another artifact set, and every model made from it.")
@pass_session
def init(session: Session, set_folder: Path | None, force: bool) -> None:
    """Install an artifact set and make the sample store, the inbox and the first model.

    Doing it again with the same set changes nothing, finishes what was interrupted, and repairs a damaged set.
    """
    from mmd.artifact.load import open_set
    from mmd.promotion.turns import turn

    source = open_set(set_folder or _shipped())
    _make_root(session.state)
    with turn(session.state):
        told = _initialise(session, source, force=force)
    print(told)


def _initialise(session: Session, source: "ArtifactSet", *, force: bool) -> str:
    """Do what is missing, while nobody else changes the models; return what to tell the user."""
    state = session.state
    installed = _installed_sha256(state)
    if installed == source.sha256:
        was_whole = _is_whole(state)
        _finish(session, source)
        repaired = "" if was_whole else " Its artifact set was damaged and is repaired."
        return f"{state.root} is initialised with {source.manifest.name} already.{repaired}"
    if installed is not None and not force:
        raise UsageError(
            f"{state.root} is initialised with another artifact set; give --force to replace it and the models "
            "made from it, or choose another --state-dir."
        )
    if installed is not None:
        _replace(session, source)
    _finish(session, source)
    return f"Installed {source.manifest.name} in {state.root}; next: mmd ingest"


def _shipped() -> Path:
    from mmd.artifact.shipped import shipped_set

    return shipped_set()


def _make_root(state: StateDir) -> None:
    from mmd.durable import make_folder

    if state.root.is_dir():
        return
    try:
        make_folder(state.root)
        state.root.chmod(FOLDER_MODE)
    except OSError as error:
        raise UsageError(
            f"Cannot make the state folder {state.root} ({error.strerror}); choose another with --state-dir."
        ) from error


def _installed_sha256(state: StateDir) -> str | None:
    """Return the hash that names the installed set; `None` when there is none, or only a damaged one."""
    from mmd.artifact.load import read_set

    if not state.is_initialised:
        return None
    try:
        return read_set(state.artifact_set).sha256
    except ArtifactRefused:
        return None


def _replace(session: Session, source: "ArtifactSet") -> None:
    """Make room for another set: the samples stay, the models and rounds of the old one go."""
    from mmd.durable import remove_folder
    from mmd.samples.row_cache import remove_cache
    from mmd.samples.store import SampleStore
    from mmd.serving.form import form_of
    from mmd.supervisor.lock import DaemonLock

    state = session.state
    with DaemonLock(state.lock_file):
        if state.samples_db.exists():
            with SampleStore(state.samples_db, check=True) as store:
                store.adopt(form_of(source.manifest))
                store.mark_all_new()
        remove_cache(state.cache_db)
        # The set goes last: until then this can be tried again.
        for folder in (state.rounds, state.models, state.artifact_set):
            if folder.is_dir():
                remove_folder(folder)


def _finish(session: Session, source: "ArtifactSet") -> None:
    """Make whatever is missing; each step is whole or absent after a crash."""
    from mmd.durable import make_folder
    from mmd.promotion.models import ModelStore
    from mmd.samples.store import SampleStore
    from mmd.serving.form import form_of

    state = session.state
    for leftover in state.root.glob(".*.removed"):
        shutil.rmtree(leftover, ignore_errors=True)
    if state.samples_db.exists() and state.samples_db.stat().st_size:
        with SampleStore(state.samples_db, check=True) as store:
            store.adopt(form_of(source.manifest))
    else:
        fraction = session.config.samples.holdout
        SampleStore.create(state.samples_db, form_of(source.manifest), holdout_fraction=fraction).close()
    make_folder(state.inbox)
    # The set last: a state folder with a set counts as initialised.
    ModelStore(state).create_shipped(source)
    if not _is_whole(state):
        _install(source, state)


def _is_whole(state: StateDir) -> bool:
    from mmd.artifact.load import open_set

    try:
        open_set(state.artifact_set)
    except ArtifactRefused:
        return False
    return True


def _install(source: "ArtifactSet", state: StateDir) -> None:
    """Copy the files that the manifest lists, verify the copy, and put it in place by one rename."""
    from mmd.artifact.load import open_set
    from mmd.artifact.manifest import MANIFEST_NAME
    from mmd.durable import install_folder, remove_folder

    prepared = state.root / f".{state.artifact_set.name}.tmp"
    shutil.rmtree(prepared, ignore_errors=True)
    prepared.mkdir()
    try:
        for name in (MANIFEST_NAME, *source.manifest.files):
            target = prepared / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path(name), target)
        open_set(prepared)
        if state.artifact_set.is_dir():
            remove_folder(state.artifact_set)
        install_folder(prepared, state.artifact_set)
    except OSError as error:
        raise UsageError(f"Cannot copy the artifact set to {state.root} ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
