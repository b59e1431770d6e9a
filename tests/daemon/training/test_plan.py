"""Does a plan freeze everything, and nothing that was held out?"""

from pathlib import Path

import msgspec
import pytest
from tests.plans import round_plan
from tests.support import image_manifest

from mmd.artifact.load import ArtifactSet
from mmd.artifact.manifest import Manifest
from mmd.augmentation import Augmentation, usual_augmentation
from mmd.config import Config, TrainingConfig
from mmd.errors import StoreDamaged, UsageError
from mmd.layout import StateDir, round_folder, round_numbers
from mmd.training.curves import interpolate
from mmd.training.plan import (
    RoundPlan,
    make_plan,
    next_round_number,
    read_plan,
    read_progress,
    write_plan,
)
from mmd_tools.presets import PRESETS

LABELS = {f"{number:02d}": number % 2 for number in range(30)}


def planned(
    config: Config | None = None,
    labels: dict[str, int] | None = None,
    held_out: set[str] | None = None,
    manifest: Manifest | None = None,
) -> RoundPlan:
    artifact_set = ArtifactSet(Path("set"), manifest or image_manifest({}), "sha")
    return make_plan(
        3,
        artifact_set,
        config or Config(),
        labels=LABELS if labels is None else labels,
        holdout_ids=held_out or set(),
        start_generation=2,
        now=5.0,
    )


def test_what_the_owner_leaves_open_comes_from_the_set() -> None:
    plan = planned()
    assert (plan.epochs, plan.batch_size, plan.learning_rate, plan.preset) == (1, 8, 0.001, "obedient")
    assert plan.replay_per_batch == 2
    assert plan.steps == 5, "30 samples in places of 6"
    assert plan.engine == "portable"


def test_what_the_owner_configures_goes_first() -> None:
    config = Config(
        training=TrainingConfig(
            epochs=3, batch_size=10, learning_rate=0.5, replay=0.0, preset="adamant", engine="ort_training", threads=2
        )
    )
    plan = planned(config)
    assert (plan.epochs, plan.batch_size, plan.learning_rate, plan.preset) == (3, 10, 0.5, "adamant")
    assert (plan.engine, plan.threads, plan.replay_per_batch, plan.steps) == ("ort_training", 2, 0, 9)


def test_micro_batches_decay_and_clipping_are_in_the_plan() -> None:
    plan = planned()
    assert (plan.micro_batch, plan.weight_decay, plan.clip_norm) == (0, 0.01, 0.0)
    plan = planned(Config(training=TrainingConfig(micro_batch=4, weight_decay=0.0, clip_norm=2.5)))
    assert (plan.micro_batch, plan.weight_decay, plan.clip_norm) == (4, 0.0, 2.5)


def test_a_plan_from_before_they_could_be_chosen_is_read() -> None:
    early = msgspec.to_builtins(planned())
    for key in ("micro_batch", "weight_decay", "clip_norm"):
        del early[key]
    plan = msgspec.convert(early, RoundPlan)
    assert (plan.micro_batch, plan.weight_decay, plan.clip_norm) == (0, None, None)


def test_a_batch_always_has_room_for_an_own_sample() -> None:
    assert planned(Config(training=TrainingConfig(replay=1.0))).replay_per_batch == 7


def test_samples_without_any_label_train_on_the_mentor_alone() -> None:
    assert planned(labels=dict.fromkeys(LABELS, -1)).preset == "unlabelled"


@pytest.fixture
def yielding() -> Manifest:
    """The Mentor yields to labels; the schedules are those of every set."""
    manifest = image_manifest({})
    loss = msgspec.structs.replace(
        manifest.loss, schedules=PRESETS, default_schedule="adamant", labelled_schedule="independent"
    )
    return msgspec.structs.replace(manifest, loss=loss)


def few_labelled(count: int) -> dict[str, int]:
    return {name: label if place < count else -1 for place, (name, label) in enumerate(LABELS.items())}


def test_the_mentor_weighs_as_much_as_there_are_samples_without_a_label(yielding: Manifest) -> None:
    plan = planned(manifest=yielding, labels=few_labelled(12))
    assert plan.preset == "adamant"
    for progress in (0.0, 0.3, 1.0):
        adamant = PRESETS["adamant"]
        assert interpolate(plan.schedule.gamma, progress) == pytest.approx(0.6 * interpolate(adamant.gamma, progress))
        assert interpolate(plan.schedule.beta, progress) == pytest.approx(0.6 * interpolate(adamant.beta, progress))
    assert [interpolate(plan.schedule.alpha, progress) for progress in (0.0, 1.0)] == pytest.approx([1.0, 0.52])


def test_a_mixed_schedule_is_on_disk_what_it_was(yielding: Manifest, tmp_path: Path) -> None:
    plan = planned(manifest=yielding, labels=few_labelled(7))
    assert read_plan(write_plan(StateDir(tmp_path), plan)) == plan


def test_where_every_sample_has_a_label_the_labelled_schedule_holds_alone(yielding: Manifest) -> None:
    plan = planned(manifest=yielding)
    assert (plan.preset, plan.schedule) == ("independent", PRESETS["independent"])
    assert not msgspec.structs.replace(plan, hint_weights=(1.0,)).listens_to_mentor


def test_where_no_sample_has_a_label_the_labelled_schedule_says_nothing(yielding: Manifest) -> None:
    plan = planned(manifest=yielding, labels=few_labelled(0))
    assert (plan.preset, plan.schedule) == ("unlabelled", PRESETS["unlabelled"])


@pytest.mark.parametrize("count", [0, 12, 30])
def test_a_preset_that_the_owner_chooses_is_mixed_with_nothing(yielding: Manifest, count: int) -> None:
    plan = planned(Config(training=TrainingConfig(preset="adamant")), few_labelled(count), manifest=yielding)
    assert (plan.preset, plan.schedule) == ("adamant", PRESETS["adamant"])


@pytest.mark.parametrize("count", [12, 30])
def test_a_set_without_a_labelled_schedule_trains_as_before(yielding: Manifest, count: int) -> None:
    early = msgspec.to_builtins(yielding)
    del early["loss"]["labelled_schedule"]
    plan = planned(manifest=msgspec.convert(early, Manifest), labels=few_labelled(count))
    assert (plan.preset, plan.schedule) == ("adamant", PRESETS["adamant"])


@pytest.mark.parametrize("count", [12, 30])
def test_a_labelled_schedule_that_the_set_lacks_is_refused(yielding: Manifest, count: int) -> None:
    loss = msgspec.structs.replace(yielding.loss, labelled_schedule="indepedent")
    with pytest.raises(UsageError, match="`indepedent`; it has: adamant"):
        planned(manifest=msgspec.structs.replace(yielding, loss=loss), labels=few_labelled(count))


def test_a_held_out_sample_is_never_planned() -> None:
    with pytest.raises(AssertionError, match="held-out"):
        planned(held_out={"05"})


def test_a_preset_that_the_set_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(UsageError, match="`obedeint`; it has: adamant, independent, obedient, unlabelled"):
        planned(Config(training=TrainingConfig(preset="obedeint")))


def test_a_round_without_samples_is_refused() -> None:
    with pytest.raises(UsageError, match="mmd ingest"):
        planned(labels={})


def test_each_round_has_its_own_seed() -> None:
    assert planned().seed == 3


def test_only_a_schedule_with_mentor_terms_listens_to_the_mentor() -> None:
    schedule = planned().schedule
    silent = msgspec.structs.replace(schedule, beta=((0.0, 0.0),), gamma=((0.0, 0.0), (1.0, 0.0)))
    assert round_plan().listens_to_mentor
    assert not round_plan(schedule=silent).listens_to_mentor
    assert not round_plan(
        schedule=msgspec.structs.replace(silent, beta=((0.0, 1.0),)), hint_weights=()
    ).listens_to_mentor


def test_a_plan_on_disk_is_the_plan(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    folder = write_plan(state, round_plan(number=2))
    assert read_plan(folder) == round_plan(number=2)
    assert folder == round_folder(state, 2)
    assert round_numbers(state) == [2]
    assert next_round_number(state) == 3


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"number": 1}', b'{"engine": "\xee"}'])
def test_a_plan_that_cannot_be_read_is_damage(tmp_path: Path, content: bytes | None) -> None:
    folder = write_plan(StateDir(tmp_path), round_plan())
    if content is None:
        (folder / "plan.json").unlink()
    else:
        (folder / "plan.json").write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"plan\.json"):
        read_plan(folder)


def test_progress_is_read_from_the_last_whole_line(tmp_path: Path) -> None:
    folder = write_plan(StateDir(tmp_path), round_plan())
    assert read_progress(folder, round_plan()).step == 0
    (folder / "losses.jsonl").write_bytes(b'{"step":1,"loss":2.5}\n{"step":2,"loss":1.5}\n{"step":3,"lo')
    progress = read_progress(folder, round_plan())
    assert (progress.step, progress.steps, progress.loss) == (2, 20, 1.5)


def test_a_set_that_says_nothing_of_views_gives_one() -> None:
    plan = planned(Config(training=TrainingConfig(augmentation=Augmentation(scale=0.3))))
    assert (plan.views, plan.augmentation) == (1, None)


def test_views_are_as_far_from_the_sample_as_the_owner_says_or_as_is_usual() -> None:
    own = Augmentation(scale=0.3)
    assert planned(Config(training=TrainingConfig(views=4, augmentation=own))).augmentation == own
    usual = planned(Config(training=TrainingConfig(views=4, seed=9)))
    assert usual.augmentation == usual_augmentation("image", (1, 8, 8))
    assert (usual.views, usual.view_seed, usual.seed) == (4, 9, 12), "views stay the same from round to round"


def test_views_cost_no_steps() -> None:
    assert planned(Config(training=TrainingConfig(views=4))).steps == planned().steps


def test_a_kind_of_input_that_nobody_knows_how_to_vary_is_refused() -> None:
    def with_views(augmentation: Augmentation | None = None) -> RoundPlan:
        config = Config(training=TrainingConfig(views=2, augmentation=augmentation))
        return planned(config, manifest=image_manifest({}, shape=(4, 8)))

    with pytest.raises(UsageError, match=r"set training\.views to 1"):
        with_views()
    with pytest.raises(UsageError, match=r"training\.augmentation\.shear does not vary"):
        with_views(augmentation=Augmentation(shear=0.1))
    assert with_views(augmentation=Augmentation(noise=0.1)).augmentation == Augmentation(noise=0.1)
