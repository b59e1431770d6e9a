"""What do the sensors of the demonstration's board say? A `/sys`, `/proc` and `/dev` tree with settable readings.

Only the sensors are simulated: the daemon that reads them is the real one, told by `daemon.sys_root` to look here.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from mmd.durable import write_bytes

_MILLI = 1000


@dataclass(frozen=True)
class SimulatedBoard:
    """A phone-class board with a charger, a battery, one thermal zone and one terminal, under `root`."""

    root: Path

    def create(self) -> None:
        """Build the tree: charging at 90 %, 45 degrees, 2 GiB available, untouched for an hour."""
        self.plug(is_charging=True)
        self.set_battery(percent=90)
        self.set_temperature(celsius=45.0)
        self._write("proc/meminfo", f"MemTotal: {4 << 20} kB\nMemAvailable: {2 << 20} kB\n")
        self._write("proc/interrupts", "           CPU0\n  1:        100   GIC  keyboard\n")
        terminal = self.root / "dev" / "tty1"
        self._write("dev/tty1", "")
        hour_ago = time.time() - 3600
        os.utime(terminal, (hour_ago, hour_ago))

    def plug(self, *, is_charging: bool) -> None:
        """Connect or disconnect the charger."""
        self._write("sys/class/power_supply/usb/type", "USB")
        self._write("sys/class/power_supply/usb/online", "1" if is_charging else "0")
        self._write("sys/class/power_supply/battery/status", "Charging" if is_charging else "Discharging")

    def set_battery(self, *, percent: int) -> None:
        self._write("sys/class/power_supply/battery/type", "Battery")
        self._write("sys/class/power_supply/battery/present", "1")
        self._write("sys/class/power_supply/battery/capacity", str(percent))

    def set_temperature(self, *, celsius: float) -> None:
        self._write("sys/class/thermal/thermal_zone0/type", "cpu-thermal")
        self._write("sys/class/thermal/thermal_zone0/temp", str(int(celsius * _MILLI)))

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, f"{text}\n".encode())
