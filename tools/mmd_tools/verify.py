"""Does this artifact set hold what it promises? Hashes, operators, and that every way of taking a step agrees."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mmd.artifact.load import ArtifactSet
from mmd.errors import ArtifactRefused
from mmd.training.engine import Batch, Floats, LossWeights, StepLosses

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4
"""Largest difference of two engines, relative to the largest entry of the tensor. Both compute in float32."""
_FLOOR = 1e-2
"""A gradient smaller than this share of the largest one is measured against that share: a true zero is only noise."""
_NEARBY = 16
"""How many batches that differ by rounding alone are tried where two engines part."""
NEWEST_IR = 10
NEWEST_OPSET = 21
_BATCH = 6

Way = tuple[str, Literal["fused", "cached"]]
"""An engine and the variant of the step that it runs."""
Gradients = tuple[StepLosses, dict[str, Floats]]
"""The losses of a batch and the gradient of each parameter."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str


def verify(folder: Path, *, seed: int = 0) -> list[Check]:
    """Check the artifact set in `folder`. Raises `ArtifactRefused` where a file is damaged or does not load at all."""
    return list(each_check(folder, seed=seed))


def each_check(folder: Path, *, seed: int = 0) -> Iterator[Check]:
    """Yield every check of `verify` when it is done."""
    from mmd.artifact.load import open_set

    artifact_set = open_set(folder)
    yield Check("hashes", True, f"{len(artifact_set.manifest.files)} files")
    all_passed = True
    for check in _graph_checks(artifact_set):
        all_passed &= check.passed
        yield check
    if all_passed:
        yield from _engine_checks(artifact_set, seed)


def _graph_checks(artifact_set: ArtifactSet) -> Iterator[Check]:
    """Check operators, interfaces and start values, and open each graph that the board opens."""
    import onnx

    from mmd.artifact.session import open_session

    manifest, graphs = artifact_set.manifest, artifact_set.manifest.graphs
    portable = [graphs.portable_fused, graphs.portable_cached]
    mentor = [graphs.mentor] if manifest.mentor_logits else []
    audio = [name for name in (graphs.resample, graphs.preprocess) if name in manifest.files]
    for name in [graphs.inference, *mentor, *portable, *audio]:
        model = onnx.load(artifact_set.path(name), load_external_data=False)
        foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain})
        opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if foreign:
            yield Check(f"operators of {name}", False, f"not in plain ONNX: {', '.join(foreign)}")
        elif model.ir_version > NEWEST_IR or opset > NEWEST_OPSET:
            yield Check(f"operators of {name}", False, f"IR {model.ir_version}, opset {opset}: newer than boards read")
        else:
            open_session(artifact_set.path(name))
            count = len({node.op_type for node in model.graph.node})
            yield Check(f"operators of {name}", True, f"{count} kinds, all plain ONNX; the runtime opens it")
        if name in portable:
            yield _interface(artifact_set, model, name)
    yield _start_values(artifact_set)


def _interface(artifact_set: ArtifactSet, model: "onnx.ModelProto", name: str) -> Check:
    inputs, outputs = step_interface(artifact_set, is_cached=name == artifact_set.manifest.graphs.portable_cached)
    found_in = {value.name for value in model.graph.input}
    found_out = {value.name for value in model.graph.output}
    # Sets that were fused early hold these two as constants.
    wrong = sorted((inputs ^ found_in) - ({"weight_decay", "clip_norm"} - found_in) | (outputs ^ found_out))
    if wrong:
        return Check(f"interface of {name}", False, f"missing or unexpected: {', '.join(wrong[:5])}")
    return Check(f"interface of {name}", True, f"{len(inputs)} inputs, {len(outputs)} outputs")


def step_interface(artifact_set: ArtifactSet, *, is_cached: bool) -> tuple[set[str], set[str]]:
    """Return the names of inputs and outputs of a portable step graph, as `artifacts/FORMAT.md` has them."""
    manifest = artifact_set.manifest
    probes = range(len(manifest.probes))
    moments = (".m1", ".m2")[: manifest.optimizer.moments]
    names = [parameter.name for parameter in manifest.parameters]
    inputs = {manifest.input.name, "labels", "alpha", "gamma", "temperature"}
    inputs |= {"learning_rate", "weight_decay", "clip_norm", "step"}
    inputs |= {f"beta.{index}" for index in probes} | {spec.name for spec in manifest.dropout}
    if is_cached and manifest.mentor_logits:
        inputs |= {manifest.mentor_logits, *(probe.mentor for probe in manifest.probes)}
    inputs |= {f"{name}{end}" for name in names for end in ("", *moments)}
    outputs = {"loss", "loss.label", "loss.soft", *(f"loss.hint.{index}" for index in probes)}
    outputs |= {f"{name}{end}" for name in names for end in (".grad", ".next", *(f"{end}.next" for end in moments))}
    return inputs, outputs


def _start_values(artifact_set: ArtifactSet) -> Check:
    """Compare parameters.safetensors with the manifest and with the weights of mentee.onnx."""
    import numpy as np
    import onnx
    from onnx import numpy_helper
    from safetensors.numpy import load_file

    manifest = artifact_set.manifest
    start = load_file(artifact_set.path(manifest.graphs.parameters))
    wanted = {parameter.name: parameter.shape for parameter in manifest.parameters}
    if {name: value.shape for name, value in start.items()} != wanted:
        return Check("start values", False, "names or shapes differ from the manifest's")
    model = onnx.load(artifact_set.path(manifest.graphs.inference))
    shipped = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for parameter in manifest.parameters:
        if parameter.role != "mentee":
            continue
        if parameter.name not in shipped or not np.array_equal(shipped[parameter.name], start[parameter.name]):
            return Check("start values", False, f"{parameter.name} differs from mentee.onnx")
    return Check("start values", True, f"{len(wanted)} parameters, as in mentee.onnx")


def _engine_checks(artifact_set: ArtifactSet, seed: int) -> Iterator[Check]:
    """Take the gradients of one random batch in every way there is, and compare them with portable, fused."""
    from mmd_tools.fuse.gradients import training_build_is_installed

    batch, weights = _random_batch(artifact_set, seed)
    ways: list[Way] = [("portable", "fused"), ("portable", "cached")]
    if training_build_is_installed():
        ways += [("ort_training", "fused"), ("ort_training", "cached")]
    results = {way: _gradients(artifact_set, way, [batch], weights)[0] for way in ways}
    pairs: list[tuple[Way, Way]] = [
        (("portable", "cached"), ("portable", "fused")),
        (("ort_training", "fused"), ("portable", "fused")),
        (("ort_training", "cached"), ("portable", "cached")),
    ]
    for ours, theirs in pairs:
        if ours in results:
            name = f"{' '.join(ours)} and {' '.join(theirs)} agree"
            check = _agreement(name, results[ours], results[theirs])
            if not check.passed:
                nearby = _gradients(artifact_set, theirs, _nearby(batch, seed), weights)
                check = _agreement_nearby(check, results[ours], nearby)
            yield check
    yield _forward(artifact_set, batch, results["portable", "cached"][0].label)
    if not training_build_is_installed():
        yield Check("ort_training", True, "not compared: onnxruntime-training is not installed here")


def _gradients(artifact_set: ArtifactSet, way: Way, batches: list[Batch], weights: LossWeights) -> list[Gradients]:
    """Return the losses and gradients of each batch, taken one way from the set's start values."""
    from mmd.training.engines import open_engine

    name, variant = way
    engine = open_engine(artifact_set, name=name, variant=variant)
    fed = batches if variant == "cached" else [replace(batch, mentor=None) for batch in batches]
    return [engine.gradients(batch, weights) for batch in fed]


def _nearby(batch: Batch, seed: int) -> list[Batch]:
    """Return batches whose inputs differ from `batch`'s by 2^-22 of each number: about what rounding does to sums."""
    import numpy as np

    rng = np.random.default_rng(seed)
    factors = (1 + rng.choice([-1, 1], batch.inputs.shape) * 2.0**-22 for _ in range(_NEARBY))
    return [replace(batch, inputs=(batch.inputs * factor).astype(np.float32)) for factor in factors]


def _random_batch(artifact_set: ArtifactSet, seed: int) -> tuple[Batch, LossWeights]:
    """Return a batch of noise, one sample of it without a label, and coefficients that let every term count."""
    import numpy as np

    from mmd.artifact.session import open_session
    from mmd.training.dropout import dropout_masks

    manifest = artifact_set.manifest
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((_BATCH, *manifest.input.shape)).astype(np.float32)
    labels = rng.integers(0, len(manifest.classes), _BATCH).astype(np.int64)
    labels[-1] = -1
    mentor: Mapping[str, Floats] | None = None
    if manifest.mentor_logits:
        session = open_session(artifact_set.path(manifest.graphs.mentor))
        names = [output.name for output in session.get_outputs()]
        mentor = dict(zip(names, session.run(names, {manifest.input.name: inputs}), strict=True))
    betas = tuple(float(beta) for beta in rng.uniform(0.5, 1.5, len(manifest.probes)))
    weights = LossWeights(alpha=0.7, betas=betas, gamma=0.4, temperature=manifest.loss.temperature)
    masks = dropout_masks(manifest.dropout, seed, 0, _BATCH)
    return Batch(inputs=inputs, labels=labels, mentor=mentor, masks=masks), weights


def _forward(artifact_set: ArtifactSet, batch: Batch, label_loss: float) -> Check:
    """Compare the step's loss of labels with the cross-entropy of what mentee.onnx says; without dropout they agree."""
    import numpy as np

    from mmd.artifact.session import open_session

    name = "the step computes what mentee.onnx computes"
    manifest = artifact_set.manifest
    if manifest.dropout:
        return Check(name, True, "not compared: the set trains with dropout")
    session = open_session(artifact_set.path(manifest.graphs.inference))
    logits = session.run([manifest.logits], {manifest.input.name: batch.inputs})[0].astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    costs = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    smoothing = manifest.loss.label_smoothing
    spread = costs[:, : len(manifest.classes)].mean(axis=1)
    rows = (1 - smoothing) * costs[np.arange(len(logits)), batch.labels] + smoothing * spread
    expected = float(rows[batch.labels >= 0].mean())
    difference = abs(label_loss - expected) / max(abs(expected), 1e-30)
    detail = f"cross-entropy {label_loss:.6g} and {expected:.6g}, relative difference {difference:.1e}"
    return Check(name, difference <= TOLERANCE, detail)


def _agreement(name: str, ours: Gradients, theirs: Gradients) -> Check:
    import numpy as np

    differences = {"losses": _relative(_flat(ours[0]), _flat(theirs[0]), floor=0.0)}
    floor = _FLOOR * max((float(np.max(np.abs(value), initial=0.0)) for value in theirs[1].values()), default=0.0)
    for key in ours[1].keys() & theirs[1].keys():
        differences[key] = _relative(ours[1][key], theirs[1][key], floor=floor)
    worst = max(differences, key=lambda key: differences[key])
    passed = differences[worst] <= TOLERANCE and ours[1].keys() == theirs[1].keys()
    detail = f"largest relative difference {differences[worst]:.1e} ({worst}), allowed {TOLERANCE:.0e}"
    return Check(name, passed, detail)


def _agreement_nearby(parted: Check, ours: Gradients, nearby: list[Gradients]) -> Check:
    """Look whether `ours` are the gradients of a batch that rounding cannot tell from the one where they `parted`.

    Where a number before a ReLU is zero but for rounding, gradients jump by what that unit carries: both sides of the
    jump are right. An engine that computes something else is right on neither.
    """
    for theirs in nearby:
        check = _agreement(parted.name, ours, theirs)
        if check.passed:
            return replace(check, detail=f"{check.detail}; with inputs 2^-22 apart: rounding decides a sign here")
    return parted


def _flat(losses: StepLosses) -> Floats:
    import numpy as np

    return np.array([losses.total, losses.label, losses.soft, *losses.hints], np.float32)


def _relative(ours: Floats, theirs: Floats, *, floor: float) -> float:
    """max |a - b| / max(max |b|, floor); infinite where a shape differs or a number is not finite."""
    import numpy as np

    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    return difference and difference / max(float(np.abs(theirs).max(initial=0.0)), floor, 1e-30)


@click.command("verify", short_help="Check a set: hashes, operators, and that the engines agree.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify_command(folder: Path, as_json: bool) -> None:
    """Check an artifact set: hashes, operators, and that every engine computes the same step."""
    checks = []
    for check in each_check(folder):
        checks.append(check)
        if not as_json:
            click.echo(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.detail}")
    failed = [check for check in checks if not check.passed]
    if as_json:
        click.echo(json.dumps({"set": str(folder), "ok": not failed, "checks": [asdict(check) for check in checks]}))
    if failed:
        raise ArtifactRefused(
            f"The artifact set {folder} fails {len(failed)} of {len(checks)} checks, first: {failed[0].name} "
            f"({failed[0].detail}); build it again with `mmd-tools fuse`."
        )
