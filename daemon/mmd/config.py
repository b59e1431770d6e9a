"""What has the owner configured? One frozen structure, every key with its default and its unit.

Flags beat environment beats file beats defaults. An unknown key is an error that names the nearest known one.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mmd.augmentation import Augmentation
from mmd.errors import UsageError
from mmd.limits import ConditionsConfig, NonNegative, Positive, Section, contradiction
from mmd.strict_toml import read_toml, refuse_numbers

Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class SamplesConfig(Section, frozen=True):
    """`[samples]`: what is taken in, and how much of it is held out."""

    holdout: Fraction = 0.25
    """Share of the samples that is never trained on and decides at the gate; read once, at `mmd init`."""
    max_pixels: Count = 50_000_000
    """An image with more pixels is refused before it is decoded."""
    max_seconds: Positive = 60.0
    """A longer recording is refused before it is decoded."""
    quota_mib: Positive = 1024.0
    """What all samples together may take; more are refused."""


class TrainingConfig(Section, frozen=True):
    """`[training]`: how a round is run."""

    engine: Literal["auto", "portable", "ort_training"] = "auto"
    """portable: with any onnxruntime; ort_training: the reference, where it is installed; auto: portable."""
    preset: str | None = None
    """The schedule of the loss: `obedient`, `adamant`, `independent`, `unlabelled`, or one of the set's own.
    Without it the set's, by how many samples have a label: docs/recipe.md."""
    epochs: Count | None = None
    """How often a round sees each sample."""
    batch_size: Count | None = None
    """Samples a step, replay included."""
    learning_rate: Positive | None = None
    """The highest one; it rises over the first twentieth of a round and then falls to a twentieth of it."""
    weight_decay: NonNegative | None = None
    """How strongly weights are pulled to 0; AdamW does it beside the gradients."""
    clip_norm: NonNegative | None = None
    """All gradients together are shortened to this length where they are longer; 0: never."""
    micro_batch: Count | None = None
    """Samples computed at once: a board with little memory takes the steps of the whole batch, a part at a time.
    Without it all of them."""
    replay: Fraction | None = None
    """Share of each batch that is drawn from the anchor set."""
    views: Count | None = None
    """In how many views each sample is seen, one an epoch: the sample itself, and others made of it. 1: as it is."""
    augmentation: Augmentation | None = None
    """How far a view may be from its sample."""
    variant: Literal["auto", "cached", "fused"] = "auto"
    """cached: the Mentor is asked once a sample and view, and what it says is kept; fused: it runs in every step;
    auto: each round measures what takes less."""
    cache_mib: NonNegative = 256.0
    """Room for what the Mentor says and for views, in the state folder; 0: nothing is kept."""
    threads: Count = 1
    """Processors that training uses."""
    checkpoint_every_steps: Count = 25
    """What a kill costs, at most."""
    memory: bool = True
    """Whether a model may also remember the owner's samples as they are, and let the nearest of them vote."""
    blends: tuple[Fraction, ...] = (0.5, 1.0)
    """Shares of what a round learned that its candidates have in their weights; the rest stays as it was."""
    min_samples: Count = 8
    """Fewer trainable samples than this never start a round."""
    min_new_samples: Count = 10
    """A further round starts once this many samples are new since the last one."""
    seed: int = 0
    """Of the order of samples and of their views."""


class GateConfig(Section, frozen=True):
    """`[gate]`: what a candidate must show before it serves."""

    significance: Fraction = 0.05
    """The chance, at most, of promoting a candidate that is no better than the serving model."""
    memory_significance: Fraction = 0.05
    """The same for a candidate whose weights stay as they are, and which only remembers samples."""
    anchor_margin: Fraction = 0.01
    """Accuracy on the anchor set that a candidate may lose, at most."""
    min_judged: Count = 8
    """Labelled samples to judge by, at least: held-out ones, and new ones that a fold model answered for."""
    folds: Annotated[int, msgspec.Meta(ge=0)] = 4
    """Fold models of a round: each leaves out a share of the new samples and answers for it at the gate; 0: none."""
    enough_holdout: Count = 200
    """With this many labelled held-out samples they judge alone, and no fold model is trained."""
    probation_hours: NonNegative = 24.0
    """How long a promoted model is on probation at most: compared with the one before on every labelled sample that
    comes, and taken back when it is worse by more than chance. 0: not at all."""
    probation_samples: Count = 50
    """A probation ends early once this many samples have judged."""


class PromotionConfig(Section, frozen=True):
    """`[promotion]`: in which form a candidate is judged and serves."""

    int8: bool = False
    """Quantise each candidate to int8, calibrated on what the round trained on; the gate judges the int8 network."""


class DaemonConfig(Section, frozen=True):
    """`[daemon]`: the supervisor and the cage of its trainer."""

    poll_seconds: Annotated[float, msgspec.Meta(gt=0.0, le=60.0)] = 1.0
    """Between two looks at the board; while training runs it is looked at four times a second."""
    sys_root: str = "/"
    """Folder under which `sys/` and `proc/` and `dev/` are read; `/` except in tests and demonstrations."""
    suspend_grace_seconds: NonNegative = 120.0
    """A trainer stopped in place for longer than this checkpoints and leaves, which frees its memory."""
    trainer_memory_mib: Positive = 1024.0
    """That the trainer may take; a round that needs more is given up."""
    cooldown_seconds: NonNegative = 60.0
    """Rest between two rounds."""
    watch_inbox: bool = True
    """Whether the daemon takes in what lands in the inbox."""


class ServeConfig(Section, frozen=True):
    """`[serve]`: the inference server."""

    listen: str = ""
    """A socket's path, or `127.0.0.1:PORT`; never another machine's. Without it `serve.sock` in the state folder."""
    workers: Count = 2
    """Requests that are answered at the same time."""
    max_request_mib: Positive = 8.0
    """A bigger request is refused; of an array also what it unpacks to."""
    max_connections: Count = 16
    """Clients at once; further ones wait until one leaves."""
    idle_seconds: Positive = 30.0
    """A connection without a request, or one that is sent no further, is closed after this."""
    keep_samples: bool = False
    """Whether `POST /samples` may add to the owner's samples."""


class Config(Section, frozen=True):
    """The whole configuration file."""

    samples: SamplesConfig = SamplesConfig()
    training: TrainingConfig = TrainingConfig()
    gate: GateConfig = GateConfig()
    promotion: PromotionConfig = PromotionConfig()
    conditions: ConditionsConfig = ConditionsConfig()
    daemon: DaemonConfig = DaemonConfig()
    serve: ServeConfig = ServeConfig()


def load_config(path: Path | None) -> Config:
    """Read `path`; `None` gives the defaults. Raises `UsageError` naming the file and the key."""
    if path is None:
        return Config()
    config = read_toml(path, Config, what="configuration")
    try:
        for section in ("training", "daemon", "serve"):
            refuse_numbers(getattr(config, section), section)
    except UsageError as error:
        raise UsageError(f"The configuration {path} does not fit: {error}") from error
    said = contradiction(config.conditions)
    if said is not None:
        raise UsageError(f"The configuration {path} contradicts itself: {said}")
    if not Path(config.daemon.sys_root).is_dir():
        raise UsageError(
            f"The configuration {path} names daemon.sys_root = {config.daemon.sys_root!r}, which is no folder; "
            'give "/", or leave it out.'
        )
    return config
