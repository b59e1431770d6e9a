"""How often have keyboards, mice, touch panels and buttons reported? A count of which only the moves matter.

1. Devices with an interrupt of their own are found by its name in `/proc/interrupts`, and counted in `/proc/stat`,
   which costs a fifth and does not grow with the processors.
2. USB devices share the interrupt of their controller with disks and networks. The kernel counts the requests to each
   (`urbnum` in sysfs), and every report of a keyboard is the answer to one. Only keyboards, mice and touch panels are
   asked: a game pad or a UPS reports although nobody touches it.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mmd.conditions.reading import MOST_DIGITS, list_folder, parse_integer, read_integer, read_text

# On text in lower case: ignoring the case instead takes ten times as long, every second.
_INPUT_INTERRUPT = re.compile(r"i8042|keyboard|kbd|mouse|touch|gpio-keys|power.?button")
_HUMAN_INTERFACE = "03"
_KEYBOARD_OR_MOUSE = ("01", "02")
_DIRECT = 1 << 1  # INPUT_PROP_DIRECT: what is touched is where it shows


class InputDevices(msgspec.Struct, frozen=True):
    """Which there are, so that not every look must search for them."""

    lines: tuple[int, ...] | None
    """The numbers of their interrupts; `None` where one has no number."""
    usb: tuple[str, ...]
    """Their folders."""


def count_reports(root: Path, known: InputDevices | None) -> tuple[int | None, InputDevices]:
    """Return the count of all devices together, and which they are; `None` without any. Give `None` to search anew."""
    usb = tuple(_usb_devices(root)) if known is None else known.usb
    lines = None if known is None else known.lines
    count = _count_of(lines, read_text(f"{root}/proc/stat") or "") if lines else None
    if lines is None or (lines and count is None):
        lines, count = _input_interrupts(read_text(f"{root}/proc/interrupts") or "")
    for device in usb:
        count = (count or 0) + (read_integer(f"{device}/urbnum") or 0)
    return count, InputDevices(lines, usb)


def _count_of(lines: Sequence[int], text: str) -> int | None:
    """Sum the counts of these lines as `/proc/stat` has them: of all processors, in the order of their numbers."""
    begin = text.find("\nintr ")
    counts = text[begin + 1 : text.find("\n", begin + 1)].split()[2:] if begin >= 0 else []
    if len(counts) <= max(lines):
        return None
    return sum(parse_integer(counts[line]) or 0 for line in lines)


def _input_interrupts(text: str) -> tuple[tuple[int, ...] | None, int | None]:
    """Return the numbers of all input lines, and the sum of their counts over all processors.

    The sum is `None` when there is no such line; the numbers are when one of them has none.
    """
    total: int | None = None
    numbers: list[int] = []
    is_numbered = True
    for line in text.lower().splitlines():
        number, colon, rest = line.partition(":")
        if not colon or not _INPUT_INTERRUPT.search(rest):
            continue
        counts = 0
        for word in rest.split():
            if not word.isdigit() or len(word) > MOST_DIGITS:
                break
            counts += int(word)
        total = (total or 0) + counts
        line_number = parse_integer(number.strip())
        is_numbered = is_numbered and line_number is not None and line_number >= 0
        numbers += [line_number] if line_number is not None else []
    return tuple(numbers) if is_numbered else None, total


def _usb_devices(root: Path) -> Iterator[str]:
    """Yield the folder of each USB device that has a keyboard, a mouse or a touch panel."""
    listing = f"{root}/sys/bus/usb/devices"
    found = dict.fromkeys(
        name.partition(":")[0] for name in list_folder(listing) if ":" in name and _is_for_hands(f"{listing}/{name}")
    )
    yield from (f"{listing}/{device}" for device in found)


def _is_for_hands(interface: str) -> bool:
    if read_text(f"{interface}/bInterfaceClass") != _HUMAN_INTERFACE:
        return False
    return read_text(f"{interface}/bInterfaceProtocol") in _KEYBOARD_OR_MOUSE or any(
        _is_direct(f"{interface}/{driver}/input/{device}/properties")
        for driver in list_folder(interface)
        if ":" in driver
        for device in list_folder(f"{interface}/{driver}/input")
    )


def _is_direct(file: str) -> bool:
    """Return whether the properties of an input device, in hexadecimal, are those of a touch panel."""
    word = (read_text(file) or "0").split(" ")[-1]
    try:
        return bool(int(word[:MOST_DIGITS], 16) & _DIRECT)
    except ValueError:
        return False
