"""Is it measured rightly what the daemon costs while there is nothing to do?"""

import json
import os
from pathlib import Path

import pytest
from tests.support import call_tools

from mmd_tools.bench.idle import Look, core_percent, measure, resident_mb


def test_the_share_of_a_core_is_reckoned_over_the_whole_time() -> None:
    looks = [Look(at=5.0, resident_mb=30.0, processor_seconds=0.5), Look(10.0, 31.0, 0.5)]
    assert core_percent(looks) == pytest.approx(5.0)


def test_the_memory_of_a_process_is_in_millions_of_bytes() -> None:
    assert 1 < resident_mb(os.getpid()) < 10_000


def test_the_real_daemon_is_idle_with_its_samples_and_is_watched(tmp_path: Path) -> None:
    looks = measure(tmp_path, seconds=1.2, samples=700, settled_seconds=0.0)
    assert [look.at for look in looks] == sorted(look.at for look in looks)
    assert looks[-1].at >= 1.2
    assert all(5 < look.resident_mb < 40 for look in looks)
    assert looks[-1].processor_seconds > 0, "it looks at the board all the same"


def test_every_look_is_in_the_json(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [Look(1.0, 30.0, 0.001), Look(2.0, 29.0, 0.003)]
    monkeypatch.setattr("mmd_tools.bench.idle.measure", lambda work, **given: looks)
    ran = call_tools("bench", "idle", "--seconds", "2", "--samples", "10", "--json")
    found = json.loads(ran.out)
    assert (found["resident_mb"], found["core_percent"]) == (30.0, pytest.approx(0.15))
    assert [each["at"] for each in found["each"]] == [1.0, 2.0]
    words = call_tools("bench", "idle", "--seconds", "2", "--samples", "10").out
    assert "at most 30.0 MB resident (budget 40)" in words
    assert "0.150 % of a core (budget 0.2)" in words
