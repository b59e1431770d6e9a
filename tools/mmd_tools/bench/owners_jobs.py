"""Who is measured beside whom? Owners in processes of their own; their order, and all figures but the seconds, stay."""

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from mmd.artifact.load import ArtifactSet
from mmd_tools.bench.owners_data import Owner
from mmd_tools.bench.owners_memory import MemoryTuning
from mmd_tools.bench.owners_rounds import Lesson
from mmd_tools.bench.owners_run import OwnersBench, Record

Job = tuple[int, Owner, ArtifactSet]
"""Seed, owner, and the set that knows nothing of him."""

_benches: dict[str, OwnersBench] = {}
"""One a set in each process: opening the sessions takes longer than a small round."""


def measure(
    jobs: Sequence[Job], *, lessons: Mapping[str, Lesson], sizes: Sequence[int], processes: int
) -> Iterator[list[Record]]:
    """Yield the records of each job, in the order of the jobs, while `processes` of them run at once."""
    records = partial(_records, lessons=dict(lessons), sizes=tuple(sizes))
    _benches.clear()
    if processes == 1:
        yield from map(records, jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(records, jobs)


def _records(job: Job, *, lessons: Mapping[str, Lesson], sizes: Sequence[int]) -> list[Record]:
    seed, owner, artifact_set = job
    bench = _benches.get(artifact_set.sha256)
    if bench is None:
        bench = _benches[artifact_set.sha256] = OwnersBench(artifact_set, lessons=lessons, tuning=MemoryTuning())
    return list(bench.records(owner, seed, sizes))
