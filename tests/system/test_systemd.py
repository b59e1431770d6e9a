"""Do the systemd files verify, how safe is the service, and does training run under its memory rule?"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import Ran, run_mmd
from tests.tiny import tiny_board

from mmd.layout import StateDir
from mmd.supervisor.round_runner import STOP_SECONDS

UNITS = Path(__file__).parents[2] / "systemd"
MOST_EXPOSURE = 1.0

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)

UNDER_MDWE = """
import ctypes, os, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""What MemoryDenyWriteExecute=yes does, for one process and its children (Linux 6.3 and later)."""


def run(*command: str) -> Ran:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def unit(name: str = "mmd.service") -> dict[str, list[str]]:
    """Return the settings of a unit, each with its values in order."""
    settings: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


@needs_systemd_analyze
@pytest.mark.parametrize(("name", "command"), [("mmd.service", "run"), ("mmd-serve.service", "serve")])
def test_the_service_verifies_without_a_word(tmp_path: Path, name: str, command: str) -> None:
    text = (UNITS / name).read_text()
    assert f"ExecStart=/opt/mmd/bin/mmd {command}\n" in text
    shutil.copy(UNITS / "mmd-serve.socket", tmp_path)
    (tmp_path / name).write_text(text.replace("/opt/mmd/bin/mmd", sys.executable))
    ran = run("systemd-analyze", "verify", "--man=no", str(tmp_path / name))
    complaints = [line for line in ran.err.splitlines() if "mmd" in line]
    assert complaints == []


@needs_systemd_analyze
@pytest.mark.parametrize("name", ["mmd.service", "mmd-serve.service"])
def test_the_service_is_hardly_exposed(name: str) -> None:
    ran = run("systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / name))
    if "unrecognized option" in ran.err:
        pytest.skip("this systemd-analyze is too old for --offline")
    found = re.search(rf"Overall exposure level for {re.escape(name)}: ([\d.]+)", ran.out)
    assert found is not None, ran.err
    assert float(found.group(1)) <= MOST_EXPOSURE


def test_the_service_speaks_to_systemd_and_is_watched() -> None:
    settings = unit()
    assert settings["Type"] == ["notify"]
    assert settings["WatchdogSec"] == ["30s"]
    assert settings["Restart"] == ["on-failure"]
    assert settings["StateDirectory"] == ["mmd"]


def test_the_service_has_no_network() -> None:
    settings = unit()
    assert settings["PrivateNetwork"] == ["yes"]
    assert settings["RestrictAddressFamilies"] == ["AF_UNIX AF_NETLINK"]


def test_the_server_listens_where_the_command_line_would_and_has_no_network() -> None:
    assert unit("mmd-serve.socket")["ListenStream"] == [str(StateDir(Path("/var/lib/mmd")).serve_socket)]
    assert unit("mmd-serve.socket")["SocketMode"] == ["0660"]
    settings = unit("mmd-serve.service")
    assert settings["PrivateNetwork"] == ["yes"]
    assert settings["RestrictAddressFamilies"] == ["AF_UNIX"]


def test_systemd_waits_longer_for_the_end_than_the_daemon_for_its_trainer() -> None:
    (limit,) = unit()["TimeoutStopSec"]
    assert float(limit.removesuffix("s")) > STOP_SECONDS


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed here")
def test_the_user_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    ran = run("systemd-sysusers", f"--root={tmp_path}", str(UNITS / "sysusers.d" / "mmd.conf"))
    if ran.code != 0 and not (tmp_path / "etc/passwd").exists():
        pytest.skip(f"systemd-sysusers cannot run here: {ran.err.strip()}")
    assert (tmp_path / "etc/passwd").read_text().startswith("mmd:")


def test_the_state_folder_and_the_inbox_belong_to_the_service_and_its_group() -> None:
    (user,) = unit()["User"]
    lines = [line.split() for line in (UNITS / "tmpfiles.d" / "mmd.conf").read_text().splitlines()]
    folders = {line[1]: line[2:5] for line in lines if line and line[0] == "d"}
    assert folders == {
        "/var/lib/mmd": ["0750", user, user],
        "/var/lib/mmd/inbox": ["2770", user, user],
    }


def test_a_real_round_needs_no_memory_that_is_writable_and_executable(tmp_path: Path, tiny_set: Path) -> None:
    board = tiny_board(tmp_path / "state", tiny_set)
    train = ["-m", "mmd", "train", "--force", "--json", "--state-dir", str(board.state.root)]
    ran = run(sys.executable, "-c", UNDER_MDWE, *train)
    if ran.code == 77:
        pytest.skip("this kernel cannot refuse writable and executable memory to one process")
    assert ran.code == 0, ran.err
    assert '"outcome"' in ran.out
    assert run_mmd("models", state=board.state.root).code == 0
