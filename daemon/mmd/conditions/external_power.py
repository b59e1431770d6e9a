"""Does the board run from the wall? Read from every `/sys/class/power_supply` type.

1. A system battery (or UPS) that says Discharging means no, even while a supply claims to be online:
   a charger that is too weak drains the battery all the same.
2. A Mains, USB or Wireless supply that is online means yes.
3. A battery that says Charging, Full or Not charging means yes.
4. No battery: a Mains supply that says offline means no; otherwise the board is powered, since it runs.
   (Boards list USB ports that are offline while a barrel plug feeds them.)
5. A battery, and nothing readable that says where the power comes from: no, to be careful.
"""

from pathlib import Path

import msgspec

from mmd.conditions.reading import Reading, list_folder, read_integer, read_text, shown

SUPPLY_TYPES = ("Mains", "USB", "Wireless")
BATTERY_TYPES = ("Battery", "UPS")
POWERED_STATUSES = ("Charging", "Full", "Not charging")
KNOWN_STATUSES = ("Discharging", *POWERED_STATUSES, "Unknown")


class Supplies(msgspec.Struct, frozen=True):
    """The entries of `/sys/class/power_supply` that feed the board itself."""

    supplies: tuple[tuple[Path, str], ...]
    """(folder, type) of each Mains, USB and Wireless supply."""
    batteries: tuple[Path, ...]
    problems: tuple[str, ...]


def list_supplies(root: Path) -> Supplies:
    """Sort the power supplies by what they are; a mouse's battery (scope Device) and an empty bay are left out."""
    supplies: list[tuple[Path, str]] = []
    batteries: list[Path] = []
    problems: list[str] = []
    listing = f"{root}/sys/class/power_supply"
    for folder in (Path(listing, name) for name in list_folder(listing)):
        if not folder.is_dir() or read_text(folder / "scope") == "Device":
            continue
        kind = read_text(folder / "type")
        if kind is None:
            problems.append(f"{shown(root, folder / 'type')} cannot be read")
        elif kind in BATTERY_TYPES:
            if read_text(folder / "present") != "0":
                batteries.append(folder)
        elif kind.startswith(SUPPLY_TYPES):  # USB_PD, USB_C and their like are USB
            supplies.append((folder, "Mains" if kind == "Mains" else kind))
        elif kind != "BMS":
            problems.append(f"{shown(root, folder / 'type')} says {kind[:40]!r}, which is no known type")
    return Supplies(tuple(supplies), tuple(batteries), tuple(problems))


def read(root: Path, listed: Supplies | None = None) -> Reading[bool]:
    """Return whether external power feeds the board; the five cases are in the module's docstring."""
    listed = listed or list_supplies(root)
    problems = list(listed.problems)
    statuses = _battery_statuses(root, listed, problems)
    online, offline = _supply_states(root, listed, problems)
    draining = [name for name, status in statuses if status == "Discharging"]
    charging = [(name, status) for name, status in statuses if status in POWERED_STATUSES]

    def reading(value: bool, detail: str) -> Reading[bool]:
        return Reading(value, detail, tuple(problems))

    if draining:
        beside = f" although {online[0][0]} is online" if online else ""
        return reading(False, f"{draining[0]} is discharging{beside}")
    if online:
        return reading(True, f"{online[0][0]} ({online[0][1]}) is online")
    if charging:
        return reading(True, f"{charging[0][0]} says {charging[0][1]}")
    if not listed.batteries:
        mains = [name for name, kind in offline if kind == "Mains"]
        if mains:
            return reading(False, f"{mains[0]} (Mains) is offline")
        return reading(True, "no battery: the board is powered")
    return reading(False, "a battery, and nothing says where the power comes from")


def _battery_statuses(root: Path, listed: Supplies, problems: list[str]) -> list[tuple[str, str]]:
    statuses = []
    for folder in listed.batteries:
        status = read_text(folder / "status")
        if status in KNOWN_STATUSES:
            statuses.append((folder.name, status))
        else:
            said = "cannot be read" if status is None else f"says {status[:40]!r}, which is no battery status"
            problems.append(f"{shown(root, folder / 'status')} {said}")
    return statuses


def _supply_states(
    root: Path, listed: Supplies, problems: list[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (name, type) of the supplies that are online, and of those that are offline."""
    online, offline = [], []
    for folder, kind in listed.supplies:
        state = read_integer(folder / "online")
        if state in (1, 2):  # 2: a programmable supply
            online.append((folder.name, kind))
        elif state == 0:
            offline.append((folder.name, kind))
        else:
            problems.append(f"{shown(root, folder / 'online')} does not say 0 or 1")
    return online, offline
