"""Which engine trains this set here? Opens it by name."""

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import OptimizerSpec
from mmd.errors import UsageError
from mmd.training.engine import Engine
from mmd.training.feeds import Variant

ENGINE_NAMES = ("portable", "ort_training")


def open_engine(
    artifact_set: ArtifactSet,
    *,
    name: str = "auto",
    variant: Variant = "cached",
    threads: int = 1,
    optimizer: OptimizerSpec | None = None,
) -> Engine:
    """Open the engine `name` on `artifact_set`, in the set's start state.

    `optimizer` is the set's own, or that with another weight decay and clipping.

    `auto` is `portable`: the one engine that runs everywhere. Raises `UsageError` for an unknown name, and
    `ArtifactRefused` when the set or the installation cannot run that engine.
    """
    if name in ("auto", "portable"):
        from mmd.training.portable import PortableEngine

        return PortableEngine(artifact_set, variant, threads, optimizer)
    if name == "ort_training":
        from mmd.training.ort_training import OrtTrainingEngine

        return OrtTrainingEngine(artifact_set, variant, threads, optimizer)
    raise UsageError(f"There is no engine `{name}`; known: auto, {', '.join(ENGINE_NAMES)}.")
