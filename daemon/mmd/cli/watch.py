"""What does `mmd status --watch` show? One screen, anew every second; in a pipe a line for each change."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from mmd.cli.answers import current_status
from mmd.cli.main import Session
from mmd.cli.plot import braille
from mmd.cli.status_lines import (
    condition_lines,
    model_words,
    reason_lines,
    round_words,
    terminal_width,
    with_limits_only,
    wrapped,
)

Json = dict[str, Any]
WATCH_SECONDS = 1.0
CURVE_HEIGHT = 5
_BAR_CELLS = 12
_WIDE = 72
"""A terminal of fewer columns gets no bars and no levels."""


class LossCurve:
    """The losses of the open round, of which only what is new is read."""

    def __init__(self, rounds: Path) -> None:
        self._rounds = rounds
        self._number: int | None = None
        self._at = 0
        self.values: list[float] = []

    def follow(self, number: int | None) -> list[float]:
        """Return all losses of round `number` so far; none where they cannot be read."""
        if number != self._number:
            self._number, self._at, self.values = number, 0, []
        if number is None:
            return []
        try:
            with (self._rounds / f"{number:04d}" / "losses.jsonl").open("rb") as file:
                if file.seek(0, 2) < self._at:  # the trainer went back to a checkpoint
                    self._at, self.values = 0, []
                file.seek(self._at)
                self._take(file.read())
        except OSError:
            return []
        return self.values

    def _take(self, data: bytes) -> None:
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            try:
                self.values.append(float(json.loads(line)["loss"]))
            except (ValueError, KeyError, TypeError):
                continue


def watch_status(session: Session, *, as_json: bool) -> None:
    """Show the status until Ctrl-C."""
    try:
        if as_json or not sys.stdout.isatty():
            _tell_changes(session, as_json=as_json)
        else:
            _live(session)
    except KeyboardInterrupt:
        return


def _tell_changes(session: Session, *, as_json: bool) -> None:
    before: Any = None
    while True:
        status = current_status(session)
        told = change_line(status)
        if told != before:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            click.echo(json.dumps(status) if as_json else f"{stamp} {told}")
            sys.stdout.flush()
            before = told
        time.sleep(WATCH_SECONDS)


def change_line(status: Json) -> str:
    """Say in one line what is worth a line when it changes."""
    words = [status["state"], *(reason["code"] for reason in status["reasons"])]
    if status["round"] is not None:
        words.append(f"round {round_words(status['round'])}")
    if status["model"] is not None:
        words.append(f"generation {status['model']['generation']}")
    return " ".join(words)


def _live(session: Session) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    curve = LossCurve(session.state.rounds)

    def screen() -> Text:
        status = current_status(session)
        losses = curve.follow((status["round"] or {}).get("number"))
        width = terminal_width(sys.stdout) or console.width
        return Text.from_ansi("\n".join(live_lines(status, losses, width=width, height=console.height)))

    with Live(screen(), console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(screen(), refresh=True)


def live_lines(status: Json, losses: list[float], *, width: int, height: int) -> list[str]:
    """Return one screen: the state, the reasons, the conditions, the curve; what does not fit is left out."""
    bold = click.style(status["state"], bold=True)
    lines = [f"{bold}{' (forced)' if status['mode'] == 'forced' else ''}  {time.strftime('%H:%M:%S')}"]
    if status["round"] is not None:
        lines += wrapped(f"round {round_words(status['round'])}", width, indent=2)
        lines.append(_progress_bar(status["round"], width))
    lines += [*reason_lines(status, width=width), ""]
    is_wide = width >= _WIDE
    rows = list(condition_lines(_at_a_glance(status), width=width, bar=_BAR_CELLS if is_wide else 0))
    curve = curve_lines(losses, width=width)
    tail = [*wrapped(f"model {model_words(status)}", width, indent=2), *_samples(status, width)]
    lines += rows if len(lines) + len(rows) + len(curve) <= height else rows[: max(1, height - len(lines) - len(curve))]
    return [*lines, *curve, "", *tail][:height]


def _at_a_glance(status: Json) -> Json:
    """Put first what keeps training back: a small terminal cuts the rest."""
    limits = with_limits_only(status)["conditions"]
    ordered = sorted(limits.items(), key=lambda item: item[1]["meets_start"])
    return status | {"conditions": dict(ordered)}


def _progress_bar(progress: Json, width: int) -> str:
    share = progress["step"] / progress["steps"] if progress["steps"] else 0.0
    cells = min(width, 72) - 6
    full = round(share * cells)
    return click.style("━" * full, fg="green") + click.style("━" * (cells - full), dim=True) + f" {share:4.0%}"


def _samples(status: Json, width: int) -> list[str]:
    samples = status["samples"]
    return wrapped(f"samples {samples['total']}, {samples['new']} new", width, indent=2)


def curve_lines(losses: list[float], *, width: int) -> list[str]:
    """Return the loss curve with its highest and lowest value; nothing for fewer than two losses."""
    if len(losses) < 2:
        return []
    label_width = 9
    drawn = braille(losses, width=min(width, 100) - label_width, height=CURVE_HEIGHT)
    labels = [""] * CURVE_HEIGHT
    labels[0], labels[-1] = f"{max(losses):.4g}", f"{min(losses):.4g}"
    rows = [f"{label:>{label_width - 1}} {row}".rstrip() for label, row in zip(labels, drawn, strict=True)]
    return ["", click.style("loss by step", dim=True), *rows]
