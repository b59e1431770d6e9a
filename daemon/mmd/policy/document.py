"""What does `docs/conditions.md` say? It is written from the tables in the code.

`python -m mmd.policy.document > docs/conditions.md` writes it anew; a test holds that it is up to date.
"""

import sys
from typing import Any

from mmd.conditions.kinds import CONDITIONS
from mmd.limits import ConditionsConfig
from mmd.policy.decide import FORCED_OBEYS, SETTLE_SECONDS
from mmd.policy.levels import LEVELS
from mmd.policy.reasons import REASONS, Kind

_INTRODUCTION = """\
# When does training run?

<!-- Written by `python -m mmd.policy.document`; change the code, not this file. -->

Whenever there is something to learn and every condition below holds. `mmd why` says which one does not, since when, and
what would clear it; `mmd status` shows all of them.

A condition has a **start level**, which must be met for its **dwell** without a break before training starts or goes on
after a suspension, and a **stop level**. Crossing the stop level suspends training at once; between the two levels what
runs goes on and what waits keeps waiting, so that nothing flaps. A condition that held ever since the daemon looks
needs no dwell. What a sensor says that cannot be true is named in the log and in `mmd status`, and ignored.

## Conditions

Each has its table `[conditions.NAME]` in the configuration, with these keys and defaults.
"""

_AFTER_CONDITIONS = """\

The unit of a level is in its name. A condition that is met or not (external power, a program that wants the board for
itself, an hour of the week) has one level, and so have budgets.

External power is judged like this: a battery (or UPS) that is discharging means no, even when a supply claims to be
online; else a supply that is online means yes; else a battery that charges, is full or does not charge means yes.
Without any battery, mains that say offline mean no; everything else means yes. A battery that tells nothing beside
supplies that are offline means no.

Every thermal zone is held to its own limit: `stop_celsius`, or its lowest passive, hot or critical trip point less
`trip_margin_celsius`, whichever is lower; the start level comes down with it. Trip points below 40 °C, which no board
could keep to, are left out.

Somebody uses the board when a graphical session says so to logind, a terminal was typed on, or a keyboard, mouse, touch
panel or button reported: its interrupt in `/proc/interrupts`, or the `urbnum` of a USB device, moved. A session whose
desktop never told logind that it was idle is not asked; its keys are seen as reports. A board with none of the three is
headless and counts as idle; set `required = false` to train while it is used.

What other programs use of the processors is a mean over about five seconds; the daemon's own tree is left out of it, so
training never stops for its own sake. Pressure is the kernel's (`/proc/pressure`): the share of the last ten seconds in
which at least one program stood still for want of a processor, memory or a disk. The trainer may be that program:
it runs only when nobody else wants the processor, so beside others that keep all of them busy it waits, and yields.

Hours are windows like `"22:00-07:00"` or `"mon-fri 22:00-07:00"`, by the local clock; one that goes over midnight
belongs to the day on which it begins. Where daylight saving leaves an hour out, a window in it does not open; where it
repeats an hour, it opens twice. A run that reached `run_length.stop_minutes` is followed by a rest of `rest_minutes`;
an interruption of another kind begins a new run. The duty cycle is a bucket of `burst_minutes` that fills at
`share_percent` of the time and empties while training runs. Budgets begin anew at midnight of the local clock.

The power meter is the best that the board has: current sensors on its supply rails (hwmon), the energy counters of x86
processors (powercap, which the kernel shows to root only), or a battery that discharges. A day's energy is what it
counts while training runs, of the whole board.

Programs that want the board for themselves are named as `ps -o comm` shows them. The service does not see the programs
of others unless a drop-in says `ProtectProc=default`.

The board is looked at every `daemon.poll_seconds`, and four times a second while training runs. Where there are such
sources, events ask for a look at once: uevents of power supplies and thermal zones, triggers of the kernel's pressure
information (more than the stop level in two seconds), the signals of logind and UPower on the system bus, and systemd,
when it wants memory back (`MEMORY_PRESSURE_WATCH`, <https://systemd.io/MEMORY_PRESSURE/>; that counts as memory
pressure). A source that is missing is said once in the log, and by `mmd doctor`.

Suspended training stands still in its place and keeps its memory. It leaves, with a checkpoint, after
`daemon.suspend_grace_seconds`; at once where memory is short or wanted back, and where it was stopped in the middle of
reading or writing samples, which others would wait for. `mmd train` without a daemon looks at the conditions when it
begins; what it uses counts in the budgets.

All files are read under `daemon.sys_root`, which is `/`.

## Reasons

The codes are stable; `mmd why --json` and `mmd status --json` use them.
"""

_KINDS = {Kind.RESOURCE: "condition", Kind.USER: "owner", Kind.PACE: "pace", Kind.WORK: "work"}
_WITHOUT_UNIT = "required"


def conditions_document() -> str:
    """Return the whole document."""
    return "\n".join([_INTRODUCTION, *_condition_rows(), _AFTER_CONDITIONS, *_reason_rows(), _ending()])


def _condition_rows() -> list[str]:
    rows = ["| condition | read from | keys and defaults | without a sensor | reason |", "|---|---|---|---|---|"]
    defaults = ConditionsConfig()
    for name, kind in CONDITIONS.items():
        section = getattr(defaults, name)
        keys = ", ".join(_key(key, getattr(section, key)) for key in section.__struct_fields__)
        rows.append(f"| `{name}` | {kind.source} | {keys} | {kind.without} | `{LEVELS[name][0]}` |")
    return rows


def _key(name: str, default: Any) -> str:
    return f"`{name}` (none)" if default is None else f"`{name} = {_toml(default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else f"{value:g}"


def _reason_rows() -> list[str]:
    rows = ["| code | kind | training does not run because | `mmd train --force` |", "|---|---|---|---|"]
    for code, kind in REASONS.items():
        obeys = "obeys it" if code in FORCED_OBEYS else "ignores it"
        rows.append(f"| `{code}` | {_KINDS[kind.kind]} | {kind.meaning} | {obeys} |")
    return rows


def _ending() -> str:
    return f"""
With a *work* reason the daemon is `idle`; with others only it is `waiting`, or `suspended` when a round is open. That
round is finished whatever the *work* reasons and the cooldown say. A new one waits until no sample has arrived for
{SETTLE_SECONDS:g} s. `mmd train --force` ends an earlier `mmd pause`; a later one is obeyed.
"""


if __name__ == "__main__":
    sys.stdout.write(conditions_document())
