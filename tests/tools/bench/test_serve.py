"""Does the benchmark of the server ask a real server while a real trainer steps and real swaps happen?"""

import json

from tests.support import call_tools

from mmd_tools.bench.serve import PHASES, Measured


def test_every_request_is_answered_while_a_round_trains_and_models_are_swapped() -> None:
    ran = call_tools("bench", "serve", "--quick", "--json")
    assert ran.code == 0, ran.err
    figures = json.loads(ran.out)
    assert (figures["failed"], figures["failures"]) == (0, [])
    assert figures["generations"] == [0, 1]
    assert figures["swaps"] >= 6
    assert figures["steps"] > 0
    assert set(figures["phases"]) == set(figures["each_ms"]) == set(PHASES)
    for phase, each in figures["phases"].items():
        assert each["requests"] == len(figures["each_ms"][phase]) > 0


def test_a_request_that_fails_is_counted_and_told() -> None:
    times = {phase: [1.0, 2.0] for phase in PHASES}
    figures = Measured(milliseconds=times, failures=["both: 503 busy"]).figures()
    assert (figures["failed"], figures["failures"]) == (1, ["both: 503 busy"])


def test_the_ratio_is_that_of_the_99th_percentiles() -> None:
    times = {"quiet": [1.0] * 98 + [2.0, 9.0], **{phase: [3.0] * 100 for phase in PHASES[1:]}}
    phases = Measured(milliseconds=times).figures()["phases"]
    assert isinstance(phases, dict)
    assert phases["training"]["p99_ratio_to_quiet"] == 1.5
