"""Is it measured rightly how soon a trainer yields?"""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import eventually

from mmd_tools.bench.preemption import measure, percentile, processor_nanoseconds, quiet_since, stands_still


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(value) for value in range(1, 201)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [100.0, 198.0, 200.0]
    assert percentile([3.0], 99) == 3.0


def test_it_is_quiet_once_all_but_a_millisecond_is_used() -> None:
    samples = [(0.0, 10_000_000), (0.1, 25_000_000), (0.2, 29_500_000), (0.3, 30_000_000)]
    assert quiet_since(samples) == 0.2
    assert quiet_since([(0.0, 7), (0.1, 7)]) == 0.0


def test_a_process_stands_still_when_it_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as burning:
        eventually(lambda: processor_nanoseconds(burning.pid) > 0)
        assert not stands_still(burning.pid)
        os.kill(burning.pid, 19)
        eventually(lambda: stands_still(burning.pid))
        used = processor_nanoseconds(burning.pid)
        assert processor_nanoseconds(burning.pid) == used
        burning.kill()


def test_the_real_daemon_stops_the_real_trainer(tmp_path: Path) -> None:
    found = measure(tmp_path, flips=2, load=0)
    assert len(found) == 2
    assert all(0 <= flip.quiet <= flip.stopped + 1 for flip in found)
