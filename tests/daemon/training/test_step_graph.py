"""Does the step graph run everywhere: in the quickest layout that it can, as it is where it cannot?"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tests.daemon.training.sets import WEIGHTS, batches, make_set
from tests.tools.networks import NEEDS_TRAINING_BUILD

from mmd.artifact.load import ArtifactSet
from mmd.artifact.session import open_session
from mmd.errors import ArtifactRefused, is_out_of_memory
from mmd.training import blocks, step_graph
from mmd.training.batch_last import in_batch_last
from mmd.training.engines import open_engine

pytestmark = NEEDS_TRAINING_BUILD


@pytest.fixture(scope="module")
def artifact_set(tmp_path_factory: pytest.TempPathFactory) -> ArtifactSet:
    return make_set(tmp_path_factory.mktemp("step_graph"))


def losses(artifact_set: ArtifactSet, *, size: int) -> list[float]:
    engine = open_engine(artifact_set, name="portable")
    return [engine.step(batch, WEIGHTS, 1e-3).total for batch in batches(artifact_set, 3, size=size)]


def test_a_processor_without_blocks_trains_alike(artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch) -> None:
    here = losses(artifact_set, size=8)
    monkeypatch.setattr(blocks, "block_size", lambda: None)
    assert losses(artifact_set, size=8) == pytest.approx(here, rel=1e-5)


def test_a_runtime_that_refuses_the_blocked_graph_trains_alike(
    artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: Path | bytes, **options: Any) -> object:
        if isinstance(model, bytes):
            raise ArtifactRefused("onnxruntime refuses the model")
        return open_session(model, **options)

    here = losses(artifact_set, size=8)
    monkeypatch.setattr(step_graph, "open_session", refuse)
    assert losses(artifact_set, size=8) == pytest.approx(here, rel=1e-5)


def test_the_want_of_memory_is_no_reason_to_take_other_steps(
    artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: Path | bytes, **options: Any) -> object:
        if isinstance(model, bytes):
            raise ArtifactRefused("onnxruntime refuses the model") from RuntimeError("std::bad_alloc")
        return open_session(model, **options)

    monkeypatch.setattr(step_graph, "open_session", refuse)
    with pytest.raises(ArtifactRefused) as caught:
        losses(artifact_set, size=8)
    assert is_out_of_memory(caught.value)


def test_an_unknown_operator_domain_means_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks.block_size.cache_clear()
    monkeypatch.setattr(blocks, "DOMAIN", "com.example.absent")
    assert blocks.block_size() is None
    monkeypatch.undo()
    blocks.block_size.cache_clear()


@pytest.mark.parametrize(("said", "block"), [(1.0, 8), (0.0, None)])
def test_blocks_are_used_only_where_a_convolution_in_them_says_what_a_plain_one_does(
    said: float, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(nodes: list[onnx.NodeProto], inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        if len(nodes) == 1:  # the reordering, in blocks of 8
            return inputs["x"].reshape(1, 4, 8, 1, 2).transpose(0, 1, 3, 4, 2)
        return np.full(3, said if nodes[0].domain else 1.0, np.float32)

    blocks.block_size.cache_clear()
    monkeypatch.setattr(blocks, "_run", run)
    assert blocks.block_size() == block
    monkeypatch.undo()
    blocks.block_size.cache_clear()


def test_a_batch_that_fills_its_blocks_runs_in_those_that_the_processor_has(
    artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "block_size", lambda: 8)
    assert [step_graph.usable_block(batch) for batch in (2, 8, 16)] == [None, 8, 8]
    made = step_graph.specialised(onnx.load(artifact_set.path(artifact_set.manifest.graphs.portable_cached)), 16)
    assert blocks.DOMAIN in {domain.domain for domain in made.opset_import}


def test_a_batch_too_small_for_a_block_runs_with_its_samples_side_by_side(artifact_set: ArtifactSet) -> None:
    model = onnx.load(artifact_set.path(artifact_set.manifest.graphs.portable_cached))
    made = step_graph.specialised(model, 2)
    assert {domain.domain for domain in made.opset_import} == {domain.domain for domain in model.opset_import}
    assert made.SerializeToString() == in_batch_last(model, 2).SerializeToString()


def test_a_single_sample_runs_the_graph_as_it_is(artifact_set: ArtifactSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graph, "specialised", lambda model, batch: pytest.fail(f"{batch} was specialised"))
    assert np.isfinite(losses(artifact_set, size=1)).all()


def test_a_batch_size_always_runs_the_same_way(artifact_set: ArtifactSet) -> None:
    sizes = [8, 16, 24, 3, 8]
    engine = open_engine(artifact_set, name="portable")
    given = {size: batches(artifact_set, 1, size=size)[0] for size in sizes}
    first = engine.gradients(given[8], WEIGHTS)
    for size in sizes:
        engine.gradients(given[size], WEIGHTS)
    again = engine.gradients(given[8], WEIGHTS)
    for name, value in first[1].items():
        np.testing.assert_array_equal(value, again[1][name])
