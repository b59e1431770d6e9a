"""How long after the charger is pulled does the trainer still use a processor? The real daemon, the real trainer.

A simulated board is unplugged again and again at random moments while a round trains. Measured are two times from the
write of the battery's status on: until the trainer has used all but the last millisecond of its processor time, and
until the kernel shows every thread of it as stopped. On a busy machine the second is later: an idle-scheduled thread
takes note of SIGSTOP when it gets a processor the next time, and does nothing else with it. The daemon learns of the
event by its poll alone, as on a board whose kernel sends no events: the slowest way there is.
"""

import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from mmd.demo.board import SimulatedBoard
from mmd.errors import DaemonNotRunning, MmdError
from mmd.supervisor.client import ask

CONFIGURATION = """\
[daemon]
sys_root = "{board}"
cooldown_seconds = 0
[training]
epochs = 1000000
[conditions.external_power]
dwell_seconds = 0
[conditions.battery_charge]
dwell_seconds = 0
[conditions.disk_free]
start_mib = 1
stop_mib = 1
"""
LOOK_SECONDS = 0.001
STILL_SECONDS = 0.2
"""For how long a stopped trainer is watched."""
REST_NANOSECONDS = 1_000_000
"""So little processor time is no use of the processor: it is what being stopped costs."""
PATIENCE_SECONDS = 300.0
BUSY = "while True: pass"


@dataclass(frozen=True)
class Flip:
    """What one flip gave, in seconds after it."""

    quiet: float
    """From here on the trainer used no processor."""
    stopped: float
    """All threads shown as stopped."""


@click.command("preemption", short_help="Say how soon the trainer stops without the charger.")
@click.option("--flips", default=200, show_default=True, type=click.IntRange(min=1), help="How often it is pulled.")
@click.option("--load", default=0, show_default=True, type=click.IntRange(min=0), help="Busy processes beside it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with every time.")
def preemption_command(flips: int, load: int, as_json: bool) -> None:
    """Pull the charger again and again; say how soon the trainer uses no processor."""
    with tempfile.TemporaryDirectory(prefix="mmd-preemption-") as work:
        found = measure(Path(work), flips=flips, load=load)
    figures = {
        name: {"median": percentile(times, 50), "p99": percentile(times, 99), "longest": max(times)}
        for name, times in {"quiet": [f.quiet for f in found], "stopped": [f.stopped for f in found]}.items()
    }
    if as_json:
        click.echo(json.dumps({"flips": flips, "load": load, **figures, "each": [asdict(flip) for flip in found]}))
        return
    click.echo(f"{flips} flips beside {load} busy processes; seconds after the charger was pulled:")
    for name, words in {"quiet": "no processor use", "stopped": "shown as stopped"}.items():
        median, p99, longest = figures[name].values()
        click.echo(f"  {words}: median {median:.3f}, 99th percentile {p99:.3f}, longest {longest:.3f}")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def measure(work: Path, *, flips: int, load: int) -> list[Flip]:
    """Unplug the board so often."""
    board = SimulatedBoard(work / "board")
    board.create()
    status = work / "board/sys/class/power_supply/battery/status"
    rng = random.Random(flips)
    found = []
    with ExitStack() as running:
        for _ in range(load):
            running.enter_context(process([sys.executable, "-c", BUSY]))
        socket = running.enter_context(daemon(work))
        for _ in range(flips):
            pid = trainer_that_steps(socket)
            time.sleep(rng.uniform(0.0, 0.5))  # so that no flip keeps step with the poll
            began = time.monotonic()
            write(status, "Discharging")
            found.append(watched(pid, began))
            write(status, "Charging")
    return found


def watched(pid: int, began: float) -> Flip:
    """Watch the trainer until it stands still, and a little longer."""
    samples: list[tuple[float, int]] = []
    stopped: float | None = None
    while stopped is None or time.monotonic() - began < stopped + STILL_SECONDS:
        samples.append((time.monotonic() - began, processor_nanoseconds(pid)))
        if stopped is None and stands_still(pid):
            stopped = time.monotonic() - began
        if samples[-1][0] > PATIENCE_SECONDS:
            raise MmdError(f"The trainer was not stopped within {PATIENCE_SECONDS:g} s.")
        time.sleep(LOOK_SECONDS)
    return Flip(quiet_since(samples), stopped)


def quiet_since(samples: Sequence[tuple[float, int]]) -> float:
    """Return when all but the last millisecond of what was used in the end had been used."""
    end = samples[-1][1]
    return next(at for at, used in samples if end - used < REST_NANOSECONDS)


@contextmanager
def daemon(work: Path) -> Iterator[Path]:
    """Run the real daemon on the shipped set and its owner's samples; yield its socket."""
    state, config = work / "state", work / "mmd.toml"
    config.write_text(CONFIGURATION.format(board=work / "board"))
    command = [sys.executable, "-m", "mmd", "--state-dir", str(state), "--config", str(config)]
    from mmd.artifact.shipped import shipped_owner

    for arguments in (["init"], ["ingest", str(shipped_owner())]):
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with process([*command, "run"]):
        yield state / "control.sock"


@contextmanager
def process(command: Sequence[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            yield
        finally:
            running.terminate()


def write(status: Path, text: str) -> None:
    """Change the battery's status at once, as the kernel does."""
    fresh = status.with_name("fresh")
    fresh.write_text(text + "\n")
    fresh.replace(status)


def trainer_that_steps(socket: Path) -> int:
    """Wait until the trainer takes steps, and return its process number."""
    found: list[int] = []
    step = step_of(socket)

    def steps() -> bool:
        now = step_of(socket)
        if now is None or now == step:
            return False
        found[:] = children_of(ask(socket, {"request": "status"})["status"]["daemon"]["pid"])
        return bool(found)

    wait(steps, every=0.02)
    return found[0]


def step_of(socket: Path) -> int | None:
    """Return the step of the round that trains now."""
    try:
        status = ask(socket, {"request": "status"})["status"]
    except DaemonNotRunning:
        return None
    step: int | None = status["round"]["step"] if status["state"] == "training" else None
    return step


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stands_still(pid: int) -> bool:
    """Return whether every thread of the process is stopped."""
    return all(fields(task / "stat")[0] in ("T", "t") for task in Path(f"/proc/{pid}/task").iterdir())


def processor_nanoseconds(pid: int) -> int:
    """Return what all threads of the process used so far."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def fields(stat: Path) -> list[str]:
    """Return the fields after the name, which may hold anything: state, parent, ..."""
    return stat.read_text().rpartition(")")[2].split()


def wait(claim: Callable[[], bool], *, every: float = LOOK_SECONDS) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not claim():
        if time.monotonic() > deadline:
            raise MmdError(f"Nothing happened within {PATIENCE_SECONDS:g} s; is this machine too busy?")
        time.sleep(every)
