"""Figures of the report: real SVG, drawn from the numbers they are given."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from mmd.report.charts import confusion_chart, loss_chart, steady_notes, timeline_chart, wilson_interval
from mmd.report.data import ConditionTrack, LossCurve, Span

SVG = "{http://www.w3.org/2000/svg}"


def elements(markup: str, tag: str, css: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(markup)
    return [element for element in root.iter(SVG + tag) if css in (element.get("class") or "").split()]


def test_a_falling_loss_is_drawn_falling() -> None:
    drawn = loss_chart([LossCurve("total", (1, 2, 3), (4.0, 2.0, 1.0))])
    points = elements(drawn, "polyline", "series")[0].get("points") or ""
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert heights == sorted(heights)
    assert heights[0] < heights[-1]


def test_labels_of_curves_that_end_together_do_not_overlap() -> None:
    drawn = loss_chart([LossCurve(name, (1, 2), (2.0, 1.0)) for name in ("total", "label", "soft")])
    heights = sorted(float(label.get("y") or 0) for label in elements(drawn, "text", "label"))
    assert all(later - earlier >= 13 for earlier, later in pairwise(heights))


def test_losses_that_are_not_finite_are_left_out_of_the_curve() -> None:
    drawn = loss_chart([LossCurve("total", (1, 2, 3), (4.0, float("nan"), 1.0))])
    assert "nan" not in drawn


def test_a_round_without_steps_says_so() -> None:
    assert "No step has been taken yet" in loss_chart([])


def test_mistakes_are_marked_in_the_confusion_matrix() -> None:
    drawn = confusion_chart([[3, 0], [2, 1]], ("cat", "dog"), "before")
    assert len(elements(drawn, "rect", "mistake")) == 1
    assert sorted(text.text or "" for text in elements(drawn, "text", "count")) == ["1", "2", "3"]


def test_long_class_names_stand_on_end_above_their_columns() -> None:
    short, long = (confusion_chart([[1, 0], [0, 1]], names, "before") for names in (("a", "b"), ("otter", "x" * 40)))
    turned = [text.text or "" for text in elements(long, "text", "tick") if "rotate" in text.get("transform", "")]
    assert turned == ["true", "otter", "x" * 15 + "…"]
    assert [text.text for text in elements(short, "text", "tick") if text.get("transform")] == ["true"]


def test_class_names_cannot_inject_markup() -> None:
    drawn = confusion_chart([[1]], ("<script>",), "before")
    assert "<script>" not in drawn


def test_the_timeline_draws_states_in_proportion_to_their_time() -> None:
    spans = [Span("training", 0.0, 10.0), Span("suspended", 10.0, 30.0)]
    drawn = timeline_chart(spans, [ConditionTrack("external_power", "", (0.0, 10.0), (1.0, 0.0))])
    training = float(elements(drawn, "rect", "training")[0].get("width") or 0)
    suspended = float(elements(drawn, "rect", "suspended")[0].get("width") or 0)
    assert suspended == pytest.approx(2 * training, rel=0.01)


def test_conditions_that_never_changed_are_named_and_not_drawn() -> None:
    tracks = [
        ConditionTrack("soc_temperature", "°C", (0.0,), (None,)),
        ConditionTrack("battery_charge", "%", (0.0, 1.0), (90.0, 90.0)),
        ConditionTrack("external_power", "", (0.0, 1.0), (1.0, 0.0)),
    ]
    assert steady_notes(tracks) == [
        "The same all the time: battery charge 90 %.",
        "Not readable on this board: soc temperature.",
    ]
    drawn = timeline_chart([Span("idle", 0.0, 1.0)], tracks)
    assert [name.text for name in elements(drawn, "text", "name")] == ["state", "external power"]


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # Values of the score interval as tabulated by Newcombe, Statistics in Medicine 17 (1998), table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_matches_published_values(right: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=5e-5)
