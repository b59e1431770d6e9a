"""What does a board look like to the daemon? A tree of `/sys`, `/proc` and `/dev` files with builders.

`Board(root)` is a board that may train: plugged in, charged, cool, with memory, untouched for an hour.
"""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

HOUR = 3600.0


class Board:
    """A settable board under `root`. Every method replaces what was there; methods return the board, to chain."""

    def __init__(self, root: Path, *, is_bare: bool = False) -> None:
        """Build a phone-like board; `is_bare` builds an empty tree instead."""
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        if not is_bare:
            self.supply("usb", "USB", online=1)
            self.battery("battery", status="Charging", capacity=90)
            self.zone(0, 45_000, kind="cpu-thermal")
            self.memory(available_mib=2048)
            self.pressure("cpu", "1.50").pressure("memory", "0.00").pressure("io", "0.00")
            self.processors(work=1000, idle=100_000)
            self.terminal("tty1", idle_seconds=HOUR)
            self.interrupts({"i8042": 100})

    # Power.

    def supply(self, name: str, kind: str, *, online: object) -> "Board":
        return self._power(name, type=kind, online=online)

    def battery(self, name: str = "battery", **files: object) -> "Board":
        """A battery with the given files: status, capacity, present, energy_now, ..."""
        return self._power(name, type="Battery", **files)

    def unplug(self) -> "Board":
        """Pull the charger out."""
        self.supply("usb", "USB", online=0)
        return self.battery("battery", status="Discharging")

    def plug(self) -> "Board":
        self.supply("usb", "USB", online=1)
        return self.battery("battery", status="Charging")

    def without(self, name: str) -> "Board":
        """Remove one power supply."""
        shutil.rmtree(self.root / "sys/class/power_supply" / name)
        return self

    def _power(self, name: str, **files: object) -> "Board":
        for file, content in files.items():
            self.write(f"sys/class/power_supply/{name}/{file}", str(content))
        return self

    # Heat, memory, people.

    def zone(self, number: int, millidegrees: object, *, kind: str = "cpu-thermal") -> "Board":
        self.write(f"sys/class/thermal/thermal_zone{number}/type", kind)
        return self.write(f"sys/class/thermal/thermal_zone{number}/temp", str(millidegrees))

    def trips(self, number: int, **temperatures: object) -> "Board":
        """Give a zone trip points by their types, in thousandths of a degree."""
        for index, (kind, millidegrees) in enumerate(temperatures.items()):
            self.write(f"sys/class/thermal/thermal_zone{number}/trip_point_{index}_type", kind)
            self.write(f"sys/class/thermal/thermal_zone{number}/trip_point_{index}_temp", str(millidegrees))
        return self

    def memory(self, *, available_mib: float) -> "Board":
        return self.write("proc/meminfo", f"MemTotal: 4194304 kB\nMemAvailable: {int(available_mib * 1024)} kB")

    def group_memory(self, group: str, *, limit: object, usage: object, inactive_file: int = 0) -> "Board":
        """Put the daemon into a control group of version 2."""
        self.write("proc/self/cgroup", f"0::{group}")
        folder = f"sys/fs/cgroup{group}"
        self.write(f"{folder}/memory.max", str(limit))
        self.write(f"{folder}/memory.current", str(usage))
        return self.write(f"{folder}/memory.stat", f"anon 1\ninactive_file {inactive_file}\nshmem 0")

    def pressure(self, resource: str, percent: object) -> "Board":
        """The share of the last ten seconds in which a task waited for `cpu`, `memory` or `io`."""
        averages = f"avg10={percent} avg60=1.00 avg300=0.50 total=123456"
        return self.write(
            f"proc/pressure/{resource}", f"some {averages}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1"
        )

    def processors(self, *, work: int, idle: int) -> "Board":
        """What all processors together did since the board started, in clock ticks."""
        return self.write(
            "proc/stat", f"cpu  {work} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {work} 0 0 {idle} 0 0 0 0 0 0\nintr 1"
        )

    def process(self, pid: int, *, ticks: int, children_ticks: int = 0, name: str = "mmd") -> "Board":
        """What one process used, and its children that ended."""
        fields = ["S", *["1"] * 10, str(ticks), "0", str(children_ticks), "0", *["0"] * 35]
        return self.write(f"proc/{pid}/stat", f"{pid} ({name}) {' '.join(fields)}")

    def usb(self, name: str, *, interface: str = "03", protocol: str = "01", requests: int = 100) -> "Board":
        """A USB device with one interface; a keyboard, unless another protocol is given (02: mouse, 00: other)."""
        folder = f"sys/bus/usb/devices/{name}"
        self.write(f"{folder}/urbnum", str(requests)).write(f"{folder}:1.0/bInterfaceClass", interface)
        return self.write(f"{folder}:1.0/bInterfaceProtocol", protocol)

    def running(self, pid: int, name: str) -> "Board":
        """A process of this name."""
        return self.write(f"proc/{pid}/comm", name)

    def rail(self, chip: int, channel: int, *, label: str, milliamperes: object, millivolts: object) -> "Board":
        """A supply rail behind a current sensor that tells voltage and current."""
        folder = f"sys/class/hwmon/hwmon{chip}"
        self.write(f"{folder}/name", "ina3221").write(f"{folder}/in{channel}_label", label)
        self.write(f"{folder}/in{channel}_input", str(millivolts))
        return self.write(f"{folder}/curr{channel}_input", str(milliamperes))

    def energy_counter(self, number: int, name: str, *, microjoules: object, wraps_at: object = 2**38) -> "Board":
        """An energy counter of an x86 processor."""
        folder = f"sys/class/powercap/intel-rapl:{number}"
        self.write(f"{folder}/name", name).write(f"{folder}/max_energy_range_uj", str(wraps_at))
        return self.write(f"{folder}/energy_uj", str(microjoules))

    def terminal(self, name: str, *, idle_seconds: float) -> "Board":
        """A terminal that was used so many seconds ago."""
        path = self.root / "dev" / name
        self.write(f"dev/{name}", "")
        used = time.time() - idle_seconds
        os.utime(path, (used, used))
        return self

    def interrupts(self, counts: Mapping[str, int]) -> "Board":
        lines = ["           CPU0       CPU1"]
        lines += [
            f" {number:3}: {count:10} {0:10}   IO-APIC   1-edge      {name}"
            for number, (name, count) in enumerate(counts.items(), 1)
        ]
        return self.write(
            "proc/interrupts", "\n".join([*lines, "NMI:          0          0   Non-maskable interrupts"])
        )

    def write(self, name: str, text: str | bytes) -> "Board":
        """Replace one file at once, as the kernel does: a reader sees the old content or the new."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".fresh")
        fresh.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
        fresh.replace(path)
        return self

    def remove(self, name: str) -> "Board":
        (self.root / name).unlink()
        return self
