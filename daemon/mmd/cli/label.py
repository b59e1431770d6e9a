"""`mmd label`: say what a sample is."""

import click

from mmd.cli.main import Session, pass_session


@click.command()
@click.argument("sample", metavar="ID")
@click.argument("name", metavar="LABEL")
@pass_session
def label(session: Session, sample: str, name: str) -> None:
    """Give the sample whose id begins with ID the label LABEL.

    It counts as new again, so that the next round learns from the change.
    """
    from mmd.errors import InputRefused
    from mmd.samples.store import SampleStore

    with SampleStore(session.initialised_state().samples_db, check=True) as store:
        identifier = store.resolve(sample)
        before = store.get(identifier)
        try:
            store.label(identifier, name)
        except InputRefused as refusal:
            text = str(refusal)
            raise InputRefused(text[0].upper() + text[1:]) from None
        was = "no label" if before is None or before.label is None else f"`{before.label}`"
    print(f"{identifier[:12]} is `{name}` now (was {was}).")
