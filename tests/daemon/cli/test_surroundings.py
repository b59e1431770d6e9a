"""Does a command say plainly what is wrong around it: a disk that refuses, a terminal that cannot show a letter?"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.support import call_mmd, initialised_state, run_mmd, write_png

from mmd.cli.main import COMMANDS
from mmd.supervisor.history import History


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.ENOSPC, "mmd: /state/held: No space left on device; free some space and try again."),
        (errno.EACCES, "mmd: /state/held: Permission denied; change its owner or mode, or run this as its owner."),
        (errno.EROFS, "mmd: /state/held: Read-only file system; choose another place, or make it writable."),
    ],
)
def test_a_disk_that_refuses_is_one_line_with_what_to_do(
    number: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def fail() -> None:
        raise OSError(number, os.strerror(number), "/state/held")

    monkeypatch.setattr(sys.modules[__name__], "fail", fail, raising=False)
    monkeypatch.setitem(COMMANDS, "fail", f"{__name__}:fail")
    ran = call_mmd("fail")
    assert (ran.code, ran.error_lines) == (1, [line])


def test_an_output_that_is_not_utf_8_is_no_error(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    write_png(tmp_path / "in" / "\u6570.png", 1)
    env = {"PYTHONIOENCODING": "ascii"}
    for arguments in (["ingest", tmp_path / "in"], ["ingest", tmp_path / "in"], ["samples"], ["status"]):
        ran = run_mmd(*arguments, state=state, env=env)
        assert (ran.code, ran.err) == (0, "")


def test_the_list_of_commands_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "..." not in call_mmd("--help").out.split("Commands:")[1]


ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=8m none "$1/disk"
cp -a "$1/state" "$1/disk/state"
dd if=/dev/zero of="$1/disk/filler" bs=1k 2> /dev/null || true
[ "$2" = full ] || mount -o remount,ro "$1/disk"
shift 2
exec "$@"
"""


def why_no_disk() -> str | None:
    """Say why no disk of its own can be mounted for a test here."""
    if os.geteuid() != 0:
        return "only root may mount a small disk"
    try:
        ran = subprocess.run(["unshare", "-m", "true"], capture_output=True, timeout=20, check=False)
    except OSError:
        return "there is no unshare here (Debian: util-linux)"
    return None if ran.returncode == 0 else f"no mount namespace can be made here: {ran.stderr.decode().strip()}"


NO_DISK = why_no_disk()
# A full disk is real here, never the machine's own: it takes root and a mount namespace. The run names what is missing.
on_a_disk_of_its_own = pytest.mark.skipif(NO_DISK is not None, reason=str(NO_DISK))


@on_a_disk_of_its_own
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_on_a_disk_that_takes_nothing_more_the_reading_commands_answer(tmp_path: Path, disk: str) -> None:
    state = initialised_state(tmp_path)
    assert call_mmd("ingest", write_png(tmp_path / "in" / "a.png", 1), state=state).code == 0
    History(state / "history.db").close()
    (tmp_path / "disk").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mmd", "--state-dir", str(tmp_path / "disk/state"), *arguments]
        script = ["unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path), disk]
        return subprocess.run([*script, *command], capture_output=True, text=True, timeout=60, check=False)

    report = ["report", "--out", str(tmp_path / "report.html")]
    for command in (["status"], ["why"], ["why", "--since", "24h"], ["samples"], ["models"], report):
        ran = run(*command)
        assert (ran.returncode, ran.stderr) == (0, ""), command
    assert json.loads(run("status", "--json").stdout)["samples"]["total"] == 1
    refused = run("ingest", str(write_png(tmp_path / "in" / "b.png", 2)))
    assert refused.returncode != 0
    assert "No space left" in refused.stderr or "readonly" in refused.stderr


OPEN_THE_HISTORY = """
import sys
from pathlib import Path
from mmd.supervisor.history import open_to_write
try:
    open_to_write(Path(sys.argv[1]))
finally:
    print(*sorted(file.name for file in Path(sys.argv[1]).parent.glob("history.db*")))
"""


@on_a_disk_of_its_own
def test_a_history_on_a_full_disk_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    for folder in ("disk", "state"):
        (tmp_path / folder).mkdir()
    History(tmp_path / "state" / "history.db").close()
    script = ["unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path), "full"]
    command = [sys.executable, "-c", OPEN_THE_HISTORY, str(tmp_path / "disk/state/history.db")]
    ran = subprocess.run([*script, *command], capture_output=True, text=True, timeout=60, check=False)
    assert "history.db " in ran.stdout and "damaged" not in ran.stdout
    assert "MmdError: No space left for the history" in ran.stderr


A_DAEMON = """
import subprocess, sys
from pathlib import Path
from tests.support import eventually
from mmd.errors import DaemonNotRunning
from mmd.layout import StateDir
from mmd.supervisor.client import ask
from mmd.supervisor.history import open_history

state, config = StateDir(Path(sys.argv[1])), sys.argv[2]

def reasons():
    try:
        return [reason["code"] for reason in ask(state.control_socket, {"request": "status"})["status"]["reasons"]]
    except DaemonNotRunning:
        return None

def is_recorded():
    with open_history(state.history_db) as history:
        return any("disk_low" not in change.reasons for change in history.states())

daemon = subprocess.Popen([sys.executable, "-m", "mmd", "--state-dir", state.root, "--config", config, "run"])
try:
    eventually(lambda: daemon.poll() is not None or reasons() is not None)
    assert "disk_low" in reasons()
    (state.root.parent / "filler").unlink()
    eventually(lambda: "disk_low" not in reasons())
    eventually(is_recorded)
finally:
    daemon.terminate()
    print(daemon.wait(20))
"""


@on_a_disk_of_its_own
def test_a_daemon_that_starts_on_a_full_disk_waits_for_room(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    History(state / "history.db").close()
    (tmp_path / "disk").mkdir()
    config = tmp_path / "mmd.toml"
    config.write_text("[conditions.disk_free]\nstart_mib = 1\nstop_mib = 1\ndwell_seconds = 0\n")
    script = ["unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, "sh", str(tmp_path), "full"]
    command = [sys.executable, "-c", A_DAEMON, str(tmp_path / "disk/state"), str(config)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    ran = subprocess.run([*script, *command], capture_output=True, text=True, timeout=200, env=env, check=False)
    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran.stderr
    assert ran.stderr.count("No space left for the history") == 1
