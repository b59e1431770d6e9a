"""Which samples does the owner have? The store: content-addressed, durable, with a stable holdout split.

What a returned `add`, `label` or `forget` did survives a power cut at that instant (WAL, `synchronous=FULL`).
Nothing here imports numpy before `load` is called.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmd.errors import InputRefused, StoreDamaged
from mmd.samples.counts import counted
from mmd.samples.database import create_database, translated
from mmd.samples.form import SampleForm, is_held_out, sample_id
from mmd.samples.records import Added, NewSample, Outcome, SampleCounts, SampleRecord
from mmd.samples.store_file import StoreFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_QUERY_CHUNK = 500
_MIB = 2**20


class SampleStore(StoreFile):
    """An open sample store. One thread at a time; any number of processes."""

    def __init__(self, path: Path, *, quota_mib: float | None = None, check: bool = False) -> None:
        """Open the store at `path`, as `StoreFile` does; `quota_mib` is how much `add` may let it become."""
        super().__init__(path, check=check)
        self._quota_mib = quota_mib

    @classmethod
    def create(cls, path: Path, form: SampleForm, *, holdout_fraction: float) -> "SampleStore":
        """Make an empty store, or open the one that is there. The holdout fraction is fixed from then on."""
        create_database(path, {"form": form.encode(), "holdout_fraction": repr(float(holdout_fraction))})
        return cls(path)

    def add(self, samples: Iterable[NewSample]) -> list[Added]:
        """Store `samples`, all or none. Raises `InputRefused` for the first that cannot be taken."""
        with self.transaction():
            used = self.counts().bytes
            results = []
            for sample in samples:
                result = self._add_one(sample, used)
                used += len(sample.content) if result.outcome is Outcome.STORED else 0
                results.append(result)
        return results

    def _add_one(self, sample: NewSample, used: int) -> Added:
        if sample.label is not None:
            self.form.require_class(sample.label)
        if len(sample.content) != self.form.content_bytes:
            raise InputRefused(
                f"{sample.source} has {len(sample.content)} bytes of content; expected {self.form.content_bytes}."
            )
        identifier = sample_id(sample.content, self.form)
        present = self._connection.execute(
            "SELECT label, holdout, source FROM samples WHERE id = ?", (identifier,)
        ).fetchone()
        if present is None:
            self._require_room(used + len(sample.content))
            return self._insert(identifier, sample)
        label, holdout, source = present
        if sample.label is None or sample.label == label:
            return Added(identifier, Outcome.ALREADY_STORED, bool(holdout), label, source)
        if label is not None:
            raise InputRefused(
                f"the same content is stored with label `{label}` (from {source}), not `{sample.label}`; "
                f"to change it: mmd label {identifier[:12]} {sample.label}"
            )
        self._set_label(identifier, sample.label)
        return Added(identifier, Outcome.LABELLED, bool(holdout), sample.label, source)

    def _insert(self, identifier: str, sample: NewSample) -> Added:
        holdout = is_held_out(identifier, self.holdout_fraction)
        cursor = self._connection.execute(
            "INSERT INTO samples (id, label, holdout, source, ingested, bytes) VALUES (?, ?, ?, ?, ?, ?)",
            (identifier, sample.label, holdout, sample.source, time.time(), len(sample.content)),
        )
        self._connection.execute("INSERT INTO contents VALUES (?, ?)", (cursor.lastrowid, sample.content))
        return Added(identifier, Outcome.STORED, holdout, sample.label, sample.source)

    def _require_room(self, wanted_bytes: int) -> None:
        if self._quota_mib is not None and wanted_bytes > self._quota_mib * _MIB:
            raise InputRefused(
                f"the sample store is full (samples.quota_mib = {self._quota_mib:g}); "
                "raise that, or make room with `mmd forget`."
            )

    def counts(self) -> SampleCounts:
        return counted(self._connection, self.path)

    def labelled_since(self, moment: float) -> int:
        """Return how many samples came in after `moment` (seconds since the epoch) and have a label."""
        with translated(self.path):
            (count,) = self._connection.execute(
                "SELECT count(*) FROM samples WHERE label IS NOT NULL AND ingested > ?", (moment,)
            ).fetchone()
        return int(count)

    def training_ids(self, *, labelled: bool | None = None) -> list[str]:
        """Return the ids that may be trained on, in the order of their names; `labelled` keeps only those (not) so."""
        return self._ids(holdout=False, labelled=labelled)

    def holdout_ids(self, *, labelled: bool | None = None) -> list[str]:
        """Return the ids that are never trained on, in the order of their names."""
        return self._ids(holdout=True, labelled=labelled)

    def _ids(self, *, holdout: bool, labelled: bool | None) -> list[str]:
        with translated(self.path):
            rows = self._connection.execute(
                "SELECT id FROM samples WHERE holdout = ?1 AND (?2 IS NULL OR (label IS NOT NULL) = ?2) ORDER BY id",
                (holdout, labelled),
            ).fetchall()
        return [identifier for (identifier,) in rows]

    def records(
        self, *, unlabelled: bool = False, holdout: bool = False, label: str | None = None
    ) -> Iterator[SampleRecord]:
        """Yield the samples, oldest first; each flag keeps only what it names."""
        with translated(self.path):
            rows = self._connection.execute(
                "SELECT id, label, holdout, source, ingested, seen_in_round, bytes FROM samples"
                " WHERE (NOT ?1 OR label IS NULL) AND (NOT ?2 OR holdout) AND (?3 IS NULL OR label = ?3) ORDER BY seq",
                (unlabelled, holdout, label),
            )
            for identifier, name, held, source, ingested, seen, size in rows:
                yield SampleRecord(identifier, name, bool(held), source, ingested, seen, size)

    def load(self, ids: Sequence[str]) -> tuple["NDArray[np.generic]", "NDArray[np.int64]"]:
        """Return inputs [n, *shape] as stored (uint8 or float32) and labels [n] (-1 = none), in the order of `ids`.

        Raises `StoreDamaged` naming the first sample that is gone or fails its checksum.
        """
        import numpy as np

        number = {name: index for index, name in enumerate(self.form.classes)}
        inputs = np.empty((len(ids), *self.form.shape), self.form.dtype)
        labels = np.full(len(ids), -1, np.int64)
        for start in range(0, len(ids), _QUERY_CHUNK):
            chunk = ids[start : start + _QUERY_CHUNK]
            found = self._contents(chunk)
            for position, identifier in enumerate(chunk, start):
                label, content = found.get(identifier, (None, b""))
                if sample_id(content, self.form) != identifier:
                    state = "fails its checksum" if content else "is not in the store any more"
                    raise StoreDamaged(
                        f"Sample {identifier[:12]} {state}; `mmd forget {identifier[:12]}` and ingest it again."
                    )
                inputs[position] = np.frombuffer(content, self.form.dtype).reshape(self.form.shape)
                labels[position] = -1 if label is None else number[label]
        return inputs, labels

    def _contents(self, ids: Sequence[str]) -> dict[str, tuple[str | None, bytes]]:
        places = ", ".join("?" * len(ids))
        with translated(self.path):
            rows = self._connection.execute(
                f"SELECT id, label, content FROM samples JOIN contents USING (seq) WHERE id IN ({places})", list(ids)
            )
            return {identifier: (label, content) for identifier, label, content in rows}

    def stored(self, ids: Collection[str]) -> set[str]:
        """Return those of `ids` that are in the store."""
        return {identifier for identifier in ids if self.get(identifier) is not None}

    def mark_seen(self, round_number: int, ids: Sequence[str]) -> None:
        """Note that a round trained on `ids`; they are not new any more."""
        with self.transaction():
            self._connection.executemany(
                "UPDATE samples SET seen_in_round = ? WHERE id = ?", [(round_number, identifier) for identifier in ids]
            )

    def mark_all_new(self) -> None:
        """Note that no model has learned from any sample: the next round starts from a point before them."""
        with self.transaction():
            self._connection.execute("UPDATE samples SET seen_in_round = NULL")

    def resolve(self, prefix: str) -> str:
        """Return the one id that begins with `prefix`. Raises `InputRefused` when none or several do."""
        text = prefix.lower()
        # The upper end is exclusive: every hex digit sorts before `g`.
        with translated(self.path):
            rows = self._connection.execute(
                "SELECT id FROM samples WHERE id >= ? AND id < ? ORDER BY id LIMIT 2", (text, text + "g")
            ).fetchall()
        if not text or not rows:
            raise InputRefused(f"No sample has an id that begins with `{prefix}`; `mmd samples` lists them.")
        if len(rows) > 1:
            raise InputRefused(f"Several samples have an id that begins with `{prefix}`; give more of its digits.")
        identifier: str = rows[0][0]
        return identifier

    def get(self, identifier: str) -> SampleRecord | None:
        """Return what is known about one sample by its whole id."""
        with translated(self.path):
            row = self._connection.execute(
                "SELECT id, label, holdout, source, ingested, seen_in_round, bytes FROM samples WHERE id = ?",
                (identifier,),
            ).fetchone()
        return None if row is None else SampleRecord(row[0], row[1], bool(row[2]), *row[3:])

    def label(self, identifier: str, name: str) -> None:
        """Give one sample the label `name`. A sample whose label changes counts as new again."""
        self.form.require_class(name)
        with self.transaction():
            record = self.get(identifier)
            if record is None:
                raise InputRefused(f"There is no sample {identifier[:12]}; `mmd samples` lists them.")
            if record.label != name:
                self._set_label(identifier, name)

    def _set_label(self, identifier: str, name: str) -> None:
        self._connection.execute("UPDATE samples SET label = ?, seen_in_round = NULL WHERE id = ?", (name, identifier))

    def forget(self, ids: Sequence[str]) -> int:
        """Remove `ids` so that their bytes, and what was worked out of them, are in no file any more; return how many.

        Raises `MmdError` when another command keeps them in the journal; whoever opens the store to write next then
        erases them.
        """
        with self.transaction():
            removed = 0
            for identifier in ids:
                self._connection.execute(
                    "DELETE FROM contents WHERE seq = (SELECT seq FROM samples WHERE id = ?)", (identifier,)
                )
                removed += self._connection.execute("DELETE FROM samples WHERE id = ?", (identifier,)).rowcount
            self._mark_erasure()
        self._erase_traces()
        return removed
