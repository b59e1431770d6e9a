"""`mmd label`: say what a sample is, and name classes that the artifact set does not know."""

from typing import TYPE_CHECKING

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import InputRefused, UsageError

if TYPE_CHECKING:
    from mmd.samples.store import SampleStore


@click.command(short_help="Say what a sample is; name a new class.")
@click.argument("sample", metavar="ID", required=False)
@click.argument("name", metavar="LABEL", required=False)
@click.option("--new", "new_class", metavar="NAME", help="Name a spare output of the artifact set first.")
@pass_session
def label(session: Session, sample: str | None, name: str | None, new_class: str | None) -> None:
    """Give the sample whose id begins with ID the label LABEL.

    It counts as new again, so that the next round learns from the change. `--new NAME` makes NAME a class, for good,
    and takes one of the spare outputs that the artifact set reserves; an ID beside it gets that label.
    """
    if new_class is None and (sample is None or name is None):
        raise UsageError("Give the beginning of a sample's id and its label; `mmd samples` lists the ids.")
    if new_class is not None and name is not None:
        raise UsageError("The sample gets the new label; leave the other one away.")
    from mmd.samples.store import SampleStore

    with SampleStore(session.initialised_state().samples_db, check=True) as store:
        try:
            # A sample that is not there names no class.
            identifier = None if sample is None else store.resolve(sample)
            with store.transaction():
                if new_class is not None:
                    store.name_class(new_class)
                told = "" if identifier is None else _labelled(store, identifier, new_class or name or "")
        except InputRefused as refusal:
            text = str(refusal)
            raise InputRefused(text[0].upper() + text[1:]) from None
    if new_class is not None:
        print(f"`{new_class}` is a class now; the first round with a sample of it learns it.")
    if told:
        print(told)


def _labelled(store: "SampleStore", identifier: str, name: str) -> str:
    before = store.get(identifier)
    store.label(identifier, name)
    was = "no label" if before is None or before.label is None else f"`{before.label}`"
    return f"{identifier[:12]} is `{name}` now (was {was})."
