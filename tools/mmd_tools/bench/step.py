"""`mmd-tools bench step`: how long does a training step take, against PyTorch and onnxruntime-training?"""

import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mmd_tools.bench.contenders import Contender

_WARM_UP = 2


@click.command("step", short_help="Time one optimizer step on three engines.")
@click.option(
    "--case", "names", type=click.Choice(["a", "b", "c", "d"]), multiple=True, help="Repeatable. [default: all four]"
)
@click.option("--quick", is_flag=True, help="Fewer rounds: enough to see an order of magnitude.")
@click.option(
    "--threads", type=click.IntRange(min=1), multiple=True, default=(1, 2), show_default=True, help="Repeatable."
)
@click.option("--rounds", type=click.IntRange(min=1), help="How often the contenders alternate.  [default: 8]")
@click.option("--torch-python", default=sys.executable, help="The interpreter that has PyTorch.  [default: this one]")
@click.option("--portable-python", default=sys.executable, help="The one for the portable engine.  [default: this one]")
@click.option("--plain", "is_plain", is_flag=True, help="Without operators in channel blocks, as ARM boards.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def step_command(
    names: tuple[str, ...],
    quick: bool,
    threads: tuple[int, ...],
    rounds: int | None,
    torch_python: str,
    portable_python: str,
    is_plain: bool,
    as_json: bool,
) -> None:
    """Time one optimizer step of the same network, weights and batch on three engines, turn by turn in one run.

    The loss is the cross entropy of labels, the optimizer AdamW. One thread: CPU time, which a busy machine disturbs
    least; more threads: wall time. PyTorch runs contiguous and channels_last, and the faster one counts.
    """
    from mmd_tools.bench.cases import CASES
    from mmd_tools.bench.contenders import python_has_torch

    python = {"portable": portable_python, "pytorch": torch_python, "ort_training": sys.executable}
    if not python_has_torch(torch_python):
        click.echo(f"{torch_python} has no PyTorch: ratios to it are null; pip install 'mmd-daemon[bench]'.", err=True)
        del python["pytorch"]
    results = []
    times, steps = rounds or (2 if quick else 8), 3 if quick else 5
    sizes = [(CASES[name], batch) for name in names or CASES for batch in CASES[name].batches]
    for count, (case, batch) in itertools.product(threads, sizes):
        result = measure(case, batch, count, rounds=times, steps=steps, python=python, is_plain=is_plain)
        results.append(result)
        if not as_json:
            click.echo(_line(result))
    if as_json:
        click.echo(json.dumps(results, indent=1))


def measure(
    case: Any, batch: int, threads: int, *, rounds: int, steps: int, python: dict[str, str], is_plain: bool = False
) -> dict[str, Any]:
    """Alternate the contenders for `rounds` rounds and return the row of one case and batch."""
    from mmd_tools.bench.contenders import contenders

    clock = "cpu" if threads == 1 else "wall"
    with (
        tempfile.TemporaryDirectory() as folder,
        contenders(case, batch, threads, clock=clock, python=python, folder=Path(folder), is_plain=is_plain) as entered,
    ):
        for turn in range(rounds):
            for contender in entered:
                contender.take(steps, _WARM_UP if turn == 0 else 1)
        return _row(case.name, batch, threads, clock, entered, steps)


def _row(name: str, batch: int, threads: int, clock: str, entered: Sequence["Contender"], steps: int) -> dict[str, Any]:
    by_name = {contender.name: contender for contender in entered}
    portable, training = by_name["portable"], by_name["ort_training"]
    layouts = [contender for contender in entered if contender.name.startswith("pytorch")]
    torch = min(layouts, key=lambda contender: contender.median, default=None)
    return {
        "case": name,
        "batch": batch,
        "threads": threads,
        "clock": clock,
        "ms_portable": round(portable.median, 2),
        "ms_pytorch": round(torch.median, 2) if torch else None,
        "ms_ort_training": round(training.median, 2),
        "ratio_to_pytorch": _ratio(portable, torch, steps) if torch else None,
        "ratio_to_ort_training": _ratio(portable, training, steps),
        "peak_mib": {c.name: round(c.peak_mib, 1) for c in (portable, *([torch] if torch else []), training)},
        "pytorch_layout": torch.name.removeprefix("pytorch ") if torch else None,
        "first_loss": {contender.name: round(contender.losses[0], 5) for contender in entered},
        "ms": {contender.name: [round(ms, 2) for ms in contender.ms] for contender in entered},
    }


def _ratio(ours: "Contender", theirs: "Contender", steps: int) -> float:
    """The median over the rounds of the ratio of that round's medians: what slows one round slows both."""
    pairs = zip(_rounds(ours.ms, steps), _rounds(theirs.ms, steps), strict=True)
    return round(statistics.median(left / right for left, right in pairs), 3)


def _rounds(ms: list[float], steps: int) -> list[float]:
    return [statistics.median(ms[start : start + steps]) for start in range(0, len(ms), steps)]


def _line(row: dict[str, Any]) -> str:
    torch = "no PyTorch" if row["ratio_to_pytorch"] is None else f"{row['ratio_to_pytorch']:.2f} x PyTorch"
    peaks = ", ".join(f"{name} {mib:.0f}" for name, mib in row["peak_mib"].items())
    return (
        f"case {row['case']}, batch {row['batch']}, threads {row['threads']}: {torch}, "
        f"{row['ratio_to_ort_training']:.2f} x onnxruntime-training; peak MiB: {peaks}"
    )
