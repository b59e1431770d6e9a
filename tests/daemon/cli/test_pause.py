"""Do `mmd pause` and `mmd resume` hold and release training, with a daemon and without one?"""

from pathlib import Path

from tests.fakes.running import rig
from tests.support import call_mmd, eventually


def test_a_pause_holds_training_until_resume(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        board.script("steps=2000")
        board.start()
        eventually(lambda: board.is_in("training"))
        ran = call_mmd("pause", state=board.state.root)
        assert (ran.code, ran.out) == (0, "Training is held now (state: suspended), until `mmd resume`.\n")
        assert "was held already" in call_mmd("pause", state=board.state.root).out
        ran = call_mmd("resume", state=board.state.root)
        assert ran.code == 0
        assert ran.out.startswith("Training is no longer held (state: training)")
        assert "was not held" in call_mmd("resume", state=board.state.root).out


def test_a_pause_without_a_daemon_holds_the_next_one(tmp_path: Path) -> None:
    with rig(tmp_path) as board:
        ran = call_mmd("pause", state=board.state.root)
        assert ran.code == 0
        assert ran.out == "No daemon is running; training stays held when it starts, until `mmd resume`.\n"
        board.start()
        assert board.codes() == ["held_by_user"]


def test_a_resume_without_a_daemon_releases_the_next_one(tmp_path: Path) -> None:
    call_mmd("pause", state=tmp_path / "state")
    ran = call_mmd("resume", state=tmp_path / "state")
    assert ran.code == 0
    assert ran.out == "No daemon is running; training is no longer held when it starts.\n"


def test_a_resume_with_nothing_held_needs_a_daemon(tmp_path: Path) -> None:
    ran = call_mmd("resume", state=tmp_path)
    assert ran.code == 6
    assert ran.error_lines == [f"mmd: No daemon is running for {tmp_path}; start it with `mmd run`."]
