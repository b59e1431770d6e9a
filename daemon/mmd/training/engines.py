"""Which engine trains this set here? Opens it by name."""

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import UsageError
from mmd.training.engine import Engine
from mmd.training.feeds import Variant
from mmd.training.micro_batches import MicroBatches

ENGINE_NAMES = ("portable", "ort_training")


def open_engine(
    artifact_set: ArtifactSet,
    *,
    name: str = "auto",
    variant: Variant = "cached",
    threads: int = 1,
    optimizer: OptimizerSpec | None = None,
    micro_batch: int = 0,
) -> Engine:
    """Open the engine `name` on `artifact_set`, in the set's start state.

    `optimizer` is the set's own, or that with another weight decay and clipping. With `micro_batch` above 0 no more
    samples than that are computed at once.

    `auto` is `portable`: the one engine that runs everywhere. Raises `UsageError` for an unknown name, and
    `ArtifactRefused` when the set or the installation cannot run that engine.
    """
    engine = _open(artifact_set, name, variant, threads, optimizer)
    return MicroBatches(engine, artifact_set.manifest, micro_batch) if micro_batch else engine


def _open(
    artifact_set: ArtifactSet, name: str, variant: Variant, threads: int, optimizer: OptimizerSpec | None
) -> Engine:
    if name in ("auto", "portable"):
        from mmd.training.portable import PortableEngine

        return PortableEngine(artifact_set, variant, threads, optimizer)
    if name == "ort_training":
        from mmd.training.ort_training import OrtTrainingEngine

        return OrtTrainingEngine(artifact_set, variant, threads, optimizer)
    raise UsageError(f"There is no engine `{name}`; known: auto, {', '.join(ENGINE_NAMES)}.")
