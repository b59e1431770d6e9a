"""Which session runs a step of so many samples? One made for this processor and batch size, or the graph as it is."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import onnx

from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused, is_out_of_memory

_KEPT = 2
"""Sessions kept open: the usual batch, and the rest of a batch that is taken in parts."""
_MOST_WASTE = 1.5
"""How much of a batch may be filling, at most, as a factor."""


class StepGraph:
    """A portable step graph, opened for the batch sizes that are asked for.

    Which session runs depends on the batch size and the processor alone, never on what ran before: a round that is
    resumed ends with the same bits. Raises `ArtifactRefused` when the runtime refuses the graph.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._plain: Any = open_session(path, threads=threads, plans_memory=False)
        self._made: OrderedDict[int, Any] = OrderedDict()
        self.inputs = tuple(value.name for value in self._plain.get_inputs())
        self.outputs = tuple(value.name for value in self._plain.get_outputs())

    def session(self, batch: int) -> Any:
        """Return the session for `batch` samples."""
        if batch not in self._made:
            self._made[batch] = self._specialised(batch) or self._as_it_is()
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
            if self._plain not in self._made.values():
                self._plain = None
        self._made.move_to_end(batch)
        return self._made[batch]

    def _as_it_is(self) -> Any:
        if self._plain is None:
            self._plain = open_session(self._path, threads=self._threads, plans_memory=False)
        return self._plain

    def _specialised(self, batch: int) -> Any:
        if batch == 1:
            return None
        try:
            model = specialised(onnx.load(self._path), batch)
            return open_session(model.SerializeToString(), threads=self._threads, plans_memory=False)
        except (ArtifactRefused, onnx.shape_inference.InferenceError) as error:
            if is_out_of_memory(error):
                raise  # the graph as it is might fit, and end in other bits than a round that went on with blocks
            # The graph as it is does the same, only slower.
            return None


def specialised(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return the step graph for batches of `batch` in the layout that is the quickest here."""
    block = usable_block(batch)
    if block is None:
        from mmd.training.batch_last import in_batch_last

        return in_batch_last(model, batch)
    from mmd.training.blocked import in_blocks

    return in_blocks(model, batch, block)


def usable_block(batch: int) -> int | None:
    """Return in blocks of how many channels steps of so many samples are taken here; None where they are not."""
    from mmd.training.blocks import block_size

    block = block_size()
    return block if block is not None and -(-batch // block) * block <= _MOST_WASTE * batch else None
