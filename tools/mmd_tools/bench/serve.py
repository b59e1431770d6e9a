"""How quick are the answers of `mmd serve` while a round trains and while models are swapped, beside quiet ones?

The real server, the real trainer in its cage, the real swap of `current`. Short phases follow each other again and
again in one run, so that whatever else the machine does meets all of them alike: quiet, training, swapping, and both at
once. Outside its phases the trainer is stopped in place, as the daemon stops it. A client asks without a pause over one
connection.
"""

import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from mmd.artifact.card import PARAMETERS_NAME, generation_folder
from mmd.artifact.load import open_set
from mmd.artifact.shipped import shipped_owner, shipped_set
from mmd.config import Config, TrainingConfig
from mmd.errors import MmdError
from mmd.layout import StateDir
from mmd.promotion.models import ModelStore
from mmd.samples.find import find
from mmd.samples.ingest import ingest
from mmd.samples.store import SampleStore
from mmd.serving.client import UnixConnection
from mmd.serving.form import form_of
from mmd.supervisor.rounds import begin_round, trainer_command
from mmd.supervisor.trainer_process import TrainerProcess
from mmd_tools.bench.preemption import percentile, wait

PHASES = ("quiet", "training", "swapping", "both")
SWAP_SECONDS = 0.1
SETTLE_SECONDS = 0.05
"""Between two phases: a trainer that was told to go on needs a moment for it."""
BUDGET = 2.0


@dataclass
class Measured:
    """What one run gave."""

    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    failures: list[str] = field(default_factory=list)
    swaps: int = 0
    steps: int = 0
    """That the trainer took."""
    generations: set[int] = field(default_factory=set)
    """That answered."""

    def figures(self) -> dict[str, object]:
        """Return what is printed, the raw times last."""
        quiet = percentile(self.milliseconds["quiet"], 99)
        phases = {
            phase: {
                "requests": len(times),
                "median_ms": percentile(times, 50),
                "p99_ms": percentile(times, 99),
                "longest_ms": max(times),
                "p99_ratio_to_quiet": percentile(times, 99) / quiet,
            }
            for phase, times in self.milliseconds.items()
        }
        return {
            "requests": sum(map(len, self.milliseconds.values())),
            "failed": len(self.failures),
            "failures": self.failures[:10],
            "swaps": self.swaps,
            "steps": self.steps,
            "generations": sorted(self.generations),
            "budget": {"failed": 0, "p99_ratio_to_quiet": BUDGET},
            "phases": phases,
            "each_ms": self.milliseconds,
        }


@click.command("serve", short_help="Ask the server while a round trains and models change.")
@click.option("--cycles", default=60, show_default=True, type=click.IntRange(min=1), help="Rounds of all four phases.")
@click.option(
    "--phase-seconds",
    default=0.5,
    show_default=True,
    type=click.FloatRange(min=0.01),
    help="How long each phase lasts.",
)
@click.option("--quick", is_flag=True, help="Three short cycles: that it works, not how quick it is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with every time.")
def serve_command(cycles: int, phase_seconds: float, quick: bool, as_json: bool) -> None:
    """Ask the server without a pause while a round trains and models are swapped; compare with quiet phases."""
    if quick:
        cycles, phase_seconds = 3, 0.25
    with tempfile.TemporaryDirectory(prefix="mmd-serve-") as work:
        figures = measure(Path(work), cycles=cycles, phase_seconds=phase_seconds).figures()
    if as_json:
        click.echo(json.dumps(figures))
        return
    click.echo(
        f"{figures['requests']} requests, {figures['failed']} failed; {figures['swaps']} swaps, "
        f"{figures['steps']} steps of training"
    )
    phases = figures["phases"]
    assert isinstance(phases, dict)
    for name, each in phases.items():
        click.echo(
            f"  {name:8}  median {each['median_ms']:6.2f} ms, 99th percentile {each['p99_ms']:6.2f} ms "
            f"({each['p99_ratio_to_quiet']:.2f} of quiet), longest {each['longest_ms']:.1f} ms"
        )


def measure(work: Path, *, cycles: int, phase_seconds: float) -> Measured:
    """Run so many cycles of all phases."""
    state = prepared(work)
    sample = next(path for path in sorted(shipped_owner().rglob("*.png")))
    found = Measured()
    with (
        server(state),
        trainer(state, found) as training,
        contextlib.closing(UnixConnection(state.serve_socket)) as client,
    ):
        for _ in range(cycles):
            for phase in PHASES:
                with contextlib.ExitStack() as during:
                    if phase in ("training", "both"):
                        during.enter_context(training())
                    if phase in ("swapping", "both"):
                        during.enter_context(swapping(state, found))
                    time.sleep(SETTLE_SECONDS)
                    ask_for(phase_seconds, client, sample.read_bytes(), phase, found)
    return found


def ask_for(seconds: float, client: UnixConnection, sample: bytes, phase: str, found: Measured) -> None:
    """Ask again and again for so long; keep each time, and each request that failed."""
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        try:
            status, answer = client.ask("POST", "/predict", sample)
        except OSError as error:
            found.failures.append(f"{phase}: {error!r}")
            client.close()
            continue
        found.milliseconds[phase].append((time.perf_counter() - began) * 1e3)
        if status != 200:
            found.failures.append(f"{phase}: {status} {answer.strip()}")
        else:
            found.generations.add(json.loads(answer)["generation"])


def prepared(work: Path) -> StateDir:
    """Return a state folder with the shipped set, its owner's samples, and two generations to swap."""
    state = StateDir(work / "state")
    state.root.mkdir()
    state.artifact_set.symlink_to(shipped_set())
    artifact_set = open_set(state.artifact_set)
    models = ModelStore(state)
    shipped = models.create_shipped(artifact_set)
    with SampleStore.create(state.samples_db, form_of(artifact_set.manifest), holdout_fraction=0.25) as store:
        for _ in ingest(store, find(shipped_owner(), store.form), Config().samples):
            pass
    folder = generation_folder(state.models, 0)
    second = msgspec.structs.replace(shipped, generation=1, round=1, parent=0)
    models.install(second, (folder / "mentee.onnx").read_bytes(), (folder / PARAMETERS_NAME).read_bytes())
    return state


@contextlib.contextmanager
def server(state: StateDir) -> Iterator[None]:
    """Run `mmd serve`, and wait until it answers."""
    command = [sys.executable, "-m", "mmd", "serve", "--state-dir", str(state.root)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        try:
            wait(lambda: running.poll() is not None or state.serve_socket.is_socket(), every=0.02)
            if running.poll() is not None:
                raise MmdError("`mmd serve` ended at once; run it yourself to see why.")
            yield
        finally:
            running.terminate()


@contextlib.contextmanager
def trainer(state: StateDir, found: Measured) -> Iterator["Phases"]:
    """Start the trainer on a round without end; yield what lets it run for a phase, and stops it in place after."""
    config = Config(training=TrainingConfig(epochs=1_000_000))
    with SampleStore(state.samples_db) as store:
        number = begin_round(state, config, store).number
    process = TrainerProcess(trainer_command(state, number), memory_mib=config.daemon.trainer_memory_mib)
    try:
        phases = Phases(process, found)
        wait(phases.has_stepped, every=0.02)
        process.suspend()
        yield phases
    finally:
        process.kill()
        process.wait(10)
        process.close()


class Phases:
    """Lets the trainer run for the time of a `with` block."""

    def __init__(self, process: TrainerProcess, found: Measured) -> None:
        self._process = process
        self._found = found

    def has_stepped(self) -> bool:
        """Count the steps that were taken; return whether there were any yet."""
        self._found.steps += sum(event["event"] == "step" for event in self._process.read_events())
        if self._process.exit_status() is not None:
            raise MmdError("The trainer ended at once; run `mmd train --force` to see why.")
        return self._found.steps > 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        self._process.go_on()
        try:
            yield
        finally:
            self._process.suspend()
            self.has_stepped()


@contextlib.contextmanager
def swapping(state: StateDir, found: Measured) -> Iterator[None]:
    """Let the two generations serve in turn."""
    is_over = threading.Event()
    models = ModelStore(state)

    def swap() -> None:
        for generation in itertools.cycle((1, 0)):
            models.serve(generation)
            found.swaps += 1
            if is_over.wait(SWAP_SECONDS):
                return

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
