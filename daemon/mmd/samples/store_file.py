"""How is the store's file opened, described, kept whole, and wiped of what was forgotten?"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mmd.errors import InputRefused, MmdError, StoreDamaged
from mmd.samples.database import CHECK_ON_OPEN_BYTES, Connected, check_database, open_database, translated
from mmd.samples.form import SampleForm, with_own_classes
from mmd.samples.row_cache import CACHE_NAME, keep_rows

_OWN_CLASSES = "own_classes"
"""In `meta`: a JSON list of the classes that the owner named, in the order of the outputs that they took."""
_ERASURE = "erasure"
"""In `meta` from the commit that forgets samples until their bytes are off the disk."""


class StoreFile(Connected):
    """An open file of samples: what they look like, and transactions on them."""

    def __init__(self, path: Path, *, check: bool = False) -> None:
        """Open the store at `path`. Raises `UsageError` when there is none, `StoreDamaged` when it does not verify.

        `check`, for commands that write, reads every page of a store of moderate size first, and finishes what was
        interrupted.
        """
        self.path = path
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

    def adopt(self, form: SampleForm) -> None:
        """Use the store with another artifact set. Raises `InputRefused` when the stored samples do not fit it."""
        if form == self._set_form:
            return
        own = [name for name in self.form.classes[len(self._set_form.classes) :] if name not in form.classes]
        adopted = with_own_classes(form, own[: form.spare])
        with self.transaction():
            count = self._connection.execute("SELECT count(*) FROM samples").fetchone()[0]
            if count and not self.form.holds_the_same_as(form):
                raise InputRefused(
                    f"{count} samples of {self.form.described} are stored, "
                    f"and the new artifact set takes {form.described}; "
                    "`mmd forget --all` first, or use another state folder."
                )
            for (label,) in self._connection.execute("SELECT DISTINCT label FROM samples WHERE label IS NOT NULL"):
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
                raise InputRefused(
                    f"a new class needs a spare output of the artifact set, and {taken}; "
                    "`spare_classes` in the recipe of a set reserves them."
                )
            self._write_own_classes([*own, name])
        self.form = with_own_classes(self._set_form, [*own, name])

    def _write_own_classes(self, own: Sequence[str]) -> None:
        encoded = msgspec.json.encode(own).decode()
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_OWN_CLASSES, encoded))

    def _mark_erasure(self) -> None:
        """Note, within the transaction that forgets, that bytes are to be erased."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 'pending')", (_ERASURE,))

    def _erase_traces(self) -> None:
        """Rewrite the file and empty the journal: deleted bytes linger in both otherwise. And clear the cache."""
        try:
            with translated(self.path):
                ids = [identifier for (identifier,) in self._connection.execute("SELECT id FROM samples")]
            keep_rows(self.path.with_name(CACHE_NAME), ids)
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
