"""What does the daemon cost while there is nothing to do? The real one, on this machine's sensors, with a full store.

It waits for more samples than there will ever be, so it is idle and looks at the board every second all the same. Its
memory and its processor time are read from `/proc`: asking it would be work.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from mmd.errors import DaemonNotRunning, MmdError
from mmd.layout import StateDir
from mmd.samples.records import NewSample
from mmd.samples.store import SampleStore
from mmd.supervisor.client import ask
from mmd_tools.bench.preemption import process, processor_nanoseconds, wait

CONFIGURATION = """\
[training]
min_samples = 1000000000
[conditions.disk_free]
start_mib = 1
stop_mib = 1
"""
SETTLED_SECONDS = 10.0
"""What the first looks cost is no idling."""
LOOKS = 60
"""At the memory, over the whole time."""
BUDGET_MB, BUDGET_PERCENT = 40.0, 0.2
_AT_ONCE = 500


@dataclass(frozen=True)
class Look:
    """The daemon at one moment."""

    at: float
    """Seconds since the watch began."""
    resident_mb: float
    processor_seconds: float
    """Used since then."""


@click.command("idle", short_help="Say what the daemon costs while it does nothing.")
@click.option("--seconds", default=300.0, show_default=True, type=click.FloatRange(min=1.0), help="To watch.")
@click.option("--samples", default=10_000, show_default=True, type=click.IntRange(min=1), help="In the store.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with every look.")
def idle_command(seconds: float, samples: int, as_json: bool) -> None:
    """Watch the daemon do nothing; say what memory it occupies and what share of a core it uses."""
    with tempfile.TemporaryDirectory(prefix="mmd-idle-") as work:
        looks = measure(Path(work), seconds=seconds, samples=samples)
    found = {"resident_mb": max(look.resident_mb for look in looks), "core_percent": core_percent(looks)}
    if as_json:
        each = [asdict(look) for look in looks]
        click.echo(json.dumps({"seconds": seconds, "samples": samples, **found, "each": each}))
        return
    click.echo(f"{seconds:g} idle seconds with {samples} samples stored:")
    click.echo(f"  at most {found['resident_mb']:.1f} MB resident (budget {BUDGET_MB:g})")
    click.echo(f"  {found['core_percent']:.3f} % of a core (budget {BUDGET_PERCENT:g})")


def core_percent(looks: list[Look]) -> float:
    """Return the share of one processor that was used between the first look and the last."""
    return 100.0 * looks[-1].processor_seconds / looks[-1].at


def measure(work: Path, *, seconds: float, samples: int, settled_seconds: float = SETTLED_SECONDS) -> list[Look]:
    """Watch the daemon for so long."""
    state, config = StateDir(work / "state"), work / "mmd.toml"
    config.write_text(CONFIGURATION)
    command = [sys.executable, "-m", "mmd", "--state-dir", str(state.root), "--config", str(config)]
    subprocess.run([*command, "init"], check=True, stdout=subprocess.DEVNULL)
    fill(state.samples_db, samples)
    with process([*command, "run"]):
        pid = pid_of_the_idle(state.control_socket, samples)
        time.sleep(settled_seconds)
        began, used = time.monotonic(), processor_nanoseconds(pid)
        looks = []
        for number in range(1, LOOKS + 1):
            time.sleep(max(0.0, began + seconds * number / LOOKS - time.monotonic()))
            spent = (processor_nanoseconds(pid) - used) / 1e9
            looks.append(Look(time.monotonic() - began, resident_mb(pid), spent))
        pid_of_the_idle(state.control_socket, samples)
    return looks


def fill(samples_db: Path, count: int) -> None:
    """Store so many samples of noise."""
    rng = random.Random(count)
    with SampleStore(samples_db) as store:
        for begin in range(0, count, _AT_ONCE):
            store.add(
                NewSample(rng.randbytes(store.form.content_bytes), store.form.classes[0], "noise")
                for _ in range(min(_AT_ONCE, count - begin))
            )


def pid_of_the_idle(socket: Path, samples: int) -> int:
    """Wait for the daemon's answer and return its process number. Raises `MmdError` where it is not idle."""
    found: list[dict[str, object]] = []

    def answers() -> bool:
        try:
            found[:] = [ask(socket, {"request": "status"})["status"]]
        except DaemonNotRunning:
            return False
        return True

    wait(answers, every=0.05)
    (status,) = found
    daemon, stored = status["daemon"], status["samples"]
    assert isinstance(daemon, dict)
    assert isinstance(stored, dict)
    if status["state"] != "idle" or stored["total"] != samples:
        raise MmdError(f"The daemon is {status['state']} with {stored['total']} samples; nothing was measured.")
    return int(daemon["pid"])


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
