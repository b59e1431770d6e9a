"""`mmd models`: every model that is kept, and which one serves."""

import json
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mmd.cli.main import Session, pass_session

if TYPE_CHECKING:
    from mmd.artifact.card import Verdict
    from mmd.artifact.review import Review
    from mmd.promotion.models import ModelEntry


@click.command(short_help="List the models and what each scored.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@pass_session
def models(session: Session, as_json: bool) -> None:
    """List the models: the shipped one, the ones that were promoted since, and which of them serves."""
    from mmd.promotion.models import ModelStore

    entries = ModelStore(session.initialised_state()).list()
    if as_json:
        print(json.dumps([_described(entry) for entry in entries], indent=2))
    else:
        _show_table(entries)


def _described(entry: "ModelEntry") -> dict[str, Any]:
    card, verdict = entry.card, entry.card.verdict if entry.card else None
    return {
        "generation": entry.generation,
        "phase": entry.phase,
        "serves": entry.serves,
        "sha256": card.sha256 if card else None,
        "created": card.created if card else None,
        "round": card.round if card else None,
        "parent": card.parent if card else None,
        "precision": card.precision if card else None,
        "blend": card.blend if card else None,
        "remembers": card.remembers if card else None,
        "samples": len(card.sample_ids) if card else None,
        "holdout_total": verdict.holdout_total if verdict else None,
        "holdout_right_before": verdict.holdout_right_before if verdict else None,
        "holdout_right_after": verdict.holdout_right_after if verdict else None,
        "out_of_fold_total": verdict.out_of_fold_total if verdict else None,
        "out_of_fold_right_before": verdict.out_of_fold_right_before if verdict else None,
        "out_of_fold_right_after": verdict.out_of_fold_right_after if verdict else None,
        "p_value": verdict.p_value if verdict else None,
        "review": msgspec.to_builtins(entry.review) if entry.review else None,
    }


def _show_table(entries: "list[ModelEntry]") -> None:
    from datetime import datetime

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("generation", "phase", "when", "round", "judged", "samples"):
        table.add_column(heading, justify="left" if heading in ("phase", "when") else "right")
    for entry in entries:
        card, verdict = entry.card, entry.card.verdict if entry.card else None
        table.add_row(
            f"{'* ' if entry.serves else ''}{entry.generation}",
            entry.phase,
            f"{datetime.fromtimestamp(card.created):%Y-%m-%d %H:%M}" if card else "",
            str(card.round) if card and card.round is not None else "",
            _judged_words(verdict) if verdict else "",
            str(len(card.sample_ids)) if card else "",
        )
    console = Console(highlight=False)
    console.print(table)
    for entry in entries:
        if entry.card:
            console.print(f"{entry.generation}: {entry.card.makeup}", soft_wrap=True)
        if entry.review:
            console.print(f"   {review_words(entry.review, entry.phase, serves=entry.serves)}", soft_wrap=True)
    console.print("* serves; judged: right before -> after, held out and out of fold", soft_wrap=True)


def review_words(review: "Review", phase: str, *, serves: bool) -> str:
    """Say what the probation has shown, and what came of it."""
    if phase == "withdrawn" and review.state == "failed":
        return f"taken back: {review.reason}"
    if review.state == "open" and not serves:
        counts = f"{review.right_before} -> {review.right_after} right of {review.judged} samples"
        return f"probation, until another model served: {counts}."
    return f"probation: {review.reason}"


def _judged_words(verdict: "Verdict") -> str:
    """Count the samples that judged, held out and out of fold."""
    before = verdict.holdout_right_before + verdict.out_of_fold_right_before
    after = verdict.holdout_right_after + verdict.out_of_fold_right_after
    return f"{before} -> {after} of {verdict.holdout_total + verdict.out_of_fold_total}"
