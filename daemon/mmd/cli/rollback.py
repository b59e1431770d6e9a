"""`mmd rollback`: serve an earlier model again."""

import click

from mmd.cli.main import Session, pass_session


@click.command(short_help="Serve an earlier model again.")
@click.argument("generation", type=click.IntRange(min=0), required=False)
@pass_session
def rollback(session: Session, generation: int | None) -> None:
    """Serve an earlier model again: the one before, or GENERATION.

    Programs that hold a predictor get it with their next call. The model that is left is kept, and serves again only
    when you name it here.
    """
    from mmd.promotion.models import ModelStore

    left, serving = ModelStore(session.initialised_state()).rollback(generation)
    print(f"Generation {serving.generation} serves again; generation {left.generation} is kept and no longer serves.")
