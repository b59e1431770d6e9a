"""How did a round end? The verdict that the trainer leaves in its folder, and the last word in `done.json`."""

from pathlib import Path
from typing import Literal

import msgspec

from mmd import durable
from mmd.artifact.card import Verdict
from mmd.errors import StoreDamaged

VERDICT_NAME = "verdict.json"
DONE_NAME = "done.json"
CANDIDATE_NAME = "candidate"


Ending = Literal["promoted", "rejected", "failed", "abandoned"]


class RoundOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in `done.json`."""

    round: int
    outcome: Ending
    reason: str
    finished: float
    """Seconds since the epoch."""
    generation: int | None = None
    """The generation that it became, when it was promoted."""
    lost_its_ground: bool = False
    """Abandoned because what it was built on went: a sample was forgotten, the set or a model replaced. No failure."""


def write_outcome(folder: Path, outcome: RoundOutcome) -> None:
    """Close the round in `folder`."""
    durable.write_bytes(folder / DONE_NAME, _readable(outcome))


def read_outcome(folder: Path) -> RoundOutcome | None:
    """Return how the round in `folder` ended; `None` while it is open."""
    try:
        return msgspec.json.decode((folder / DONE_NAME).read_bytes(), type=RoundOutcome)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write_verdict(folder: Path, verdict: Verdict) -> None:
    durable.write_bytes(folder / VERDICT_NAME, _readable(verdict))


def read_verdict(folder: Path) -> Verdict | None:
    """Return the gate's verdict on the round in `folder`; `None` before there is one.

    Raises `StoreDamaged` when the file does not parse.
    """
    try:
        return msgspec.json.decode((folder / VERDICT_NAME).read_bytes(), type=Verdict)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreDamaged(
            f"Round {folder.name}/{VERDICT_NAME} cannot be read ({error}); it is evaluated again."
        ) from error


def _readable(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
