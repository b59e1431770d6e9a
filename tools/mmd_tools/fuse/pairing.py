"""Which layers of Mentor and Mentee say the same? Every two, compared by their activations on the replay samples.

`cka`: linear centred kernel alignment (Kornblith et al., arXiv:1905.00414) of activations averaged over windows to at
most 4 x 4 places, from the unbiased estimate of the Hilbert-Schmidt independence criterion (Song et al., 2012), which
does not favour wide layers on few samples as the plain one does. 1: the same but for a rotation and a scale; 0: nothing
in common.
`cosine`: of each filter of the Mentee, averaged over its places and centred over the samples, the highest cosine with a
filter of the Mentor; the mean over the filters. 1: every filter of the Mentee is one of the Mentor's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from mmd.artifact.load import normalise
from mmd.artifact.manifest import InputSpec
from mmd.artifact.session import open_session
from mmd.errors import UsageError
from mmd_tools.fuse import edit
from mmd_tools.fuse.alignment import layer_of
from mmd_tools.fuse.calibration import Doubles
from mmd_tools.fuse.candidates import layers
from mmd_tools.fuse.graphs import MENTOR_PREFIX, prefixed
from mmd_tools.fuse.losses import Nodes
from mmd_tools.fuse.network import IR_VERSION, OPSET, Network
from mmd_tools.fuse.probes import resolve_probe
from mmd_tools.recipe import AutoRecipe, ProbeRecipe

MOST_SAMPLES = 256
_FEWEST_SAMPLES = 4
_SIDE = 4
_BATCH_BYTES = 4 << 20
"""Of inputs at once: large pictures go through a few at a time."""


@dataclass(frozen=True)
class Likeness:
    """How alike two layers are."""

    mentor: str
    mentee: str
    mentor_shape: tuple[int, ...]
    mentee_shape: tuple[int, ...]
    cka: float
    cosine: float
    is_chosen: bool = False


@dataclass(frozen=True)
class _Activity:
    gram: Doubles
    """[samples, samples]: inner products of the pooled activations."""
    filters: Doubles
    """[samples, channels]: means over the places, centred, each column of length 1 or all 0."""


def rank(
    mentor: Network, mentee: Network, replay: NDArray[np.generic], spec: InputSpec, asked: AutoRecipe
) -> tuple[Likeness, ...]:
    """Return every two layers, the most alike first, and say which of them are to be paired.

    Chosen are the most alike that the recipe's loss can compare, each layer once, and deeper with deeper.
    `replay` [n, *shape] is as stored. Raises `UsageError` where nothing can be paired.
    """
    if len(replay) < _FEWEST_SAMPLES:
        raise UsageError(
            f'`pairs = "auto"` compares layers on the even rows of the anchor set; {len(replay)} are too few, '
            f"{_FEWEST_SAMPLES} the least."
        )
    ours, theirs = _activities(mentor, mentee, replay[:MOST_SAMPLES], spec)
    found = [
        Likeness(big, small, mentor.shapes[big], mentee.shapes[small], _cka(b.gram, s.gram), _cosine(b, s))
        for small, s in ours.items()
        for big, b in theirs.items()
    ]
    found.sort(key=lambda pair: (-float(getattr(pair, asked.measure)), pair.mentee, pair.mentor))
    chosen = _chosen(found, list(theirs), list(ours), mentor, mentee, asked)
    if not chosen:
        raise UsageError(
            f"There are no two layers that the loss `{asked.loss}` could compare; name pairs, or choose another loss."
        )
    return tuple(_marked(pair, is_chosen=pair in chosen) for pair in found)


def chosen_probes(ranking: Sequence[Likeness], asked: AutoRecipe) -> tuple[ProbeRecipe, ...]:
    """Return the recipe's probes for the chosen pairs."""
    return tuple(_probe(pair, asked) for pair in ranking if pair.is_chosen)


def _probe(pair: Likeness, asked: AutoRecipe) -> ProbeRecipe:
    return ProbeRecipe(
        mentor=pair.mentor,
        mentee=pair.mentee,
        loss=asked.loss,
        width=asked.width,
        scope=asked.scope,
        weight=asked.weight,
    )


def _marked(pair: Likeness, *, is_chosen: bool) -> Likeness:
    return Likeness(
        pair.mentor, pair.mentee, pair.mentor_shape, pair.mentee_shape, pair.cka, pair.cosine, is_chosen=is_chosen
    )


def _chosen(
    found: Sequence[Likeness],
    big_order: list[str],
    small_order: list[str],
    mentor: Network,
    mentee: Network,
    asked: AutoRecipe,
) -> list[Likeness]:
    chosen: list[Likeness] = []
    places: list[tuple[int, int]] = []
    for pair in found:
        if len(chosen) == asked.count:
            break
        at = big_order.index(pair.mentor), small_order.index(pair.mentee)
        is_in_order = all((at[0] - big) * (at[1] - small) > 0 for big, small in places)
        if is_in_order and _can_be_compared(pair, mentor, mentee, asked):
            chosen.append(pair)
            places.append(at)
    return chosen


def _can_be_compared(pair: Likeness, mentor: Network, mentee: Network, asked: AutoRecipe) -> bool:
    try:
        resolve_probe(0, _probe(pair, asked), mentor, mentee)
    except UsageError:
        return False
    return True


def _activities(
    mentor: Network, mentee: Network, replay: NDArray[np.generic], spec: InputSpec
) -> tuple[dict[str, _Activity], dict[str, _Activity]]:
    """Return what every layer of the Mentee and of the Mentor does on the samples."""
    nodes = Nodes("compare/")
    ours = {name: _pooled(nodes, name, mentee, name) for name in layers(mentee)}
    theirs = {name: _pooled(nodes, f"{MENTOR_PREFIX}{name}", mentor, name) for name in layers(mentor)}
    shown = [*ours.values(), *theirs.values()]
    frozen, own = prefixed(mentor, mentee.input), mentee.model.graph
    graph = helper.make_graph(
        [*own.node, *frozen.graph.node, *nodes.nodes],
        "layers",
        list(own.input),
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in shown],
        [*own.initializer, *frozen.graph.initializer, *nodes.initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    edit.remove_dead(model)
    session = open_session(model.SerializeToString())
    size = max(1, min(32, _BATCH_BYTES // (4 * int(np.prod(mentee.input_shape)))))
    parts = [
        session.run(shown, {mentee.input: normalise(replay[at : at + size], spec)})
        for at in range(0, len(replay), size)
    ]
    values = dict(zip(shown, (np.concatenate(column) for column in zip(*parts, strict=True)), strict=True))
    return tuple(  # type: ignore[return-value]
        {name: _activity(values[tensor]) for name, tensor in group.items()} for group in (ours, theirs)
    )


def _pooled(nodes: Nodes, tensor: str, network: Network, name: str) -> str:
    """Bring the channels first and the places to at most 4 x 4, or 16 in a row, by averages over windows."""
    layer = layer_of(network, name)
    if not layer.places:
        return nodes.add("Identity", [tensor])
    if layer.is_tokens:
        tensor = nodes.add("Transpose", [tensor], perm=[0, 2, 1])
    most = _SIDE if len(layer.places) == 2 else _SIDE**2
    window = [-(-size // most) for size in layer.places]
    return nodes.add("AveragePool", [tensor], kernel_shape=window, strides=window)


def _activity(values: NDArray[np.float32]) -> _Activity:
    rows = values.reshape(len(values), -1).astype(np.float64)
    filters = values.reshape(*values.shape[:2], -1).astype(np.float64).mean(2)
    filters -= filters.mean(0)
    length = np.linalg.norm(filters, axis=0)
    return _Activity(rows @ rows.T, np.divide(filters, length, out=np.zeros_like(filters), where=length > 1e-12))


def _cosine(theirs: _Activity, ours: _Activity) -> float:
    return float((ours.filters.T @ theirs.filters).max(1).mean())


def _cka(one: Doubles, other: Doubles) -> float:
    """HSIC(one, other) / sqrt(HSIC(one, one) HSIC(other, other)); 0 for a layer that never moves."""
    own = _independence(one, one) * _independence(other, other)
    return float(_independence(one, other) / np.sqrt(own)) if own > 0 else 0.0


def _independence(one: Doubles, other: Doubles) -> float:
    """Song et al., 2012, equation 5: the unbiased estimate from two Gram matrices, their diagonals left out."""
    n = len(one)
    first, second = (gram - np.diag(np.diag(gram)) for gram in (one, other))
    means = first.sum() * second.sum() / ((n - 1) * (n - 2)) - 2 * (first.sum(0) @ second.sum(0)) / (n - 2)
    return float((np.sum(first * second) + means) / (n * (n - 3)))
