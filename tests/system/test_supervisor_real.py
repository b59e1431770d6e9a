"""With the real trainer: does every interruption end in the model that an undisturbed round makes?"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from tests.fakes.board import Board
from tests.fakes.running import Rig, is_alive
from tests.support import eventually
from tests.tiny import tiny_board

from mmd.layout import StateDir

CONFIGURATION = """\
[daemon]
sys_root = "{board}"
cooldown_seconds = 3600
suspend_grace_seconds = {grace_seconds}
[training]
epochs = 40
checkpoint_every_steps = 10
[conditions.external_power]
dwell_seconds = 0
[conditions.disk_free]
start_mib = 1
stop_mib = 1
"""
ROUND_SECONDS = 240.0
"""An idle-scheduled trainer waits for everybody else on the machine."""


@contextmanager
def real_daemon(folder: Path, tiny_set: Path, *, grace_seconds: float = 120.0) -> Iterator[Rig]:
    """Yield a rig whose daemon is `mmd run` and whose trainer is the real one; it is not started yet."""
    folder.mkdir()
    state = StateDir(tiny_board(folder / "state", tiny_set).state.root)
    made = Rig(folder, Board(folder / "board"), state, folder / "mmd.toml")
    made.config.write_text(CONFIGURATION.format(board=made.board.root, grace_seconds=grace_seconds))
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def start(rig: Rig) -> None:
    rig.start(sys.executable, "-m", "mmd", "run", "--state-dir", str(rig.state.root), "--config", str(rig.config))


def trainer(rig: Rig) -> psutil.Process:
    assert rig.process is not None
    (child,) = psutil.Process(rig.process.pid).children()
    return child


def wait_for_step(rig: Rig, step: int) -> None:
    eventually(lambda: (rig.status()["round"] or {}).get("step", 0) >= step, within=ROUND_SECONDS)


def sha256_after_the_round(rig: Rig) -> str:
    eventually(lambda: rig.status()["verdict"] is not None, within=ROUND_SECONDS)
    model = rig.status()["model"]
    assert model["generation"] == 1, rig.log
    sha256: str = model["sha256"]
    return sha256


def test_kills_and_suspensions_end_in_the_same_model_as_an_undisturbed_round(tmp_path: Path, tiny_set: Path) -> None:
    with real_daemon(tmp_path / "quiet", tiny_set) as quiet:
        start(quiet)
        undisturbed = sha256_after_the_round(quiet)
    with real_daemon(tmp_path / "rough", tiny_set, grace_seconds=0.1) as rough:
        start(rough)
        wait_for_step(rough, 5)
        trainer(rough).kill()
        wait_for_step(rough, 25)
        rough.signal(signal.SIGKILL)
        assert rough.process is not None
        rough.process.wait(60)
        start(rough)
        wait_for_step(rough, 45)
        child = trainer(rough)
        rough.board.unplug()
        eventually(lambda: not is_alive(child.pid))  # the grace is over: it made a checkpoint and left
        rough.board.plug()
        wait_for_step(rough, 65)
        assert rough.stop() == 0
        start(rough)
        assert sha256_after_the_round(rough) == undisturbed


def test_the_real_trainer_stands_still_within_a_second(tmp_path: Path, tiny_set: Path) -> None:
    with real_daemon(tmp_path / "rig", tiny_set) as rig:
        start(rig)
        wait_for_step(rig, 5)
        child = trainer(rig)
        rig.board.unplug()
        eventually(lambda: child.status() == psutil.STATUS_STOPPED, within=1.0)
        used = child.cpu_times()
        assert rig.is_in("suspended")
        eventually(lambda: bool(rig.status()["reasons"]))
        assert child.cpu_times()[:2] == used[:2]
        assert rig.codes() == ["on_battery"]
