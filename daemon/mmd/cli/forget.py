"""`mmd forget`: remove samples, and every trace of them."""

import sys
from typing import TYPE_CHECKING

import click

from mmd.cli.main import Session, pass_session
from mmd.errors import UsageError

if TYPE_CHECKING:
    from mmd.samples.store import SampleStore

ASK_FROM_SAMPLES = 2


@click.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--label", metavar="L", help="Forget every sample with this label.")
@click.option("--all", "everything", is_flag=True, help="Forget every sample.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_session
def forget(session: Session, ids: tuple[str, ...], label: str | None, everything: bool, yes: bool) -> None:
    """Remove samples for good, with every trace of them.

    Their bytes leave the store and its journal, the open round that trains on them is abandoned with its cached
    features and checkpoints, and models that saw them are dropped: the newest model from before them serves again,
    and the next round learns from the samples that are left.
    """
    if sum([bool(ids), label is not None, everything]) != 1:
        raise UsageError("Name samples by id, or give one of --label and --all; `mmd samples` lists them.")
    from mmd.promotion.forgetting import forget_samples
    from mmd.promotion.models import ModelStore
    from mmd.samples.store import SampleStore

    state = session.initialised_state()
    with SampleStore(state.samples_db, check=True) as store:
        chosen = _chosen(store, ids, label)
        if not chosen:
            print("There is nothing to forget.")
            return
        if not yes and (everything or len(chosen) >= ASK_FROM_SAMPLES):
            _ask(len(chosen))
        models = ModelStore(state)
        removed, dropped = forget_samples(models, store, chosen)
        print(f"Forgot {removed} {'sample' if removed == 1 else 'samples'}.")
        if dropped:
            named = ", ".join(map(str, dropped))
            serving = models.current().card.generation
            print(f"Dropped the models that saw them: generation {named}. Generation {serving} serves.")


def _chosen(store: "SampleStore", ids: tuple[str, ...], label: str | None) -> list[str]:
    if ids:
        return list(dict.fromkeys(store.resolve(identifier) for identifier in ids))
    return [record.id for record in store.records(label=label)]


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"This forgets {count} samples for good; give --yes to do it without being asked.")
    click.confirm(f"Forget {count} samples for good?", abort=True, err=True)
