"""How does a person read the status? Lines for a terminal of some width, styled; `click.echo` undoes that in a pipe."""

import os
import textwrap
from collections.abc import Iterator
from typing import Any, TextIO

from click import style

from mmd.cli.answers import ago

Json = dict[str, Any]
NARROWEST = 24
NO_LIMIT = "no limit"
_MIB = 1024 * 1024
_MARKS = {"start": ("✓", "green"), "between": ("~", "yellow"), "stop": ("✗", "red")}
_BAR_UNITS = {"%": 100.0, "°C": 100.0}
"""Readings with these units are drawn as a bar from 0 to this."""


def terminal_width(stream: TextIO) -> int | None:
    """Return how many characters fit into a line of the terminal; `None` when `stream` is none."""
    if not stream.isatty():
        return None
    try:
        return max(NARROWEST, int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns or 80))
    except (OSError, ValueError):
        return 80


def status_lines(status: Json, *, width: int | None, every_condition: bool = False) -> list[str]:
    """Return the whole status; lines are wrapped or cut to `width`, or as long as they are when it is `None`."""
    forced = " (forced: conditions are not obeyed)" if status["mode"] == "forced" else ""
    lines = [style(status["state"], bold=True) + forced]
    lines += reason_lines(status, width=width)
    for name, words in _facts(status):
        lines += _labelled(name, words, width=width)
    shown = status if every_condition else with_limits_only(status)
    lines += ["", *condition_lines(shown, width=width)]
    hidden = len(status["conditions"]) - len(shown["conditions"])
    if hidden:
        words = f"{hidden} more have no limit, or no sensor on this board; `mmd status --all` shows them."
        lines += [style(line, dim=True) for line in wrapped(f"  {words}", width, indent=2)]
    return lines


def with_limits_only(status: Json) -> Json:
    """Leave out conditions that cannot keep training back here, unless something is wrong with their sensors."""
    return status | {"conditions": {name: each for name, each in status["conditions"].items() if _is_limit(each)}}


def _is_limit(condition: Json) -> bool:
    is_felt = condition["value"] is not None and condition["start"] != NO_LIMIT
    return is_felt or not condition["meets_start"] or bool(condition["problems"])


def reason_lines(status: Json, *, width: int | None) -> Iterator[str]:
    for reason in status["reasons"]:
        code = reason["code"]
        rest = f"{reason['message']} (since {ago(reason['since'])}; clears when {reason['clears_when']})"
        first, *others = wrapped(f"  {code} {rest}", width, indent=4)
        yield first.replace(code, style(code, fg="yellow"), 1)
        yield from others


def wrapped(text: str, width: int | None, *, indent: int = 0) -> list[str]:
    """Break `text` into lines of at most `width`, all but the first indented."""
    if width is None:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, drop_whitespace=True) or [""]


def _labelled(name: str, words: str, *, width: int | None) -> list[str]:
    first, *others = wrapped(f"{name:<7} {words}", width, indent=8)
    return [first.replace(name, style(name, bold=True), 1), *others]


def _facts(status: Json) -> Iterator[tuple[str, str]]:
    if status["round"] is not None:
        yield "round", round_words(status["round"])
    usage = status["usage"]
    if usage["minutes_today"]:
        spent = status["round"]
        this = "" if spent is None else f"; this round {usage_words(spent['minutes'], spent['watt_hours'])}"
        yield "trained", f"{usage_words(usage['minutes_today'], usage['watt_hours_today'])} today{this}"
    samples = status["samples"]
    yield (
        "samples",
        f"{samples['total']}: {samples['labelled']} labelled, {samples['unlabelled']} not, "
        f"{samples['holdout']} held out, {samples['new']} new, {samples['bytes'] / _MIB:.1f} MiB "
        f"and {samples['cache_bytes'] / _MIB:.1f} MiB of cache",
    )
    yield "model", model_words(status)
    if status["verdict"] is not None:
        yield "verdict", f"round {status['verdict']['round']}: {status['verdict']['reason']}"
    if status["memory"] is not None:
        yield "memory", status["memory"]["message"]
    daemon = status["daemon"]
    if daemon is not None:
        yield "daemon", f"pid {daemon['pid']}, {daemon['rss_bytes'] / _MIB:.0f} MiB resident"


def round_words(progress: Json) -> str:
    loss = "" if progress["loss"] is None else f", loss {progress['loss']:.4f}"
    return f"{progress['number']}: step {progress['step']} of {progress['steps']}{loss}"


def usage_words(minutes: float, watt_hours: float | None) -> str:
    return f"{minutes:.1f} min" + ("" if watt_hours is None else f" and {watt_hours:.3g} Wh")


def model_words(status: Json) -> str:
    model = status["model"]
    if model is None:
        return "none; run `mmd init`"
    sha256 = (model["sha256"] or "")[:12]
    phase, review = model["phase"], model.get("review")
    if phase == "probation" and review:
        phase += f": {review['right_before']} -> {review['right_after']} right of {review['judged']} new samples"
    return f"generation {model['generation']} {sha256} ({phase}), engine {status['engine']}"


def condition_lines(status: Json, *, width: int | None, bar: int = 0) -> Iterator[str]:
    """Yield a row for each condition, with a bar of `bar` characters where its unit has one."""
    shown = 10_000 if width is None else width
    names = max(map(len, ("condition", *status["conditions"])))
    has_levels = shown >= names + bar + 42
    heading = f"  {'condition':<{names}} {'now':<10}" + f" {'':<{bar}}" * bool(bar)
    if has_levels:
        heading += f" {'starts at':<11} {'stops at':<10} from"
    yield style(heading[:shown].rstrip(), dim=True)
    for name, condition in status["conditions"].items():
        mark, colour = _MARKS[_side(condition)]
        plain = f" {name:<{names}} {value_words(condition):<10}"
        if bar:
            plain += f" {_bar(condition, bar):<{bar}}"
        if has_levels:
            plain += f" {condition['start']:<11} {condition['stop']:<10}"
        plain = plain[: shown - 1]
        source = "; ".join([condition["detail"], *condition["problems"]]) if has_levels else ""
        room = shown - len(plain) - 2
        if len(source) > room:
            source = source[: max(0, room - 1)] + "…" if room > 4 else ""
        yield f"{style(mark, fg=colour)}{plain} {style(source, dim=True) if source else ''}".rstrip()


def _side(condition: Json) -> str:
    return "start" if condition["meets_start"] else "between" if condition["meets_stop"] else "stop"


def value_words(condition: Json) -> str:
    value = condition["value"]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:g} {condition['unit']}" if abs(value) < 10_000 else f"{value:.0f} {condition['unit']}"


def _bar(condition: Json, cells: int) -> str:
    value, most = condition["value"], _BAR_UNITS.get(condition["unit"])
    if most is None or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    full = round(min(max(value / most, 0.0), 1.0) * cells)
    return "█" * full + "░" * (cells - full)
