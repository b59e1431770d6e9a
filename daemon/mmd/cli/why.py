"""`mmd why`: why does training not run now, and what would change that?"""

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mmd.cli.answers import ago, current_why
from mmd.cli.main import Session, pass_session
from mmd.errors import UsageError

if TYPE_CHECKING:
    from mmd.supervisor.timeline import Timeline

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@click.command(short_help="Name every reason against training now.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--since", "period", metavar="PERIOD", help="Look back instead: 90m, 24h, 7d.")
@pass_session
def why(session: Session, as_json: bool, period: str | None) -> None:
    """Name every reason against training now: since when it holds, and what would clear it.

    With --since: how long each reason held in that time, when training was possible, and which single limit cost most.
    """
    if period is not None:
        _look_back(session, seconds_of(period), as_json=as_json)
        return
    answer, is_daemon = current_why(session)
    if as_json:
        print(json.dumps({**answer, "daemon": is_daemon}))
        return
    for line in why_lines(answer):
        print(line)


def seconds_of(period: str) -> float:
    """Read `90m`, `24h` or `7d`. Raises `UsageError` for anything else."""
    number, unit = period[:-1], _UNITS.get(period[-1:])
    if unit is None or not number.isdigit() or int(number) == 0:
        raise UsageError(f"`{period}` is no time to look back; write a number and s, m, h or d: 24h.")
    return int(number) * unit


def _look_back(session: Session, seconds: float, *, as_json: bool) -> None:
    from mmd.supervisor.history import open_history
    from mmd.supervisor.timeline import read_timeline

    _, is_daemon = current_why(session)
    history = open_history(session.state.history_db)
    if history is None:
        raise UsageError(f"There is no history in {session.state.root} yet; `mmd run` writes it.")
    now = time.time()
    with history:
        timeline = read_timeline(history, now - seconds, now, is_running=is_daemon)
    if as_json:
        print(json.dumps(timeline_view(timeline)))
        return
    for line in timeline_lines(timeline):
        print(line)


def timeline_view(timeline: "Timeline") -> dict[str, Any]:
    """Return the timeline as `--json` prints it."""
    costliest = timeline.costliest
    return {
        "since": timeline.since,
        "until": timeline.until,
        "observed_seconds": timeline.observed_seconds,
        "possible_seconds": timeline.possible_seconds,
        "possible_fraction": _share(timeline.possible_seconds, timeline.observed_seconds),
        "training_seconds": timeline.training_seconds,
        "costliest": None if costliest is None else costliest.code,
        "reasons": [asdict(total) for total in timeline.reasons],
        "timeline": [asdict(stretch) for stretch in timeline.stretches],
    }


def timeline_lines(timeline: "Timeline") -> list[str]:
    """Return the timeline as a person reads it: one row a reason, a strip of when it held, the oldest left."""
    whole, observed = timeline.until - timeline.since, timeline.observed_seconds
    lines = [f"In the last {_words(whole).replace('.0 ', ' ')} mmd ran for {_words(observed)}."]
    if not observed:
        return lines
    possible = _share(timeline.possible_seconds, observed) or 0.0
    lines.append(
        f"Training was possible for {_words(timeline.possible_seconds)} of that ({possible:.0%}), "
        f"and ran for {_words(timeline.training_seconds)}."
    )
    costliest = timeline.costliest
    if costliest is not None:
        lines.append(f"{costliest.code} cost most: it alone kept training back for {_words(costliest.alone_seconds)}.")
    if timeline.reasons:
        lines.append(f"{'reason':<17}{'held':>8} {'share':>6} {'times':>6} {'alone':>8}")
    for total in timeline.reasons:
        share = _share(total.seconds, observed) or 0.0
        lines.append(
            f"{total.code:<17}{_words(total.seconds):>8} {share:>6.0%} {total.times:>6} "
            f"{_words(total.alone_seconds):>8}  {strip(timeline, total.code)}"
        )
    return lines


def strip(timeline: "Timeline", code: str, *, cells: int = 48) -> str:
    """Draw when a reason held: full where it did for most of a cell's time, half where it did at all."""
    width = (timeline.until - timeline.since) / cells
    held = [0.0] * cells
    for stretch in timeline.stretches:
        if code not in stretch.reasons:
            continue
        first = int((stretch.began - timeline.since) / width)
        last = min(cells - 1, int((stretch.ended - timeline.since) / width))
        for cell in range(first, last + 1):
            began = timeline.since + cell * width
            held[cell] += max(0.0, min(stretch.ended, began + width) - max(stretch.began, began))
    return "".join("█" if seconds > width / 2 else "▒" if seconds > 0 else "·" for seconds in held)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _words(seconds: float) -> str:
    return ago(0.0, now=seconds)


def why_lines(answer: dict[str, Any]) -> list[str]:
    """Return the answer as sentences."""
    reasons, lines = answer["reasons"], []
    if answer["state"] in ("training", "evaluating"):
        lines.append(f"The daemon is {answer['state']}{'' if answer['overridden'] else ': all conditions hold'}.")
    elif not reasons:
        lines.append(f"Nothing is in the way (state: {answer['state']}).")
    else:
        lines.append(f"Training does not run (state: {answer['state']}), for these reasons:")
    for reason in reasons:
        lines.append(f"- {reason['message']} [{reason['code']}, since {ago(reason['since'])}]")
        lines.append(f"  It clears when {reason['clears_when']}.")
    if answer["mode"] == "forced":
        lines.append("You forced this round: conditions are not obeyed.")
        lines += [f"- ignored: {reason['message']} [{reason['code']}]" for reason in answer["overridden"]]
    lines += [f"Note: {note}" for note in answer["notes"]]
    return lines
