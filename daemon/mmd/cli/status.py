"""`mmd status`: what does the daemon do, why, with what samples, and which model serves?"""

import json
from typing import TYPE_CHECKING, Any

import click

from mmd.cli.answers import ago, current_status
from mmd.cli.main import Session, pass_session

if TYPE_CHECKING:
    from rich.console import RenderableType

Json = dict[str, Any]
WATCH_SECONDS = 1.0
_MIB = 1024 * 1024


@click.command(short_help="Show state, reasons, samples, round and model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@pass_session
def status(session: Session, as_json: bool, watch: bool) -> None:
    """Show state, reasons, conditions, samples, the round and the model. Works without a daemon too."""
    if as_json:
        print(json.dumps(current_status(session)), flush=True)
        return
    from rich.console import Console

    console = Console()
    if not watch:
        console.print(view(current_status(session)))
        return
    _watch(session, console)


def _watch(session: Session, console: Any) -> None:
    import time

    from rich.live import Live

    try:
        with Live(view(current_status(session)), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(view(current_status(session)), refresh=True)
    except KeyboardInterrupt:
        return


def view(status: Json) -> "RenderableType":
    """Return the status as a person reads it."""
    from rich.console import Group
    from rich.markup import escape

    lines = [f"[bold]{status['state']}[/]{_mode_words(status)}"]
    if status["daemon"] is None:
        lines.append("[yellow]no daemon is running[/]; `mmd run` starts it")
    lines += [
        f"  [yellow]{reason['code']}[/] {escape(reason['message'])} "
        f"[dim](since {ago(reason['since'])}; clears when {escape(reason['clears_when'])})[/]"
        for reason in status["reasons"]
    ]
    facts = [_round_line(status), _samples_line(status), _model_line(status), _verdict_line(status)]
    daemon = status["daemon"]
    if daemon is not None:
        facts.append(f"[bold]daemon [/] pid {daemon['pid']}, {daemon['rss_bytes'] / _MIB:.0f} MiB resident")
    # The table last: it is what a small terminal may cut off.
    return Group(*lines, *(fact for fact in facts if fact), _conditions_table(status))


def _mode_words(status: Json) -> str:
    return " (forced: conditions are not obeyed)" if status["mode"] == "forced" else ""


def _conditions_table(status: Json) -> "RenderableType":
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column, width in {"": 1, "condition": 18, "now": 9, "starts at": 10, "stops at": 9}.items():
        table.add_column(column, no_wrap=True, min_width=width)
    table.add_column("from", no_wrap=True, ratio=1)
    for name, condition in status["conditions"].items():
        mark = (
            "[green]✓[/]" if condition["meets_start"] else ("[yellow]~[/]" if condition["meets_stop"] else "[red]✗[/]")
        )
        table.add_row(
            mark,
            name,
            _value_words(condition),
            escape(condition["start"]),
            escape(condition["stop"]),
            f"[dim]{escape('; '.join([condition['detail'], *condition['problems']]))}[/]",
        )
    return table


def _value_words(condition: Json) -> str:
    value = condition["value"]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g} {condition['unit']}" if abs(value) < 10_000 else f"{value:.0f} {condition['unit']}"


def _round_line(status: Json) -> str:
    progress = status["round"]
    if progress is None:
        return ""
    loss = "" if progress["loss"] is None else f", loss {progress['loss']:.4f}"
    return f"[bold]round  [/] {progress['number']}: step {progress['step']} of {progress['steps']}{loss}"


def _samples_line(status: Json) -> str:
    samples = status["samples"]
    return (
        f"[bold]samples[/] {samples['total']}: {samples['labelled']} labelled, {samples['unlabelled']} not, "
        f"{samples['holdout']} held out, {samples['new']} new, {samples['bytes'] / _MIB:.1f} MiB"
    )


def _model_line(status: Json) -> str:
    model = status["model"]
    if model is None:
        return "[bold]model  [/] none; run `mmd init`"
    sha256 = (model["sha256"] or "")[:12]
    return f"[bold]model  [/] generation {model['generation']} {sha256} ({model['phase']}), engine {status['engine']}"


def _verdict_line(status: Json) -> str:
    from rich.markup import escape

    verdict = status["verdict"]
    return "" if verdict is None else f"[bold]verdict[/] round {verdict['round']}: {escape(verdict['reason'])}"
