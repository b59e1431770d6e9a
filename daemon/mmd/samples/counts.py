"""How many samples are there? Told without the rest of the store, since `mmd status` is to answer at once."""

import sqlite3
from pathlib import Path

from mmd.samples.database import open_database, translated
from mmd.samples.records import SampleCounts

NO_SAMPLES = SampleCounts(total=0, labelled=0, unlabelled=0, holdout=0, new=0, bytes=0)


def count_samples(path: Path) -> SampleCounts:
    """Return the counts of the store at `path`, zeros when there is none."""
    if not path.exists():
        return NO_SAMPLES
    connection = open_database(path)
    try:
        return counted(connection, path)
    finally:
        connection.close()


def counted(connection: sqlite3.Connection, path: Path) -> SampleCounts:
    """Return the counts of the open store."""
    with translated(path):
        row = connection.execute(
            "SELECT count(*), count(label), count(*) - count(label), total(holdout),"
            " total(seen_in_round IS NULL AND NOT holdout), total(bytes) FROM samples"
        ).fetchone()
    return SampleCounts(*map(int, row))
