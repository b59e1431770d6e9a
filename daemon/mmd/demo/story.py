"""What happens in the demonstration? Every step is a command that an owner would type, run for real.

The daemon, the trainer, the store, the gate and the swap are the product's own; only the board's sensors are simulated.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, dropwhile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from mmd.artifact.load import normalise, open_set
from mmd.artifact.session import open_session
from mmd.artifact.shipped import shipped_owner
from mmd.demo.board import SimulatedBoard
from mmd.demo.commands import POLL_SECONDS, Commands, Status, wait_for
from mmd.durable import make_folder, write_bytes
from mmd.errors import MmdError
from mmd.layout import StateDir, round_folder
from mmd.promotion.models import ModelStore
from mmd.promotion.outcome import read_verdict
from mmd.report.collect import collect
from mmd.report.data import AccuracyRow
from mmd.report.render import write_report
from mmd.samples.store import SampleStore
from mmd.serving.predictor import Predictor

ROUND_LIMIT_SECONDS = 150.0
PROMOTED = "promoted"

CONFIGURATION = """\
# A board that answers quickly, so that the demonstration stays short; the defaults are more patient.
[daemon]
sys_root = "{board}"
poll_seconds = 0.5
cooldown_seconds = 3600

[conditions.external_power]
dwell_seconds = 1

[conditions.battery_charge]
dwell_seconds = 1

[conditions.soc_temperature]
dwell_seconds = 1

[conditions.memory_available]
dwell_seconds = 1

[conditions.disk_free]
dwell_seconds = 1
"""

LABELS_ONLY_CONFIGURATION = """\
# What most programs would do: fine-tune on the owner's labels, with no Mentor and no replay.
[training]
preset = "independent"
replay = 0.0
views = 1
memory = false
blends = [1.0]

[gate]
folds = 0
"""


@dataclass(frozen=True)
class Outcome:
    """What the demonstration measured."""

    rows: tuple[AccuracyRow, ...]
    is_promoted: bool
    suspend_seconds: float | None
    report: Path
    seconds: float


class Demonstration:
    """Plays the story in `folder`, telling it on `console`."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.board = SimulatedBoard(folder / "board")
        self.state = StateDir(folder / "state")
        self.mmd = Commands(self.state.root, folder / "mmd.toml")
        self.labels_only = Commands(folder / "labels-only", folder / "labels-only.toml")
        self.named, self.unnamed = folder / "named", folder / "unnamed"

    def play(self, report: Path) -> Outcome:
        """Run the whole story and write `report`. Raises `MmdError` when a step does not do what it should."""
        started = time.monotonic()
        self._prepare()
        with self.mmd.daemon(self.folder / "daemon.log"):
            self._say("The daemon runs. The board is on battery. Its owner shows it their handwriting.")
            self._hand_over(self.mmd)
            self._tell("Every second digit came without a label: of those only the Mentor can say what they are.")
            wait_for(lambda: self.mmd.status()["state"] == "waiting", "the daemon to see the samples", 10.0)
            self._type(self.mmd, "why")
            # A program of the owner's, which holds a Predictor from before the round until after it.
            predictor = Predictor(self.state)
            before = predictor.generation
            suspend_seconds = self._train_through_an_unplugging()
            verdict = self._watch_until_judged()["verdict"]
            self._tell_verdict(verdict, before=before, after=self._current_generation(predictor))
        rows = self._compare(verdict)
        self._print_rows(rows)
        data = collect(self.state, title="What this board learned", comparison=rows)
        facts = (*data.facts, ("Sensors", "simulated; everything else is the real daemon"))
        write_report(replace(data, facts=facts), report)
        seconds = time.monotonic() - started
        return Outcome(rows, bool(verdict["promoted"]), suspend_seconds, report, seconds)

    def _prepare(self) -> None:
        make_folder(self.folder)
        self.board.create()
        self.board.plug(is_charging=False)
        write_bytes(self.mmd.config, CONFIGURATION.format(board=self.board.root).encode())
        write_bytes(self.labels_only.config, LABELS_ONLY_CONFIGURATION.encode())
        _copy_half_named(shipped_owner(), self.named, self.unnamed)
        self._say("A new board. The sensors are simulated, the rest is real.")
        self._type(self.mmd, "init")

    def _hand_over(self, board: Commands) -> None:
        """Give all digits to a board: with the names that they have, and without."""
        self._type(board, "ingest", str(self.named))
        self._type(board, "ingest", str(self.unnamed))

    def _train_through_an_unplugging(self) -> float | None:
        """Plug the charger in, pull it out in mid-round, plug it in again.

        Returns the seconds until training stood still; `None` when the round was over before that.
        """
        self._say("The owner plugs the charger in.")
        self.board.plug(is_charging=True)
        wait_for(lambda: _has_begun(self.mmd.status()), "the round to begin", 60.0)
        self._type(self.mmd, "status")
        trainer = _trainer_of(self.mmd.status())
        if trainer is None:
            self._say("This machine was too quick: the round is over before the charger could be pulled out.")
            return None
        self._say("The round is under way. The owner pulls the charger out.")
        seconds = _seconds_until_still(trainer, after=lambda: self.board.plug(is_charging=False))
        wait_for(lambda: self.mmd.status()["reasons"], "the suspension", 10.0)
        self._tell(f"Training stood still after [bold]{seconds:.2f} s[/].")
        self._type(self.mmd, "why")
        self._say("And plugs it in again.")
        self.board.plug(is_charging=True)
        return seconds

    def _watch_until_judged(self) -> Status:
        deadline = time.monotonic() + ROUND_LIMIT_SECONDS
        with Live(console=self.console, transient=True, refresh_per_second=8) as live:
            while time.monotonic() < deadline:
                status = self.mmd.status()
                if status["verdict"] and not status["round"]:
                    return status
                live.update(_progress_line(status))
                time.sleep(POLL_SECONDS)
        raise MmdError(f"The round was not judged within {ROUND_LIMIT_SECONDS:g} s; see {self.folder / 'daemon.log'}.")

    def _tell_verdict(self, verdict: dict[str, Any], *, before: int, after: int) -> None:
        self._say("The round is over, and the gate has judged the candidate on samples that it never saw.")
        self._tell(escape(verdict["reason"]))
        if verdict["promoted"]:
            self._tell(f"The program that held a Predictor went from generation {before} to {after} without a restart.")
        self._type(self.mmd, "models")

    def _current_generation(self, predictor: Predictor) -> int:
        """Return the generation that the predictor answers with; asking it is what makes it look."""
        with SampleStore(self.state.samples_db) as store:
            inputs, _ = store.load(store.holdout_ids()[:1])
        return predictor.predict(inputs).generation

    def _compare(self, verdict: dict[str, Any]) -> tuple[AccuracyRow, ...]:
        self._say("For comparison: the same samples, learned from labels alone, and the Mentor itself.")
        self._type(self.labels_only, "init")
        self._hand_over(self.labels_only)
        self._type(self.labels_only, "train", "--force")
        alone = read_verdict(round_folder(StateDir(self.labels_only.state_dir), 1))
        if alone is None:
            raise MmdError("The round on labels only left no verdict; see its state folder.")
        total, fate = verdict["holdout_total"], PROMOTED if verdict["promoted"] else "not promoted"
        return (
            AccuracyRow("Shipped Mentee", verdict["holdout_right_before"], total),
            AccuracyRow("Fine-tuned on labels only", alone.holdout_right_after, alone.holdout_total),
            AccuracyRow(self._learned(), verdict["holdout_right_after"], total, fate),
            AccuracyRow("Mentor itself", self._mentor_right(), total),
        )

    def _learned(self) -> str:
        """Name what came of the round: the weights may be the shipped ones still."""
        card = ModelStore(self.state).current().card
        return "Memory of the samples" if card.round is not None and card.blend == 0 else "Mentored"

    def _mentor_right(self) -> int:
        """Count the held-out samples that the Mentor gets right."""
        artifact_set = open_set(self.state.artifact_set)
        with SampleStore(self.state.samples_db) as store:
            inputs, labels = store.load(store.holdout_ids(labelled=True))
        manifest = artifact_set.manifest
        session = open_session(artifact_set.path(manifest.graphs.mentor))
        feed = {manifest.input.name: normalise(inputs, manifest.input)}
        logits = np.asarray(session.run([manifest.mentor_logits], feed)[0])
        return int((logits.argmax(axis=1) == labels).sum())

    def _print_rows(self, rows: tuple[AccuracyRow, ...]) -> None:
        title = f"Accuracy on the writer's {rows[0].total} held-out digits that have a name"
        table = Table(title=title, title_justify="left")
        table.add_column("model")
        table.add_column("right", justify="right")
        table.add_column("accuracy", justify="right")
        for row in rows:
            style = "bold green" if row.note == PROMOTED else ""
            table.add_row(row.name, f"{row.right} of {row.total}", f"{row.accuracy:.1%}", style=style)
        self.console.print(table)

    def _say(self, sentence: str) -> None:
        self.console.print(f"\n[bold]{escape(sentence)}[/]")

    def _type(self, commands: Commands, *arguments: str) -> None:
        self._tell(f"[dim]$ mmd {escape(' '.join(arguments))}[/]")
        for line in dropwhile(str.isspace, commands.run(*arguments).splitlines()):
            self._tell(escape(line.rstrip()))

    def _tell(self, line: str) -> None:
        """Print a line indented, also what does not fit beside its beginning."""
        self.console.print(Padding(self.console.render_str(line), (0, 0, 0, 2), expand=False))


def _copy_half_named(owner: Path, named: Path, unnamed: Path) -> None:
    """Copy every second digit of each class to `named`, a folder per class, the others side by side to `unnamed`."""
    make_folder(unnamed)
    nameless = count(1)
    for folder in sorted(path for path in owner.iterdir() if path.is_dir()):
        make_folder(named / folder.name)
        for place, digit in enumerate(sorted(folder.iterdir())):
            copy = unnamed / f"{next(nameless):02}.png" if place % 2 else named / folder.name / digit.name
            shutil.copyfile(digit, copy)


def _progress_line(status: Status) -> str:
    progress, reasons = status["round"], status["reasons"]
    if reasons:
        return f"  {status['state']}: {escape(reasons[0]['message'])}"
    if progress and progress["loss"] is not None:
        return f"  {status['state']}: step {progress['step']} of {progress['steps']}, loss {progress['loss']:.3f}"
    return f"  {status['state']}"


def _has_begun(status: Status) -> bool:
    return status["verdict"] is not None or (status["round"] or {}).get("step", 0) > 0


def _trainer_of(status: Status) -> psutil.Process | None:
    """Return the trainer, the child of the daemon that runs a round; `None` when there is none."""
    for child in psutil.Process(status["daemon"]["pid"]).children():
        if "mmd.supervisor.trainer" in child.cmdline():
            return child
    return None


def _seconds_until_still(
    process: psutil.Process, *, after: Callable[[], None], still_for: float = 0.5, limit: float = 10.0
) -> float:
    """Call `after`, and return the seconds from then until `process` last used any CPU time."""
    after()
    began = last_used = time.monotonic()
    used = _cpu_seconds(process)
    while time.monotonic() - last_used < still_for and time.monotonic() - began < limit:
        time.sleep(0.01)
        now_used = _cpu_seconds(process)
        if now_used > used:
            used, last_used = now_used, time.monotonic()
    return last_used - began


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time used so far; of a process that has ended, none."""
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0.0
