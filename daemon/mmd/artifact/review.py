"""In which phase is a model, and what has its probation shown? Read by everyone who serves or shows a model."""

from pathlib import Path
from typing import Literal

import msgspec

from mmd.artifact.card import ModelCard, is_withdrawn

REVIEW_NAME = "review.json"
"""In the folder of a generation that is or was on probation."""


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """What the samples that came after a promotion say about it."""

    state: Literal["open", "passed", "failed"]
    reason: str
    """One sentence for the owner."""
    generation: int
    generation_before: int
    """That it is compared with, and that serves again when it fails."""
    judged: int
    """Labelled samples that came since, and that neither of the two was trained on."""
    right_before: int
    right_after: int
    evidence: float
    """That the model is worse, as an e-value: it fails when this reaches 1 / significance."""
    reviewed: float
    """Seconds since the epoch."""


def read_review(folder: Path) -> Review | None:
    """Return the last review of the model in `folder`; `None` where there is none that can be read.

    Nothing is lost with it: the samples that it was made from are in the store.
    """
    try:
        return msgspec.json.decode((folder / REVIEW_NAME).read_bytes(), type=Review)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def phase_of(folder: Path, card: ModelCard, now: float) -> str:
    """Return `shipped`, `probation`, `confirmed` or `withdrawn`."""
    if is_withdrawn(folder):
        return "withdrawn"
    phase = card.phase(now)
    if phase != "probation":
        return phase
    review = read_review(folder)
    return "confirmed" if review is not None and review.state == "passed" else "probation"
