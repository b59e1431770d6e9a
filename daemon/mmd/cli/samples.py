"""`mmd samples`: list what is stored."""

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from mmd.cli.ingest import one_line
from mmd.cli.main import Session, pass_session

if TYPE_CHECKING:
    from mmd.samples.records import SampleCounts, SampleRecord

COLUMNS = ("id", "label", "part", "round", "ingested", "source")


@click.command()
@click.option("--unlabelled", is_flag=True, help="Only those without a label.")
@click.option("--holdout", is_flag=True, help="Only those that are held out: never trained on, they judge.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@pass_session
def samples(session: Session, unlabelled: bool, holdout: bool, as_json: bool) -> None:
    """List the stored samples, oldest first."""
    from mmd.samples.store import SampleStore

    with SampleStore(session.initialised_state().samples_db, check=True) as store:
        records = list(store.records(unlabelled=unlabelled, holdout=holdout))
        if as_json:
            print(json.dumps([_as_json(record) for record in records], indent=2))
        elif sys.stdout.isatty():
            _show_table(records, store.counts())
        else:
            for record in records:
                print("\t".join(_cells(record)))


def _as_json(record: "SampleRecord") -> dict[str, object]:
    return {
        "id": record.id,
        "label": record.label,
        "holdout": record.holdout,
        "seen_in_round": record.seen_in_round,
        "ingested": record.ingested,
        "source": record.source,
        "bytes": record.bytes,
    }


def _cells(record: "SampleRecord") -> list[str]:
    """Return one line's texts, in the order of `COLUMNS`; `-` where there is nothing."""
    return [
        record.id[:12],
        record.label or "-",
        "holdout" if record.holdout else "training",
        "-" if record.seen_in_round is None else str(record.seen_in_round),
        datetime.fromtimestamp(record.ingested).astimezone().isoformat(timespec="seconds"),
        one_line(record.source),
    ]


def _show_table(records: "Iterable[SampleRecord]", counts: "SampleCounts") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*COLUMNS, box=None, header_style="bold")
    for record in records:
        table.add_row(*map(Text, _cells(record)))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{counts.total} samples: {counts.labelled} labelled, {counts.unlabelled} unlabelled, "
        f"{counts.holdout} held out, {counts.new} new"
    )
