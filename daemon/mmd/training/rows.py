"""Where do the inputs of a batch come from? From the sample store and the cache: a round holds one batch of them.

A row is a sample in a view. Samples are numbered as in the plan, with the replay half of the anchor set after them; a
replay sample has view 0 only.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmd.artifact.preprocess import Preprocessing
from mmd.samples.row_cache import RowCache, replay_id
from mmd.samples.store import SampleStore
from mmd.training.augment import view_of
from mmd.training.plan import RoundPlan

Indices = NDArray[np.int64]
Row = tuple[int, int]
"""(number of the sample, number of the view)"""

VIEW_KIND, TARGET_KIND = b"v", b"t"
_AT_ONCE = 64


class RoundInputs(Protocol):
    """Gives the inputs of a batch."""

    def rows(self, samples: Indices, views: Indices) -> NDArray[np.generic]:
        """Return the inputs [len(samples), *shape], preprocessed, before scale, mean and std."""
        ...


class ArrayInputs:
    """Inputs that are all in memory, [samples, *shape], in one view."""

    def __init__(self, inputs: NDArray[np.generic]) -> None:
        self._inputs = inputs

    def rows(self, samples: Indices, views: Indices) -> NDArray[np.generic]:
        return self._inputs[samples]


@dataclass(frozen=True)
class GuardedCache:
    """A cache that takes in nothing about a sample that is not in the store any more."""

    cache: RowCache
    store: SampleStore

    def keep(self, made: Mapping[bytes, bytes], samples: Mapping[bytes, str]) -> None:
        """Keep `made` while there is room; `samples` has the sample of each key that is about one."""
        if not self.cache.has_room:
            return
        with self.cache.writing():
            # `mmd forget` removes the sample first and then, when this has ended, what is kept about it: it finds it.
            stored = self.store.stored(set(samples.values()))
            gone = {key for key, identifier in samples.items() if identifier not in stored}
            self.cache.write({key: content for key, content in made.items() if key not in gone})


class ReadThrough:
    """Gives something about each row: from the cache, or made and then kept there."""

    def __init__(
        self,
        kind: bytes,
        sample_ids: Sequence[str],
        make: Callable[[Sequence[Row]], Iterable[bytes]],
        guarded: GuardedCache | None,
    ) -> None:
        self._kind = kind
        self._sample_ids = sample_ids
        self._make = make
        self._guarded = guarded

    def contents(self, rows: Sequence[Row]) -> list[bytes]:
        """Return what there is about each of `rows`."""
        keys = [self._key(row) for row in rows]
        wanted = dict(zip(keys, rows, strict=True))
        found = self._read(list(wanted))
        missing = [key for key in wanted if key not in found]
        if missing:
            made = dict(zip(missing, self._make([wanted[key] for key in missing]), strict=True))
            found |= made
            if self._guarded is not None:
                ids = self._sample_ids
                self._guarded.keep(made, {key: ids[sample] for key in made if (sample := wanted[key][0]) < len(ids)})
        return [found[key] for key in keys]

    def missing(self, rows: Iterable[Row]) -> int:
        """Return how many of `rows` are not in the cache."""
        return sum(len(chunk) - len(self._read([self._key(row) for row in chunk])) for chunk in chunks(rows))

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return {} if self._guarded is None else self._guarded.cache.read(keys)

    def _key(self, row: Row) -> bytes:
        sample, view = row
        own = len(self._sample_ids)
        identifier = bytes.fromhex(self._sample_ids[sample]) if sample < own else replay_id(sample - own)
        return identifier + view.to_bytes(2, "big") + self._kind


class StreamedInputs:
    """The inputs of a round, read for each batch: samples from the store, what takes work from the cache."""

    def __init__(
        self,
        plan: RoundPlan,
        store: SampleStore,
        replay: NDArray[np.generic],
        guarded: GuardedCache | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self._plan = plan
        self._store = store
        self._replay = replay.astype(store.form.dtype)
        self._preprocessing = preprocessing or Preprocessing(None)
        self._worked = ReadThrough(VIEW_KIND, plan.sample_ids, self._work, guarded)
        (example,) = self._preprocessing(np.zeros((1, *store.form.shape), store.form.dtype))
        self._shape, self._dtype = example.shape, example.dtype

    @property
    def row_bytes(self) -> int:
        """How large a row is that took work."""
        return int(self._dtype.itemsize * math.prod(self._shape))

    def takes_work(self, view: int) -> bool:
        """Return whether rows in this view are more than what is stored."""
        return view > 0 or not self._preprocessing.is_identity

    def rows(self, samples: Indices, views: Indices) -> NDArray[np.generic]:
        inputs = np.empty((len(samples), *self._shape), self._dtype)
        is_worked = np.array([self.takes_work(view) for view in views], np.bool_)
        if not is_worked.all():
            inputs[~is_worked] = self._stored(samples[~is_worked])
        worked = zip(samples[is_worked].tolist(), views[is_worked].tolist(), strict=True)
        if contents := self._worked.contents(list(worked)):
            inputs[is_worked] = np.frombuffer(b"".join(contents), self._dtype).reshape(-1, *self._shape)
        return inputs

    def _stored(self, samples: Indices) -> NDArray[np.generic]:
        form, own = self._store.form, len(self._plan.sample_ids)
        stored = np.empty((len(samples), *form.shape), form.dtype)
        is_own = samples < own
        stored[is_own], _ = self._store.load([self._plan.sample_ids[sample] for sample in samples[is_own]])
        stored[~is_own] = self._replay[samples[~is_own] - own]
        return stored

    def _work(self, rows: Sequence[Row]) -> Iterator[bytes]:
        plan = self._plan
        for stored, (sample, view) in zip(self._stored(np.array(rows, np.int64)[:, 0]), rows, strict=True):
            seen = stored
            if view:
                assert plan.augmentation is not None, "a plan with views says how they are made"
                seen = view_of(stored, plan.sample_ids[sample], view, plan.augmentation, plan.view_seed)
            yield self._preprocessing(seen[None]).tobytes()


def all_rows(own: int, views: int, replay: int) -> Iterator[Row]:
    """Yield every row of a round."""
    yield from ((sample, view) for view, sample in product(range(views), range(own)))
    yield from ((own + row, 0) for row in range(replay))


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield `rows` in lists of moderate length."""
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
