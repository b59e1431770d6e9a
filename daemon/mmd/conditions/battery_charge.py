"""How full are the board's batteries together, in percent? `None` when it has none that can be read."""

from pathlib import Path

from mmd.conditions.external_power import Supplies, list_supplies
from mmd.conditions.reading import Reading, read_integer, shown

_LEVELS = (("energy_now", "energy_full"), ("charge_now", "charge_full"))


def read(root: Path, listed: Supplies | None = None) -> Reading[float]:
    """Weigh several batteries by their size where all of them tell it; otherwise take the lowest."""
    batteries = (listed or list_supplies(root)).batteries
    if not batteries:
        return Reading(None, "no battery")
    problems: list[str] = []
    percents: dict[str, float] = {}
    levels: list[tuple[str, int, int]] = []
    for folder in batteries:
        level = _level(folder)
        capacity = read_integer(folder / "capacity")
        if capacity is not None and 0 <= capacity <= 100:
            percents[folder.name] = float(capacity)
        elif level is not None:
            percents[folder.name] = 100.0 * level[1] / level[2]
            if capacity is not None:
                problems.append(f"{shown(root, folder / 'capacity')} says {capacity}, which is no percentage")
        else:
            problems.append(f"{shown(root, folder / 'capacity')} holds no percentage")
            continue
        if level is not None:
            levels.append(level)
    return _together(percents, levels, tuple(problems))


def _together(
    percents: dict[str, float], levels: list[tuple[str, int, int]], problems: tuple[str, ...]
) -> Reading[float]:
    if not percents:
        return Reading(None, "no battery tells its charge", problems)
    if len(percents) == 1:
        ((name, percent),) = percents.items()
        return Reading(percent, name, problems)
    if len(levels) == len(percents) and len({unit for unit, _, _ in levels}) == 1:
        percent = 100.0 * sum(now for _, now, _ in levels) / sum(full for _, _, full in levels)
        return Reading(percent, " and ".join(percents) + " together", problems)
    lowest = min(percents, key=lambda name: percents[name])
    return Reading(percents[lowest], f"{lowest}, the lowest of {len(percents)}", problems)


def _level(folder: Path) -> tuple[str, int, int] | None:
    """Return (unit, now, full) of a battery that tells them and does not contradict itself."""
    for now_name, full_name in _LEVELS:
        now, full = read_integer(folder / now_name), read_integer(folder / full_name)
        if now is not None and full is not None and full > 0 and 0 <= now <= full:
            return now_name, now, full
    return None
