"""A trainer that trains nothing: it burns the processor and speaks as the real one does.

Started as a process of its own by `fake_trainer_command`. What it does is told by words in the file `script` in the
state folder: `steps=N`, `crash_at=N` (once for every line `crash` in it), `silent`, `stubborn`, `evaluating_seconds=X`,
`holds=cache` (it writes to the cache all the time) and `holds=store` (it reads samples all the time).
It eats all memory once there is a file `hog` in the state folder.
"""

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

STEP_SECONDS = 0.01


def fake_trainer_command(state_root: Path, number: int) -> list[str]:
    return [sys.executable, __file__, "--state-dir", str(state_root), "--round", str(number)]


def read_script(state_root: Path) -> dict[str, str]:
    path = state_root / "script"
    words = path.read_text().split() if path.exists() else []
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(500))


def eat_all_memory() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * 2**22)


class Training:
    def __init__(self, state_root: Path, number: int) -> None:
        self.folder = state_root / "rounds" / f"{number:04d}"
        self.number = number
        self.script = read_script(state_root)
        self.checkpoint = self.folder / "fake-checkpoint"
        self.crashes = state_root / "crashes"
        self.hog = state_root / "hog"
        self.is_leaving = False

    def leave(self, number: int, frame: FrameType | None) -> None:
        self.is_leaving = "stubborn" not in self.script

    def hold(self, what: str) -> sqlite3.Connection:
        """Begin something with one of the databases, and never end it."""
        name, begin = {"cache": ("cache.db", "BEGIN EXCLUSIVE"), "store": ("samples.db", "BEGIN")}[what]
        connection = sqlite3.connect(self.folder.parent.parent / name, isolation_level=None)
        connection.execute(begin)
        connection.execute("SELECT * FROM sqlite_master").fetchone()
        return connection

    def run(self) -> None:
        held = self.hold(self.script["holds"]) if "holds" in self.script else None
        self._step_to_the_end()
        if held is not None:
            held.close()
        say(event="evaluating")
        burn(float(self.script.get("evaluating_seconds", "0.05")))
        self._judge()

    def _step_to_the_end(self) -> None:
        steps = int(self.script.get("steps", "100"))
        first = int(self.checkpoint.read_text()) if self.checkpoint.exists() else 0
        for step in range(first + 1, steps + 1):
            if self.hog.exists():
                eat_all_memory()
            if step == int(self.script.get("crash_at", "-1")):
                self._crash()
            burn(STEP_SECONDS)
            say(event="step", step=step, steps=steps, loss=1 / step)
            if self.is_leaving:
                self.checkpoint.write_text(str(step))
                sys.exit(0)

    def _crash(self) -> None:
        left = int(self.script.get("crashes", "1"))
        done = int(self.crashes.read_text()) if self.crashes.exists() else 0
        if done < left:
            self.crashes.write_text(str(done + 1))
            say(event="failed", message="The fake trainer crashed as told.")
            sys.exit(1)

    def _judge(self) -> None:
        from mmd.artifact.card import Verdict
        from mmd.promotion.outcome import write_verdict

        verdict = Verdict(
            promoted=False,
            code="not_better_than_chance",
            reason="A fake candidate is never better.",
            round=self.number,
            generation_before=0,
            holdout_total=10,
            holdout_right_before=5,
            holdout_right_after=5,
            log_loss_before=1.0,
            log_loss_after=1.0,
            p_log_loss=1.0,
            p_right=1.0,
            p_value=1.0,
            significance=0.05,
            anchor_total=10,
            anchor_right_before=5,
            anchor_right_after=5,
            anchor_margin=0.01,
            classes=("cat", "dog"),
            confusion_before=((5, 0), (0, 5)),
            confusion_after=((5, 0), (0, 5)),
        )
        write_verdict(self.folder, verdict)
        say(event="verdict", promoted=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--round", type=int, required=True)
    options = parser.parse_args()
    training = Training(options.state_dir, options.round)
    signal.signal(signal.SIGTERM, training.leave)
    fresh = options.state_dir / "trainer.pid.fresh"
    fresh.write_text(str(os.getpid()))
    fresh.replace(options.state_dir / "trainer.pid")
    training.run()


if __name__ == "__main__":
    main()
