"""How do files become samples that survive a power cut?

What is yielded is on disk: every result comes after the commit that holds it. A file is stored whole or not at all.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from mmd.config import SamplesConfig
from mmd.errors import InputRefused
from mmd.samples.arrays import ArrayFile, is_archive, is_array
from mmd.samples.decode import decode
from mmd.samples.find import ARRAY_SUFFIXES, Found, Refusal, opened
from mmd.samples.recording import Resample
from mmd.samples.records import Added, NewSample
from mmd.samples.store import SampleStore

BATCH_FILES = 128
BATCH_BYTES = 8 * 2**20
_MIB = 2**20


@dataclass(frozen=True)
class Taken:
    """One file whose samples are in the store, durably."""

    path: Path
    added: tuple[Added, ...]


def ingest(
    store: SampleStore,
    items: Iterable[Found | Refusal],
    config: SamplesConfig,
    resample: Resample | None = None,
) -> Iterator[Taken | Refusal]:
    """Read and store every found file, some in a transaction; yield what became of each, in order.

    A store of audio needs the set's `resample`.
    """
    batch = _Batch(store, config, resample)
    for item in items:
        if isinstance(item, Refusal):
            batch.refuse(item)
        elif item.path.suffix.lower() in ARRAY_SUFFIXES:
            yield from batch.commit()
            yield _take_array(store, item, config)
        else:
            batch.add(item)
        if batch.is_full:
            yield from batch.commit()
    yield from batch.commit()


def ingest_bytes(
    store: SampleStore,
    content: bytes,
    config: SamplesConfig,
    resample: Resample | None,
    *,
    label: str | None,
    source: str,
) -> tuple[Added, ...]:
    """Read and store what is in one file; its first bytes say whether it holds an array.

    Raises `InputRefused` with the reason alone.
    """
    file = BytesIO(content)
    if is_array(content):
        rows = ArrayFile(file, store.form, is_archive=is_archive(content), max_bytes=config.quota_mib * _MIB)
        return tuple(store.add(_samples(rows, Found(Path(source), label, source))))
    return tuple(store.add([NewSample(decode(file, store.form, config, resample), label, source)]))


class _Batch:
    """Decoded samples on their way into one transaction, so that the store is locked for the writes alone."""

    def __init__(self, store: SampleStore, config: SamplesConfig, resample: Resample | None) -> None:
        self._store, self._config, self._resample = store, config, resample
        self._pending: list[tuple[Path, NewSample] | Refusal] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= BATCH_FILES or self._bytes >= BATCH_BYTES

    def refuse(self, refusal: Refusal) -> None:
        self._pending.append(refusal)

    def add(self, found: Found) -> None:
        try:
            with opened(found.path) as file:
                content = decode(file, self._store.form, self._config, self._resample)
        except InputRefused as refusal:
            self._pending.append(Refusal(found.path, str(refusal)))
            return
        self._bytes += len(content)
        self._pending.append((found.path, NewSample(content, found.label, found.source)))

    def commit(self) -> list[Taken | Refusal]:
        """Store what is pending and return what became of it, once it is on disk."""
        results: list[Taken | Refusal] = []
        if any(not isinstance(item, Refusal) for item in self._pending):
            with self._store.transaction():
                results = [item if isinstance(item, Refusal) else self._store_one(*item) for item in self._pending]
        else:
            results.extend(item for item in self._pending if isinstance(item, Refusal))
        self._pending.clear()
        self._bytes = 0
        return results

    def _store_one(self, path: Path, sample: NewSample) -> Taken | Refusal:
        try:
            return Taken(path, tuple(self._store.add([sample])))
        except InputRefused as refusal:
            return Refusal(path, str(refusal))


def _take_array(store: SampleStore, found: Found, config: SamplesConfig) -> Taken | Refusal:
    try:
        with opened(found.path) as file:
            is_archive = found.path.suffix.lower() == ".npz"
            rows = ArrayFile(file, store.form, is_archive=is_archive, max_bytes=config.quota_mib * _MIB)
            return Taken(found.path, tuple(store.add(_samples(rows, found))))
    except InputRefused as refusal:
        return Refusal(found.path, str(refusal))


def _samples(rows: ArrayFile, found: Found) -> Iterator[NewSample]:
    for row in rows:
        source = found.source if row.index is None else f"{found.source}[{row.index}]"
        # What the command or the folder says goes before what the file says.
        yield NewSample(row.content, found.label or row.label, source)
