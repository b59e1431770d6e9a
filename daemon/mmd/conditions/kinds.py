"""Which conditions are there, what is each in, where is it read, and what counts without it? The whole table."""

import msgspec


class ConditionKind(msgspec.Struct, frozen=True):
    """What one condition means, for tables and documents."""

    unit: str
    source: str
    without: str
    """What the daemon concludes on a board that has no such sensor."""
    is_sensed: bool = True
    """Felt on the board; otherwise reckoned from the clock and from what training did, and so in no trace."""


CONDITIONS: dict[str, ConditionKind] = {
    "external_power": ConditionKind(
        unit="",
        source="`online` and `status` of every Mains, USB, Wireless supply and battery in `/sys/class/power_supply`",
        without="no battery and no supply: the board is powered",
    ),
    "battery_charge": ConditionKind(
        unit="%",
        source="`capacity` of every battery; several are weighed by their size",
        without="no battery: no limit",
    ),
    "battery_temperature": ConditionKind(
        unit="°C",
        source="`temp` of the hottest battery",
        without="no battery, or none that tells: no limit",
    ),
    "user_idle": ConditionKind(
        unit="s",
        source="logind's sessions, access times of `/dev/tty*` and `/dev/pts/*`, reports of input devices",
        without="no session, terminal or input device: idle",
    ),
    "soc_temperature": ConditionKind(
        unit="°C",
        source="`temp` of every zone in `/sys/class/thermal`, each against its own trip points",
        without="no thermal zone: no limit",
    ),
    "memory_available": ConditionKind(
        unit="MiB",
        source="`MemAvailable` of `/proc/meminfo`, or the control group's limit where that leaves less",
        without="nothing readable: no limit",
    ),
    "disk_free": ConditionKind(
        unit="MiB",
        source="free space on the file system of the state folder",
        without="nothing readable: no limit",
    ),
    "cpu_used_by_others": ConditionKind(
        unit="%",
        source="`/proc/stat`, less what the daemon and its trainer used; of all processors together",
        without="nothing readable: no limit",
    ),
    "cpu_pressure": ConditionKind(
        unit="%",
        source="`some avg10` of `/proc/pressure/cpu`, or of `cpu.pressure` of the daemon's control group",
        without="a kernel that tells no pressure: no limit",
    ),
    "memory_pressure": ConditionKind(
        unit="%",
        source="`some avg10` of `/proc/pressure/memory`, or of `memory.pressure` of the daemon's control group",
        without="a kernel that tells no pressure: no limit",
    ),
    "io_pressure": ConditionKind(
        unit="%",
        source="`some avg10` of `/proc/pressure/io`, or of `io.pressure` of the daemon's control group",
        without="a kernel that tells no pressure: no limit",
    ),
    "exclusive_processes": ConditionKind(
        unit="",
        source="the names of all processes (`/proc/*/comm`), if any is configured",
        without="the processes of others are hidden: no limit, and it is said",
    ),
    "allowed_hours": ConditionKind(
        unit="", source="the local clock", without="no window configured: every hour", is_sensed=False
    ),
    "run_length": ConditionKind(
        unit="min", source="what training did", without="no length configured: no limit", is_sensed=False
    ),
    "duty_cycle": ConditionKind(
        unit="%", source="what training did", without="a share of 100 %: no limit", is_sensed=False
    ),
    "training_time_today": ConditionKind(
        unit="min", source="what training did since midnight", without="no budget: no limit", is_sensed=False
    ),
    "training_energy_today": ConditionKind(
        unit="Wh",
        source="the board's power meter while training ran since midnight",
        without="no budget, or no power meter: no limit",
        is_sensed=False,
    ),
}
SENSED = tuple(name for name, kind in CONDITIONS.items() if kind.is_sensed)
"""What a trace holds."""
