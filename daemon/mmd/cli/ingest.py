"""`mmd ingest`: take samples in."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import InputRefused, UsageError

if TYPE_CHECKING:
    from mmd.samples.find import Found, Refusal
    from mmd.samples.ingest import Taken
    from mmd.samples.recording import Resample
    from mmd.samples.records import Added
    from mmd.samples.store import SampleStore

REPEATS_NAMED = 10
PROGRESS_FROM_FILES = 100


@click.command(short_help="Store pictures, recordings or arrays.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, readable=False))
@click.option("--label", metavar="L", help="The label of everything named; takes the place of folder names.")
@click.option("--new", "is_new", is_flag=True, help="Make the label a class when it is none: see `mmd label --new`.")
@click.option("--inbox", is_flag=True, help="Take in what lies in the state folder's inbox, and empty it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_session
def ingest(
    session: Session, paths: tuple[Path, ...], label: str | None, is_new: bool, inbox: bool, as_json: bool
) -> int:
    """Store samples from files or folders: PNG and JPEG, or WAV and FLAC, or .npy and .npz, whatever the set takes.

    The first level of subfolders names the classes. When this returns 0, every sample is on disk and survives a power
    cut. What is refused is named on stderr, nothing of it is stored, and the exit code is 3.
    """
    if bool(paths) == inbox:
        raise UsageError("Name files or folders to ingest, or give --inbox; see `mmd ingest --help`.")
    if is_new and label is None:
        raise UsageError("--new makes the label of --label a class; give that too.")
    if inbox and label is not None:
        raise UsageError("In the inbox the subfolders name the labels; leave --label away.")
    from mmd.samples.store import SampleStore

    state = session.initialised_state()
    config = session.config.samples
    account = Account()
    with SampleStore(state.samples_db, quota_mib=config.quota_mib, check=True) as store:
        try:
            results = _inbox(store, session, account) if inbox else _named(store, session, paths, label, is_new=is_new)
            for result in results:
                account.enter(result, as_json=as_json)
        finally:
            # Also when the disk is full or the user interrupts: what was committed until then stays.
            account.show(as_json=as_json)
    return InputRefused.exit_code if account.refused else 0


def _named(
    store: "SampleStore", session: Session, paths: tuple[Path, ...], label: str | None, *, is_new: bool
) -> "Iterator[Taken | Refusal]":
    from mmd.samples.find import Found, find
    from mmd.samples.ingest import ingest

    items = [item for path in paths for item in find(path, store.form, label)]
    if label is not None:
        try:
            if is_new and label not in store.form.classes and any(isinstance(item, Found) for item in items):
                store.name_class(label)
            elif not is_new:
                store.form.require_class(label)
        except InputRefused as refusal:
            raise InputRefused(f"Nothing was stored: {refusal}") from None
    return ingest(store, _with_progress(items), session.config.samples, _resample(store, session))


def _inbox(store: "SampleStore", session: Session, account: "Account") -> "Iterator[Taken | Refusal]":
    from mmd.samples.inbox_pass import InboxPass

    inbox_pass = InboxPass(store, session.state.inbox, session.config.samples, _resample(store, session))
    yield from inbox_pass
    account.unsettled, account.stuck = inbox_pass.unsettled, inbox_pass.stuck


def _resample(store: "SampleStore", session: Session) -> "Resample | None":
    if store.form.kind != "audio":
        return None
    from mmd.artifact.load import read_set
    from mmd.artifact.preprocess import Resampler

    return Resampler.of(read_set(session.state.artifact_set))


def _with_progress(items: "list[Found | Refusal]") -> "Iterator[Found | Refusal]":
    """Yield `items`, with a bar on a terminal when there are many."""
    if len(items) < PROGRESS_FROM_FILES or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description="Ingesting", console=Console(stderr=True), transient=True)


def one_line(text: str) -> str:
    """Make `text` fit to be printed: a file name may hold line breaks, control codes, and bytes that are no text."""
    return "".join(char if char.isprintable() else "?" for char in text)


@dataclass
class Account:
    """What became of everything, in the order in which it was committed."""

    samples: "list[tuple[Path, Added]]" = field(default_factory=list)
    refused: "list[Refusal]" = field(default_factory=list)
    unsettled: int = 0
    """Inbox files left for the next pass."""
    stuck: list[Path] = field(default_factory=list)
    """Inbox files that were dealt with, and could not be removed."""

    def enter(self, result: "Taken | Refusal", *, as_json: bool) -> None:
        from mmd.samples.ingest import Taken

        if isinstance(result, Taken):
            self.samples.extend((result.path, added) for added in result.added)
            return
        self.refused.append(result)
        if not as_json:
            print(one_line(f"mmd: refused {result}"), file=sys.stderr)

    def show(self, *, as_json: bool) -> None:
        if as_json:
            print(json.dumps(self._as_json()))
            return
        for folder, count in Counter(path.parent for path in self.stuck).items():
            told = (
                f"mmd: {count} of {folder} stay there: only its owner may remove them; chmod g+w {folder} lets others."
            )
            print(one_line(told), file=sys.stderr)
        self._name_repeats()
        print(self._summary())

    def _count(self, outcome: str) -> int:
        return sum(added.outcome.value == outcome for _, added in self.samples)

    @property
    def _held_out(self) -> int:
        return sum(added.holdout for _, added in self.samples if added.outcome.value == "stored")

    def _summary(self) -> str:
        parts = [f"stored {self._count('stored')} ({self._held_out} held out)"]
        further = ("labelled", "already stored")
        parts += [f"{outcome} {self._count(outcome)}" for outcome in further if self._count(outcome)]
        if self.refused:
            parts.append(f"refused {len(self.refused)}")
        if self.unsettled:
            parts.append(f"left {self.unsettled} that changed just now for the next pass")
        return ", ".join(parts)

    def _name_repeats(self) -> None:
        repeats = [(path, added) for path, added in self.samples if added.outcome.value == "already stored"]
        for path, added in repeats[:REPEATS_NAMED]:
            print(one_line(f"already stored: {path} (as {added.id[:12]}, from {added.stored_source})"))
        if len(repeats) > REPEATS_NAMED:
            print(f"already stored: {len(repeats) - REPEATS_NAMED} more")
        for path, added in self.samples:
            if added.outcome.value == "labelled":
                told = f"labelled: {path} was stored without a label (as {added.id[:12]}); now it is `{added.label}`"
                print(one_line(told))

    def _as_json(self) -> dict[str, Any]:
        return {
            "stored": self._count("stored"),
            "held_out": self._held_out,
            "labelled": self._count("labelled"),
            "already_stored": self._count("already stored"),
            "refused": [{"path": str(refusal.path), "reason": refusal.reason} for refusal in self.refused],
            "unsettled": self.unsettled,
            "stuck": [str(path) for path in self.stuck],
            "samples": [
                {
                    "path": str(path),
                    "id": added.id,
                    "outcome": added.outcome.value,
                    "label": added.label,
                    "holdout": added.holdout,
                }
                for path, added in self.samples
            ],
        }
