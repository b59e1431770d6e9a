"""The demonstration, played once for real: daemon, trainer, gate, swap and report."""

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from mmd.demo.story import Demonstration, Outcome
from mmd.layout import StateDir, round_folder
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import read_verdict
from mmd.report.collect import collect
from mmd.report.data import ReportData
from mmd.samples.store import SampleStore
from mmd.supervisor.history import History
from mmd.training.plan import read_plan


@dataclass(frozen=True)
class Played:
    outcome: Outcome
    told: str
    state: StateDir
    page: str

    def report(self) -> ReportData:
        return collect(self.state, title="Test")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("demo")
    told = io.StringIO()
    demonstration = Demonstration(folder / "play", Console(file=told, width=200))
    outcome = demonstration.play(folder / "report.html")
    return Played(outcome, told.getvalue(), demonstration.state, (folder / "report.html").read_text())


def test_the_personalised_mentee_beats_the_shipped_one_on_held_out_digits(played: Played) -> None:
    shipped, _, mentored, _ = played.outcome.rows
    assert played.outcome.is_promoted
    assert mentored.right > shipped.right
    assert mentored.total == shipped.total >= 20


def test_the_rows_are_the_verdicts_own_figures(played: Played) -> None:
    verdict = read_verdict(round_folder(played.state, 1))
    assert verdict is not None
    shipped, _, mentored, _ = played.outcome.rows
    assert (shipped.right, mentored.right) == (verdict.holdout_right_before, verdict.holdout_right_after)


def test_no_held_out_digit_was_trained_on(played: Played) -> None:
    plan = read_plan(round_folder(played.state, 1))
    with SampleStore(played.state.samples_db) as store:
        assert not set(plan.sample_ids) & set(store.holdout_ids())
        assert set(plan.sample_ids) == set(store.training_ids())


def test_the_mentor_speaks_for_the_digits_without_a_name(played: Played) -> None:
    plan = read_plan(round_folder(played.state, 1))
    assert 0.4 < sum(label < 0 for label in plan.labels) / len(plan.labels) < 0.6
    assert plan.listens_to_mentor


def test_training_waited_for_the_charger_and_was_suspended_when_it_was_pulled(played: Played) -> None:
    with History(played.state.history_db, read_only=True) as history:
        changes = [(change.state, change.reasons) for change in history.states()]
    assert any(state == "waiting" and "on_battery" in reasons for state, reasons in changes)
    states = [state for state, _ in changes]
    assert states.index("waiting") < states.index("training")
    if played.outcome.suspend_seconds is not None:
        assert any(state == "suspended" and "on_battery" in reasons for state, reasons in changes)
        assert "external power is connected" in played.told


def test_the_program_with_the_predictor_was_switched_without_a_restart(played: Played) -> None:
    assert "from generation 0 to 1 without a restart" in played.told
    assert ModelStore(played.state).current().card.generation == 1


def test_what_a_command_prints_is_shown_as_it_prints_it(played: Played) -> None:
    assert "\n   generation  phase " in played.told, "columns stand above each other"


def test_the_report_shows_curves_confusions_and_the_timeline(played: Played) -> None:
    data = played.report()
    (only_round,) = data.rounds
    assert [curve.name for curve in only_round.curves[:3]] == ["total", "labels", "soft targets"]
    assert only_round.confusion_after is not None
    assert sum(map(sum, only_round.confusion_after)) == played.outcome.rows[0].total
    assert {"waiting", "training"} <= {span.state for span in data.spans}
    power = next(track for track in data.conditions if track.name == "external_power")
    assert {0.0, 1.0} <= set(power.values)


def test_the_report_is_one_file_that_fetches_nothing(played: Played) -> None:
    assert played.page.count("<svg") >= 4
    for fetching in ("<script", "<link", "src=", "@import", "url("):
        assert fetching not in played.page


def test_without_a_comparison_the_report_compares_the_generations(played: Played) -> None:
    rows = played.report().comparison
    assert [row.name for row in rows] == ["Generation 0", "Generation 1"]
    assert rows[1].right == played.outcome.rows[2].right
