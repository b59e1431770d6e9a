"""Which models do the tests promote? Bytes with a card, for what never runs them."""

import hashlib
from pathlib import Path

import msgspec

from mmd.artifact.card import ModelCard, Verdict
from mmd.layout import StateDir
from mmd.promotion.models import write_model
from mmd.promotion.outcome import write_verdict


def verdict(number: int, **changes: object) -> Verdict:
    """Return the verdict of a candidate that won."""
    won = Verdict(
        promoted=True,
        code="better",
        reason="Better by more than chance.",
        round=number,
        generation_before=0,
        holdout_total=20,
        holdout_right_before=10,
        holdout_right_after=19,
        log_loss_before=1.0,
        log_loss_after=0.2,
        p_log_loss=0.001,
        p_right=0.002,
        p_value=0.002,
        significance=0.05,
        anchor_total=100,
        anchor_right_before=90,
        anchor_right_after=90,
        anchor_margin=0.01,
        classes=("a", "b"),
        confusion_before=((5, 5), (5, 5)),
        confusion_after=((10, 0), (1, 9)),
    )
    return msgspec.structs.replace(won, **changes)


def candidate_card(number: int, model: bytes, parameters: bytes, **changes: object) -> ModelCard:
    card = ModelCard(
        generation=-1,
        sha256=hashlib.sha256(model).hexdigest(),
        parameters_sha256=hashlib.sha256(parameters).hexdigest(),
        artifact_sha256="set",
        created=0.0,
        round=number,
        parent=0,
        probation_hours=1.0,
    )
    return msgspec.structs.replace(card, **changes)


def put_candidate(
    state: StateDir,
    number: int,
    *,
    model: bytes | None = None,
    verdict: Verdict | None = None,
    **card: object,
) -> Path:
    """Leave what the trainer leaves at the end of round `number`; return the round's folder."""
    model = f"model {number}".encode() if model is None else model
    parameters = b"parameters"
    folder = state.rounds / f"{number:04d}"
    (folder / "candidate").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    write_model(folder / "candidate", candidate_card(number, model, parameters, **card), model, parameters)
    parent = int(str(card.get("parent", _linked(state))))
    write_verdict(folder, verdict or _won(number, parent))
    return folder


def _won(number: int, parent: int) -> Verdict:
    return verdict(number, generation_before=parent)


def _linked(state: StateDir) -> int:
    from mmd.artifact.card import linked_generation

    return linked_generation(state.models) or 0
