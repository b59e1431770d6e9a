"""Does the unmodified program, at the real /sys, believe a board that is mounted there, and hear the system bus?"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.running import Rig, rig
from tests.fakes.system_bus import DAEMON, FakeLogind, private_bus
from tests.support import eventually

CLASSES = ("power_supply", "thermal")
CONFIGURATION = """\
[daemon]
poll_seconds = {poll_seconds}
watch_inbox = false
[conditions.external_power]
dwell_seconds = 0
"""


def why_not() -> str | None:
    """Say why no folder can be mounted over a part of /sys here."""
    if os.geteuid() != 0:
        return "only root may mount a board over /sys"
    missing = [name for name in CLASSES if not Path("/sys/class", name).is_dir()]
    if missing:
        return f"/sys/class/{missing[0]} does not exist here"
    try:
        ran = subprocess.run(["unshare", "-m", "true"], capture_output=True, timeout=20, check=False)
    except OSError:
        return "there is no unshare here (Debian: util-linux)"
    return None if ran.returncode == 0 else f"no mount namespace can be made here: {ran.stderr.decode().strip()}"


REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path, is_initialised=False) as made:
        yield made


def start(board: Rig, *, poll_seconds: float) -> None:
    """Start `mmd run` where the fake board's folders lie over the machine's."""
    board.config.write_text(CONFIGURATION.format(poll_seconds=poll_seconds))
    mounts = [f"mount --bind {board.board.root}/sys/class/{name} /sys/class/{name}" for name in CLASSES]
    run = f"exec {sys.executable} -m mmd run --state-dir {board.state.root} --config {board.config}"
    board.start("unshare", "-m", "sh", "-ec", "\n".join([*mounts, run]))


def test_the_real_root_is_read(board: Rig) -> None:
    board.board.zone(0, 91_000, kind="cpu-thermal").unplug()
    start(board, poll_seconds=0.2)
    eventually(lambda: {"on_battery", "soc_hot"} <= set(board.codes()))
    conditions = board.status()["conditions"]
    assert conditions["battery_charge"]["value"] == 90
    assert conditions["soc_temperature"]["value"] == 91
    board.board.plug()
    eventually(lambda: "on_battery" not in board.codes())
    assert board.stop() == 0


@pytest.mark.skipif(DAEMON is None, reason="there is no dbus-daemon here (Debian: dbus-daemon)")
def test_a_user_who_comes_back_to_the_desktop_is_seen_between_two_polls(board: Rig, tmp_path: Path) -> None:
    with private_bus(tmp_path) as address:
        logind = FakeLogind(address)
        board.environment["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={address}"
        start(board, poll_seconds=60.0)
        logind.say("c1", IdleHint=False, IdleSinceHintMonotonic=1_000_000)
        eventually(lambda: board.status()["conditions"]["user_idle"]["detail"] == "the wayland session of ada")
        assert board.status()["conditions"]["user_idle"]["value"] == 0
        assert "user_active" in board.codes()
        logind.close()
    eventually(lambda: "the system bus is gone" in board.log)
    assert board.stop() == 0
