"""How is an ONNX model opened with the stock runtime, on any board?"""

from pathlib import Path

import onnxruntime as ort

from mmd.errors import ArtifactRefused

_LOG_SEVERITY_ERROR = 3


def open_session(model: Path | bytes, *, threads: int = 1, plans_memory: bool = True) -> ort.InferenceSession:
    """Open `model` on the CPU with `threads` threads. Raises `ArtifactRefused` when the runtime refuses it.

    With a plan the runtime lays a run's tensors out as one block beside what its first run took, and keeps a tensor's
    place for the next one of its size. A training step does without: no slower, and up to half the memory
    (docs/performance.md).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = plans_memory
    options.enable_mem_reuse = plans_memory
    options.log_severity_level = _LOG_SEVERITY_ERROR
    # Spinning threads would burn the owner's CPU between two requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = str(model) if isinstance(model, Path) else model
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class below Exception
        name = model.name if isinstance(model, Path) else "the model"
        raise ArtifactRefused(
            f"onnxruntime {ort.__version__} refuses {name}: {' '.join(str(error).split())}; "
            "check the set with `mmd-tools verify`, and build it again with `mmd-tools fuse`."
        ) from error


def only_what_is_asked() -> ort.RunOptions:
    """Return options for a run that computes no more than the outputs it fetches."""
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    return options
