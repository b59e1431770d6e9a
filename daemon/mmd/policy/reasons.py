"""Which reasons keep training from running? The whole table; codes are stable."""

from enum import Enum, StrEnum

import msgspec


class Code(StrEnum):
    """Programs may rely on these words."""

    ON_BATTERY = "on_battery"
    BATTERY_LOW = "battery_low"
    BATTERY_HOT = "battery_hot"
    USER_ACTIVE = "user_active"
    SOC_HOT = "soc_hot"
    MEMORY_LOW = "memory_low"
    DISK_LOW = "disk_low"
    CPU_BUSY = "cpu_busy"
    CPU_PRESSURE = "cpu_pressure"
    MEMORY_PRESSURE = "memory_pressure"
    IO_PRESSURE = "io_pressure"
    EXCLUSIVE_PROCESS = "exclusive_process"
    OUTSIDE_HOURS = "outside_hours"
    RUN_TOO_LONG = "run_too_long"
    DUTY_CYCLE = "duty_cycle"
    TIME_BUDGET_SPENT = "time_budget_spent"
    ENERGY_BUDGET_SPENT = "energy_budget_spent"
    HELD_BY_USER = "held_by_user"
    TRAINER_FAILED = "trainer_failed"
    MODELS_BUSY = "models_busy"
    COOLDOWN = "cooldown"
    SAMPLES_ARRIVING = "samples_arriving"
    TOO_FEW_SAMPLES = "too_few_samples"
    NOTHING_NEW = "nothing_new"
    NO_ARTIFACT_SET = "no_artifact_set"
    NO_DAEMON = "no_daemon"


class Kind(Enum):
    """What sort of obstacle a reason is."""

    RESOURCE = "resource"
    """The board must not be burdened now."""
    USER = "user"
    """The owner said no."""
    PACE = "pace"
    """Not yet: training rests, or has had its share."""
    WORK = "work"
    """There is nothing to do."""


class ReasonKind(msgspec.Struct, frozen=True):
    kind: Kind
    meaning: str
    condition: str | None = None
    """Its table under `[conditions]`, where it has one."""


REASONS: dict[Code, ReasonKind] = {
    Code.ON_BATTERY: ReasonKind(Kind.RESOURCE, "no external power feeds the board", "external_power"),
    Code.BATTERY_LOW: ReasonKind(Kind.RESOURCE, "the battery's charge is too low", "battery_charge"),
    Code.BATTERY_HOT: ReasonKind(Kind.RESOURCE, "the hottest battery is too hot", "battery_temperature"),
    Code.USER_ACTIVE: ReasonKind(Kind.RESOURCE, "somebody is using the board", "user_idle"),
    Code.SOC_HOT: ReasonKind(Kind.RESOURCE, "a thermal zone is too hot", "soc_temperature"),
    Code.MEMORY_LOW: ReasonKind(Kind.RESOURCE, "too little memory is available", "memory_available"),
    Code.DISK_LOW: ReasonKind(Kind.RESOURCE, "too little disk space is free", "disk_free"),
    Code.CPU_BUSY: ReasonKind(Kind.RESOURCE, "other programs use the processors", "cpu_used_by_others"),
    Code.CPU_PRESSURE: ReasonKind(Kind.RESOURCE, "programs wait for a processor", "cpu_pressure"),
    Code.MEMORY_PRESSURE: ReasonKind(Kind.RESOURCE, "programs wait for memory", "memory_pressure"),
    Code.IO_PRESSURE: ReasonKind(Kind.RESOURCE, "programs wait for a disk", "io_pressure"),
    Code.EXCLUSIVE_PROCESS: ReasonKind(
        Kind.RESOURCE, "a program that the configuration names wants the board for itself", "exclusive_processes"
    ),
    Code.OUTSIDE_HOURS: ReasonKind(Kind.RESOURCE, "this hour of the week is not allowed", "allowed_hours"),
    Code.RUN_TOO_LONG: ReasonKind(Kind.PACE, "the longest run is over, and training rests", "run_length"),
    Code.DUTY_CYCLE: ReasonKind(Kind.PACE, "training had its share of the time", "duty_cycle"),
    Code.TIME_BUDGET_SPENT: ReasonKind(Kind.PACE, "today's minutes of training are spent", "training_time_today"),
    Code.ENERGY_BUDGET_SPENT: ReasonKind(Kind.PACE, "today's energy for training is spent", "training_energy_today"),
    Code.HELD_BY_USER: ReasonKind(Kind.USER, "the owner holds training with `mmd pause`"),
    Code.TRAINER_FAILED: ReasonKind(Kind.PACE, "the trainer failed and is tried again after a while"),
    Code.MODELS_BUSY: ReasonKind(
        Kind.PACE, "the round is judged, and its verdict waits for another command that is changing the models"
    ),
    Code.COOLDOWN: ReasonKind(Kind.PACE, "the last round ended a moment ago (`daemon.cooldown_seconds`)"),
    Code.SAMPLES_ARRIVING: ReasonKind(
        Kind.PACE, "samples are still being taken in; a round waits for the last of them"
    ),
    Code.TOO_FEW_SAMPLES: ReasonKind(Kind.WORK, "fewer samples to train on than `training.min_samples`"),
    Code.NOTHING_NEW: ReasonKind(Kind.WORK, "fewer new samples since the last round than `training.min_new_samples`"),
    Code.NO_ARTIFACT_SET: ReasonKind(Kind.WORK, "no artifact set is installed"),
    Code.NO_DAEMON: ReasonKind(Kind.USER, "nobody has started the daemon (`mmd run`)"),
}


class Reason(msgspec.Struct, frozen=True):
    """One thing that keeps training from running."""

    code: Code
    message: str
    since: float
    """Seconds since 1970, by today's wall clock."""
    clears_when: str
    """What would make it go away, in words."""

    @property
    def kind(self) -> Kind:
        return REASONS[self.code].kind
