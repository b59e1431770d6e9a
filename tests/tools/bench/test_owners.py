"""Does the bench of owners run the product itself, count rightly, and put whole results on disk?"""

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from tests.tiny import tiny_samples

from mmd.artifact.load import ArtifactSet, open_set
from mmd.artifact.shipped import shipped_owner
from mmd.config import TrainingConfig
from mmd.errors import InputRefused, UsageError
from mmd_tools.bench.owners import owners_command
from mmd_tools.bench.owners_data import Owner, choose_owners, read_pictures, split_owner
from mmd_tools.bench.owners_jobs import measure
from mmd_tools.bench.owners_memory import Memory, MemoryTuning, Reader, blend
from mmd_tools.bench.owners_report import OwnersResults, write_results
from mmd_tools.bench.owners_rounds import Again, Lesson, teach
from mmd_tools.bench.owners_run import (
    DEFAULT,
    GATED,
    LESSONS,
    MEMORY,
    MENTOR,
    MENTORED,
    NEIGHBOURS,
    NO_FOLDS,
    QUICK_ROWS,
    SEARCH,
    SHIPPED,
    OwnersBench,
    Record,
)
from mmd_tools.bench.owners_summary import bootstrap, by_owner, difference, hard_to_read, summarise
from mmd_tools.bench.plots import draw
from mmd_tools.bench.tables import conditions, read_raw
from mmd_tools.presets import PRESETS
from mmd_tools.train_data import Part


@pytest.fixture(scope="module")
def artifact_set(tiny_set: Path) -> ArtifactSet:
    return open_set(tiny_set)


def _owner(name: str, count: int, seed: int = 0) -> Owner:
    return Owner(name, Part(*tiny_samples(count, seed)))


def _record(owner: str, row: str, *, wins: int = 0, losses: int = 0, seed: int = 1, of_own: int = 5) -> Record:
    return Record(
        owner=owner,
        seed=seed,
        size=10,
        row=row,
        right=50 + wins - losses,
        total=100,
        wins=wins,
        losses=losses,
        shipped_right_of_own=of_own,
        own=10,
        anchor_right=90 - losses,
        anchor_total=100,
        trained_on=8,
        held_out=2,
        gate="better" if row == GATED and wins else "",
        cpu_seconds=0.5,
    )


def test_what_is_given_away_is_never_in_the_test_part_and_smaller_sizes_are_its_beginning() -> None:
    owner = _owner("one", 30)
    split = split_owner(owner, 1, largest=20)
    given = {image.tobytes() for image in split.own.inputs}
    tested = {image.tobytes() for image in split.test.inputs}
    assert (len(given), len(tested), given & tested) == (20, 10, set())
    again = split_owner(owner, 1, largest=20)
    assert np.array_equal(split.own.inputs, again.own.inputs)
    assert not np.array_equal(split.own.inputs, split_owner(owner, 2, largest=20).own.inputs)


def test_an_owner_with_nothing_left_to_test_on_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 20 are needed"):
        split_owner(_owner("one", 20), 1, largest=20)


def test_nobody_is_in_both_groups_and_a_larger_choice_begins_with_the_smaller() -> None:
    owners = [_owner(str(number), 2) for number in range(40)]
    report = {owner.name for owner in choose_owners(owners, 30, "report")}
    development = {owner.name for owner in choose_owners(owners, 10, "development")}
    assert not report & development
    assert [owner.name for owner in choose_owners(owners, 5, "report")] == [
        owner.name for owner in choose_owners(owners, 30, "report")
    ][:5]
    with pytest.raises(UsageError, match="There are 10 owners in the development group, not 11"):
        choose_owners(owners, 11, "development")


def test_the_shipped_owner_can_be_read_from_its_pictures() -> None:
    owner = read_pictures(shipped_owner(), "shipped")
    assert owner.samples.inputs.shape[1:] == (1, 28, 28)
    assert set(owner.samples.labels.tolist()) == set(range(10))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no PNG file"):
        read_pictures(tmp_path, "nobody")


def test_a_lesson_ends_as_the_product_would_end_it(artifact_set: ArtifactSet) -> None:
    own = _owner("one", 40).samples
    taught = teach(artifact_set, own, Lesson(), seed=1)
    assert taught.verdict is not None
    assert len(taught.trained_on.labels) + taught.held_out == 40
    assert (taught.serving == taught.candidate) == taught.verdict.promoted
    assert taught.candidate == teach(artifact_set, own, Lesson(), seed=1).candidate
    assert taught.candidate != teach(artifact_set, own, Lesson(), seed=2).candidate


def test_a_lesson_without_labels_gives_the_product_none(artifact_set: ArtifactSet) -> None:
    taught = teach(artifact_set, _owner("one", 40).samples, Lesson(labelled=0.0), seed=1)
    assert set(taught.trained_on.labels.tolist()) == {-1}
    assert taught.verdict is not None
    assert taught.verdict.code == "too_few_to_judge"


def test_unlabelled_samples_are_taken_or_left(artifact_set: ArtifactSet) -> None:
    own = _owner("one", 40).samples
    all_of_them = teach(artifact_set, own, Lesson(labelled=0.5), seed=1)
    alone = teach(artifact_set, own, Lesson(labelled=0.5, takes_unlabelled=False), seed=1)
    labels = all_of_them.trained_on.labels
    assert len(labels) + all_of_them.held_out == 40
    assert len(alone.trained_on.labels) + alone.held_out == 20
    assert sorted(labels[labels >= 0]) == sorted(alone.trained_on.labels)
    assert (labels < 0).any()


def test_a_memory_holds_labelled_samples_alone(artifact_set: ArtifactSet) -> None:
    def remembered(labelled: float, size: int) -> list[Record]:
        bench = OwnersBench(artifact_set, lessons={DEFAULT: replace(_FAST, labelled=labelled)}, tuning=MemoryTuning())
        records = bench.records(_owner("one", 30), 1, (4, 20))
        return [record for record in records if record.size == size and record.row in (NEIGHBOURS, MEMORY)]

    for few, alone in zip(remembered(0.2, 20), remembered(1.0, 4), strict=True):
        assert (few.wins, few.losses) == (alone.wins, alone.losses)


def test_a_lesson_without_hints_is_another_lesson(artifact_set: ArtifactSet) -> None:
    own = _owner("one", 30).samples
    with_hints, without = (teach(artifact_set, own, Lesson(has_hints=hints), seed=1) for hints in (True, False))
    assert with_hints.candidate != without.candidate


def test_an_owner_whose_every_sample_is_held_out_keeps_the_shipped_model(artifact_set: ArtifactSet) -> None:
    everything = _owner("one", 200).samples
    alone = next(
        taught
        for place in range(200)
        if (taught := teach(artifact_set, Part(everything.inputs[[place]], everything.labels[[place]]), _FAST, seed=1))
        and not len(taught.trained_on.labels)
    )
    assert alone.verdict is None
    assert alone.candidate == alone.serving


_FAST = Lesson(TrainingConfig(preset="independent", replay=0.0, epochs=1))


def test_every_row_sees_the_same_samples(artifact_set: ArtifactSet) -> None:
    bench = OwnersBench(artifact_set, lessons={DEFAULT: Lesson(), "labels only": _FAST}, tuning=MemoryTuning())
    records = list(bench.records(_owner("one", 30), 1, (10, 20)))
    rows = [record.row for record in records if record.size == 20]
    assert {SHIPPED, MENTOR, DEFAULT, NEIGHBOURS, MEMORY, "labels only"} == set(rows)
    assert {record.total for record in records} == {10}
    trained = {record.trained_on for record in records if record.size == 20 and record.row not in (SHIPPED, MENTOR)}
    assert len(trained) == 1
    for record in records:
        shipped = next(one for one in records if one.row == SHIPPED)
        assert record.right - shipped.right == record.wins - record.losses


def test_the_table_has_each_row_that_the_question_asks_for() -> None:
    assert {"labels only", "mentored", MENTORED, DEFAULT, GATED, "unlabelled only + replay"} <= set(LESSONS)
    assert set(QUICK_ROWS) <= set(LESSONS)
    assert {lesson.training.preset for lesson in SEARCH.values()} <= {None, *PRESETS}


def test_a_memory_answers_with_what_it_remembers(artifact_set: ArtifactSet) -> None:
    samples = _owner("one", 12).samples
    reader = Reader(artifact_set.path(artifact_set.manifest.graphs.inference).read_bytes(), artifact_set)
    sure = MemoryTuning(neighbours=1, width=0.1, share=1.0)
    assert np.array_equal(Memory(reader, samples, sure).probabilities(samples.inputs).argmax(axis=1), samples.labels)
    nothing = Part(samples.inputs[:0], samples.labels[:0])
    assert np.array_equal(
        Memory(reader, nothing, sure).probabilities(samples.inputs), reader.probabilities(samples.inputs)
    )


def test_the_nearer_of_two_neighbours_weighs_more() -> None:
    said = np.full((1, 2), 0.5, np.float32)
    keys = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    features = np.array([[0.9, 0.1]], np.float32)
    blended = blend(said, features, keys, np.array([1, 0]), MemoryTuning(neighbours=2, width=0.5, share=0.5))
    assert blended[0, 1] > blended[0, 0]
    assert blended.sum() == pytest.approx(1.0)


def test_gains_losses_and_the_gate_are_counted_by_owner() -> None:
    records = [_record(owner, SHIPPED) for owner in "abcd"]
    records += [_record("a", GATED, wins=10), _record("b", GATED, wins=2), _record("c", GATED, losses=8)]
    records += [_record("d", GATED)]
    gated = summarise(records)[1]
    assert gated.gain.value == pytest.approx(1.0)
    assert gated.gain.low <= 1.0 <= gated.gain.high
    assert (gated.worse_owners, gated.worse_beyond_noise, gated.pairs, gated.promoted) == (1, 1, 4, 2)
    assert (gated.anchor_change, gated.anchor_worst) == (pytest.approx(-2.0), pytest.approx(-8.0))


def test_two_seeds_of_one_owner_count_as_one_owner() -> None:
    assert by_owner(["a", "b", "a"], np.array([1.0, 5.0, 3.0])).tolist() == [2.0, 5.0]


def test_two_rows_are_compared_owner_by_owner() -> None:
    records = [_record("a", "one", wins=4), _record("b", "one", wins=2), _record("a", "two"), _record("b", "two")]
    gap = difference(records, "one", "two", 10)
    assert gap is not None
    assert (gap.value, gap.low, gap.high) == (3.0, 2.0, 4.0)
    assert difference(records, "one", "three", 10) is None
    assert difference(records[:-1], "one", "two", 10) is None


def test_the_interval_of_equal_values_is_a_point() -> None:
    mean = bootstrap(np.full(5, 3.0))
    assert (mean.value, mean.low, mean.high) == (3.0, 3.0, 3.0)


def test_the_worst_quartile_is_chosen_on_what_is_given_away() -> None:
    members = [_record(str(place), GATED, of_own=own) for place, own in enumerate((9, 3, 8, 7))]
    assert hard_to_read(members).tolist() == [False, True, False, False]


def test_the_quick_form_needs_no_data_and_its_table_can_be_made_again(tmp_path: Path) -> None:
    arguments = ["--quick", "--no-plot", "--out", str(tmp_path)]
    done = CliRunner().invoke(owners_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    results = read_raw(tmp_path / "owners-quick.json", OwnersResults)
    assert {record.size for record in results.records} == {10, 50}
    assert results.conditions.versions["numpy"] == np.__version__
    table = (tmp_path / "owners-quick.md").read_text()
    assert "## 50 own samples" in table
    assert "the product, less labels only" in table
    assert GATED in table
    (tmp_path / "owners-quick.md").unlink()
    assert CliRunner().invoke(owners_command, ["--redraw", *arguments], catch_exceptions=False).exit_code == 0
    assert (tmp_path / "owners-quick.md").read_text() == table


def test_owners_who_label_few_have_a_table_of_their_own(tmp_path: Path) -> None:
    arguments = ["--quick", "--partly", "--no-plot", "--out", str(tmp_path)]
    assert CliRunner().invoke(owners_command, arguments, catch_exceptions=False).exit_code == 0
    assert "Of the own samples 20 % have a label" in (tmp_path / "owners-partly-quick.md").read_text()
    both = CliRunner().invoke(owners_command, [*arguments, "--search"])
    assert isinstance(both.exception, UsageError)


def test_a_run_that_was_stopped_goes_on_with_who_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--quick", "--row", "labels only", "--no-plot", "--out", str(tmp_path), "--resume"]
    assert CliRunner().invoke(owners_command, arguments, catch_exceptions=False).exit_code == 0
    raw = (tmp_path / "owners-quick.json").read_bytes()
    monkeypatch.setattr(OwnersBench, "records", lambda *given: pytest.fail("everybody was done"))
    assert CliRunner().invoke(owners_command, arguments, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "owners-quick.json").read_bytes() == raw
    other = [word if word != "labels only" else DEFAULT for word in arguments]
    refused = CliRunner().invoke(owners_command, other)
    assert isinstance(refused.exception, UsageError)
    assert "leave out --resume" in str(refused.exception)


def test_owners_measured_at_once_give_the_same_records_in_the_same_order(artifact_set: ArtifactSet) -> None:
    owners = [_owner(name, 30, seed) for seed, name in enumerate("abc")]
    lessons = {"labels + replay": LESSONS["labels + replay"]}
    jobs = [(1, owner, artifact_set) for owner in owners]
    alone, together = (
        [
            [msgspec.structs.replace(record, cpu_seconds=0.0) for record in records]
            for records in measure(jobs, lessons=lessons, sizes=(5,), processes=processes)
        ]
        for processes in (1, 2)
    )
    assert alone == together
    assert [records[0].owner for records in together] == [owner.name for owner in owners]


def test_one_training_is_judged_in_several_ways(artifact_set: ArtifactSet) -> None:
    owner = split_owner(_owner("a", 60), 1, largest=40).own
    again = {"half-way": Again((0.5,), memory=False), "gated": Again((0.0, 1.0), memory=True, is_gated=True)}
    lesson = Lesson(TrainingConfig(epochs=20, memory=False, blends=(1.0,)), gate=NO_FOLDS, judged_again=again)
    taught = teach(artifact_set, owner, lesson, seed=1)
    alone = teach(artifact_set, owner, replace(lesson, judged_again={}), seed=1)
    assert taught.candidate == alone.candidate
    assert taught.serving == alone.serving
    half_way = teach(artifact_set, owner, replace(lesson, judged_again={}, blends=(0.5,)), seed=1)
    assert taught.judged_again["half-way"].candidate == half_way.candidate != taught.candidate
    gated = taught.judged_again["gated"]
    assert gated.verdict is not None
    assert "of 2 candidates" in gated.verdict.reason


def test_a_row_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    refused = CliRunner().invoke(owners_command, ["--row", "wishes", "--out", str(tmp_path)])
    assert isinstance(refused.exception, UsageError)
    assert "There is no row `wishes`; there are: labels only" in str(refused.exception)


def test_the_picture_is_drawn_from_raw_values(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [_record(owner, row) for owner in "ab" for row in (SHIPPED, DEFAULT, GATED, MENTOR)]
    results = OwnersResults(
        bench="owners", group="report", conditions=conditions("command", "digits", "0" * 64), records=records
    )
    write_results(results, tmp_path)
    assert (tmp_path / "owners.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'mmd-daemon\[bench\]'"):
        draw(tmp_path / "nothing.png", [], sizes=(), x_label="", title="")


def test_redrawing_what_was_never_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"run the bench without --redraw first"):
        read_raw(tmp_path / "owners.json", OwnersResults)
    (tmp_path / "owners.json").write_text("{}")
    with pytest.raises(InputRefused, match=r"run it again"):
        read_raw(tmp_path / "owners.json", OwnersResults)
