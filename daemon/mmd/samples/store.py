"""Which samples does the owner have? The store: content-addressed, durable, with a stable holdout split.

What a returned `add`, `label` or `forget` did survives a power cut at that instant (WAL, `synchronous=FULL`).
Nothing here imports numpy before `load` is called.
"""

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from mmd.errors import InputRefused, MmdError, StoreDamaged
from mmd.samples.database import (
    CHECK_ON_OPEN_BYTES,
    check_database,
    create_database,
    open_database,
    translated,
)
from mmd.samples.form import SampleForm, is_held_out, sample_id, with_own_classes
from mmd.samples.records import Added, NewSample, Outcome, SampleCounts, SampleRecord
from mmd.samples.row_cache import CACHE_NAME, keep_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_QUERY_CHUNK = 500
_MIB = 2**20
_OWN_CLASSES = "own_classes"
"""In `meta`: a JSON list of the classes that the owner named, in the order of the outputs that they took."""
_ERASURE = "erasure"
"""In `meta` from the commit that forgets samples until their bytes are off the disk."""


class SampleStore:
    """An open sample store. One thread at a time; any number of processes."""

    def __init__(self, path: Path, *, quota_mib: float | None = None, check: bool = False) -> None:
        """Open the store at `path`. Raises `UsageError` when there is none, `StoreDamaged` when it does not verify.

        `check`, for commands that write, reads every page of a store of moderate size first, and finishes what was
        interrupted.
        """
        self.path = path
        self._quota_mib = quota_mib
        self._connection = open_database(path)
        try:
            if check and path.stat().st_size <= CHECK_ON_OPEN_BYTES:
                self.check()
            with translated(path):
                meta = dict(self._connection.execute("SELECT key, value FROM meta"))
            self._set_form = SampleForm.decode(meta["form"])
            """What the artifact set takes, without the classes that the owner named."""
            self.form = with_own_classes(self._set_form, msgspec.json.decode(meta.get(_OWN_CLASSES, "[]")))
            self.holdout_fraction = float(meta["holdout_fraction"])
            if check and _ERASURE in meta:
                self._finish_erasure()
        except (KeyError, ValueError) as error:
            self.close()
            raise StoreDamaged(f"The sample store {path} is damaged (its description: {error}).") from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, form: SampleForm, *, holdout_fraction: float) -> "SampleStore":
        """Make an empty store, or open the one that is there. The holdout fraction is fixed from then on."""
        create_database(path, {"form": form.encode(), "holdout_fraction": repr(float(holdout_fraction))})
        return cls(path)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self) -> None:
        """Read the whole file. Raises `StoreDamaged` with the first finding."""
        check_database(self._connection, self.path)

    def changed(self) -> tuple[int, int]:
        """Return a token that differs once anything was written, by this process or another. Cheap enough to poll."""
        with translated(self.path):
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version, self._connection.total_changes

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; durable when the outermost one ends. One inside another can fail alone."""
        nested = self._connection.in_transaction
        begin, end = ("SAVEPOINT nested", "RELEASE nested") if nested else ("BEGIN IMMEDIATE", "COMMIT")
        undo = ("ROLLBACK TO nested", "RELEASE nested") if nested else ("ROLLBACK",)
        with translated(self.path):
            self._connection.execute(begin)
            try:
                yield
                self._connection.execute(end)
            except BaseException:
                # SQLite has rolled back by itself after some errors (a full disk, say).
                if self._connection.in_transaction:
                    for statement in undo:
                        self._connection.execute(statement)
                raise

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
        with translated(self.path):
            row = self._connection.execute(
                "SELECT count(*), count(label), count(*) - count(label), total(holdout),"
                " total(seen_in_round IS NULL AND NOT holdout), total(bytes) FROM samples"
            ).fetchone()
        return SampleCounts(*map(int, row))

    def class_counts(self) -> dict[str, int]:
        """Return how many samples each label has, only those that have any."""
        with translated(self.path):
            rows = self._connection.execute(
                "SELECT label, count(*) FROM samples WHERE label IS NOT NULL GROUP BY label ORDER BY label"
            )
            return dict(rows.fetchall())

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
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 'pending')", (_ERASURE,))
        self._erase_traces()
        return removed

    def _erase_traces(self) -> None:
        """Rewrite the file and empty the journal: deleted bytes linger in both otherwise. And clear the cache."""
        try:
            keep_rows(self.path.with_name(CACHE_NAME), [*self.training_ids(), *self.holdout_ids()])
            with translated(self.path):
                for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    row = self._connection.execute(statement).fetchone()
                is_erased = not row[0]
        except StoreDamaged:
            raise
        except MmdError as error:
            raise MmdError(f"The samples are forgotten, but not erased from the disk yet: {error}") from error
        if not is_erased:
            raise MmdError(
                f"The samples are forgotten, but another command still reads the journal of {self.path}; "
                "their bytes are erased when the next one opens the store."
            )
        with self.transaction():
            self._connection.execute("DELETE FROM meta WHERE key = ?", (_ERASURE,))

    def _finish_erasure(self) -> None:
        """Erase what an interrupted `forget` left in the file or the journal."""
        # Another command reads right now: the next one to open the store tries again.
        with contextlib.suppress(MmdError):
            self._erase_traces()

    def adopt(self, form: SampleForm) -> None:
        """Use the store with another artifact set. Raises `InputRefused` when the stored samples do not fit it."""
        if form == self._set_form:
            return
        own = [name for name in self.form.classes[len(self._set_form.classes) :] if name not in form.classes]
        adopted = with_own_classes(form, own[: form.spare])
        with self.transaction():
            if self.counts().total and not self.form.holds_the_same_as(form):
                raise InputRefused(
                    f"{self.counts().total} samples of {self.form.described} are stored, "
                    f"and the new artifact set takes {form.described}; "
                    "`mmd forget --all` first, or use another state folder."
                )
            for label in self.class_counts():
                adopted.require_class(label)
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'form'", (form.encode(),))
            self._write_own_classes(own[: form.spare])
        self._set_form, self.form = form, adopted

    def name_class(self, name: str) -> None:
        """Give the next spare output of the artifact set the class `name`. Raises `InputRefused` when none is left."""
        with self.transaction():
            row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (_OWN_CLASSES,)).fetchone()
            own = [] if row is None else msgspec.json.decode(row[0], type=list[str])
            form = with_own_classes(self._set_form, own)
            form.require_new_class(name)
            if len(own) >= form.spare:
                taken = f"all {form.spare} of them are named: {', '.join(own)}" if own else "this one has none"
                raise InputRefused(f"a new class needs a spare output of the artifact set, and {taken}.")
            self._write_own_classes([*own, name])
        self.form = with_own_classes(self._set_form, [*own, name])

    def _write_own_classes(self, own: Sequence[str]) -> None:
        encoded = msgspec.json.encode(own).decode()
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_OWN_CLASSES, encoded))
