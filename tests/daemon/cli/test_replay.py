"""Does `mmd replay` show what the policy would do on a day that `mmd run --record` wrote?"""

import json
import sys
from pathlib import Path

from tests.fakes.running import rig
from tests.support import call_mmd, eventually
from tests.traces.make import FOLDER


def test_a_trace_is_played_as_clock_state_and_reasons(tmp_path: Path) -> None:
    ran = call_mmd("replay", FOLDER / "flapping_charger.jsonl", state=tmp_path)
    assert ran.out.splitlines() == [
        "00:01:00 training",
        "00:01:02 suspended on_battery",
        "00:02:05 training",
    ]


def test_other_limits_lead_to_another_day(tmp_path: Path) -> None:
    config = tmp_path / "mmd.toml"
    config.write_text("[conditions.external_power]\nrequired = false\n")
    ran = call_mmd("replay", "--json", FOLDER / "flapping_charger.jsonl", state=tmp_path, config=config)
    assert [json.loads(line) for line in ran.out.splitlines()] == [{"at": 60.0, "state": "training", "reasons": []}]


def test_a_daemon_records_what_it_senses(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        trace = tmp_path / "trace.jsonl"
        options = ["--state-dir", str(board.state.root), "--config", str(board.config)]
        board.start(sys.executable, "-m", "mmd", "run", "--record", str(trace), *options)
        board.board.unplug()
        eventually(lambda: "on_battery" in board.codes())
        assert board.stop() == 0
        ran = call_mmd("replay", trace, state=board.state.root, config=board.config)
        assert ran.code == 0, ran.err
        assert "on_battery" in ran.out.splitlines()[-1]


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    ran = call_mmd("replay", FOLDER / "make.py", state=tmp_path)
    assert ran.code == 3
    assert len(ran.error_lines) == 1
