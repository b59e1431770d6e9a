"""What has the owner configured? One frozen structure, every key with its default and its unit.

Flags beat environment beats file beats defaults. An unknown key is an error that names the nearest known one.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mmd.augmentation import Augmentation
from mmd.errors import UsageError
from mmd.strict_toml import read_toml

Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class SamplesConfig(_Section, frozen=True):
    """`[samples]`: what is taken in, and how much of it is held out."""

    holdout: Fraction = 0.25
    """Share of the samples that is never trained on and decides at the gate; read once, at `mmd init`."""
    max_pixels: Count = 50_000_000
    """An image with more pixels is refused before it is decoded."""
    quota_mib: Positive = 1024.0


class TrainingConfig(_Section, frozen=True):
    """`[training]`: how a round is run. `None` means: what the artifact set recommends."""

    engine: Literal["auto", "portable", "ort_training"] = "auto"
    preset: str | None = None
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    weight_decay: NonNegative | None = None
    clip_norm: NonNegative | None = None
    """All gradients together are shortened to this length where they are longer; 0: never."""
    micro_batch: Count | None = None
    """Samples computed at once: a board with little memory takes the steps of the whole batch, a part at a time."""
    replay: Fraction | None = None
    """Share of each batch that is drawn from the anchor set."""
    views: Count | None = None
    """In how many views each sample is seen, one an epoch: the sample itself, and others made of it. 1: as it is."""
    augmentation: Augmentation | None = None
    """How far a view may be from its sample."""
    threads: Count = 1
    checkpoint_every_steps: Count = 25
    min_samples: Count = 20
    """Fewer trainable samples than this never start a round."""
    min_new_samples: Count = 10
    """A further round starts once this many samples are new since the last one."""
    seed: int = 0


class GateConfig(_Section, frozen=True):
    """`[gate]`: what a candidate must show before it serves."""

    significance: Fraction = 0.05
    """The chance, at most, of promoting a candidate that is no better than the serving model."""
    anchor_margin: Fraction = 0.01
    """Accuracy on the anchor set that a candidate may lose, at most."""
    min_holdout: Count = 8
    probation_hours: NonNegative = 24.0


class ExternalPower(_Section, frozen=True):
    """`[conditions.external_power]`"""

    required: bool = True
    dwell_seconds: NonNegative = 5.0


class BatteryCharge(_Section, frozen=True):
    """`[conditions.battery_charge]`"""

    start_percent: NonNegative = 50.0
    stop_percent: NonNegative = 30.0
    dwell_seconds: NonNegative = 30.0


class UserIdle(_Section, frozen=True):
    """`[conditions.user_idle]`: how long nobody has touched the board."""

    required: bool = True
    start_seconds: NonNegative = 300.0
    stop_seconds: NonNegative = 30.0


class SocTemperature(_Section, frozen=True):
    """`[conditions.soc_temperature]`: the hottest thermal zone."""

    start_celsius: float = 60.0
    stop_celsius: float = 75.0
    dwell_seconds: NonNegative = 30.0


class MemoryAvailable(_Section, frozen=True):
    """`[conditions.memory_available]`"""

    start_mib: NonNegative = 300.0
    stop_mib: NonNegative = 150.0
    dwell_seconds: NonNegative = 30.0


class DiskFree(_Section, frozen=True):
    """`[conditions.disk_free]`: on the file system of the state folder."""

    start_mib: NonNegative = 300.0
    stop_mib: NonNegative = 100.0
    dwell_seconds: NonNegative = 30.0


class CpuUsedByOthers(_Section, frozen=True):
    """`[conditions.cpu_used_by_others]`: of all processors together, the daemon's own work left out."""

    start_percent: NonNegative = 30.0
    stop_percent: NonNegative = 60.0
    dwell_seconds: NonNegative = 30.0


class CpuPressure(_Section, frozen=True):
    """`[conditions.cpu_pressure]`: the share of time in which somebody waited for a processor."""

    start_percent: NonNegative = 40.0
    stop_percent: NonNegative = 80.0
    dwell_seconds: NonNegative = 30.0


class MemoryPressure(_Section, frozen=True):
    """`[conditions.memory_pressure]`: the share of time in which somebody waited for memory."""

    start_percent: NonNegative = 5.0
    stop_percent: NonNegative = 20.0
    dwell_seconds: NonNegative = 30.0


class IoPressure(_Section, frozen=True):
    """`[conditions.io_pressure]`: the share of time in which somebody waited for a disk."""

    start_percent: NonNegative = 30.0
    stop_percent: NonNegative = 70.0
    dwell_seconds: NonNegative = 30.0


class ConditionsConfig(_Section, frozen=True):
    """`[conditions]`: start level, stop level and dwell of each condition."""

    external_power: ExternalPower = ExternalPower()
    battery_charge: BatteryCharge = BatteryCharge()
    user_idle: UserIdle = UserIdle()
    soc_temperature: SocTemperature = SocTemperature()
    memory_available: MemoryAvailable = MemoryAvailable()
    disk_free: DiskFree = DiskFree()
    cpu_used_by_others: CpuUsedByOthers = CpuUsedByOthers()
    cpu_pressure: CpuPressure = CpuPressure()
    memory_pressure: MemoryPressure = MemoryPressure()
    io_pressure: IoPressure = IoPressure()


HIGH_IS_BAD = frozenset({"soc_temperature", "cpu_used_by_others", "cpu_pressure", "memory_pressure", "io_pressure"})
"""Conditions whose stop level lies above the start level."""


class DaemonConfig(_Section, frozen=True):
    """`[daemon]`: the supervisor and the cage of its trainer."""

    poll_seconds: Annotated[float, msgspec.Meta(gt=0.0, le=60.0)] = 1.0
    sys_root: str = "/"
    """Folder under which `sys/` and `proc/` and `dev/` are read; `/` except in tests and demonstrations."""
    suspend_grace_seconds: NonNegative = 120.0
    """A trainer stopped in place for longer than this checkpoints and leaves, which frees its memory."""
    trainer_memory_mib: Positive = 1024.0
    cooldown_seconds: NonNegative = 60.0
    """Rest between two rounds."""
    watch_inbox: bool = True


class Config(_Section, frozen=True):
    """The whole configuration file."""

    samples: SamplesConfig = SamplesConfig()
    training: TrainingConfig = TrainingConfig()
    gate: GateConfig = GateConfig()
    conditions: ConditionsConfig = ConditionsConfig()
    daemon: DaemonConfig = DaemonConfig()


def load_config(path: Path | None) -> Config:
    """Read `path`; `None` gives the defaults. Raises `UsageError` naming the file and the key."""
    if path is None:
        return Config()
    config = read_toml(path, Config, what="configuration")
    _refuse_contradictions(config, path)
    return config


def _refuse_contradictions(config: Config, path: Path) -> None:
    """Hold start level and stop level of each condition the right way round."""
    for name in ConditionsConfig.__struct_fields__:
        section = getattr(config.conditions, name)
        units = [field.removeprefix("start") for field in section.__struct_fields__ if field.startswith("start_")]
        for unit in units:
            low, high = ("start", "stop") if name in HIGH_IS_BAD else ("stop", "start")
            lower, upper = getattr(section, low + unit), getattr(section, high + unit)
            if lower > upper:
                raise UsageError(
                    f"The configuration {path} contradicts itself: conditions.{name}.{low}{unit} = {lower:g} "
                    f"is above {high}{unit} = {upper:g}; swap them."
                )
