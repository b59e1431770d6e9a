"""Does the kernel tell of a device that changed?"""

import os
import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmd.conditions.events import Unavailable
from mmd.conditions.events.uevents import Uevents, subsystem_of

KICK = Path("/sys/class/mem/null/uevent")
"""Writing to it makes the kernel tell of /dev/null again."""


@pytest.fixture
def source() -> Iterator[Uevents]:
    try:
        uevents = Uevents({"mem"})
    except Unavailable as reason:
        pytest.skip(f"uevents of the kernel cannot be listened to here: {reason}")
    yield uevents
    uevents.close()


def is_readable(source: Uevents, *, within: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(source.fileno(), selectors.EVENT_READ)
        return bool(selector.select(within))


def test_the_subsystem_of_a_message_is_found() -> None:
    charger = b"change@/devices/x/power_supply/ac\0ACTION=change\0SUBSYSTEM=power_supply\0POWER_SUPPLY_ONLINE=0\0"
    assert subsystem_of(charger) == "power_supply"


@pytest.mark.parametrize("message", [b"", b"libudev\0\xfe\xed", b"SUBSYSTEM", b"\0" * 40])
def test_a_message_without_one_is_none(message: bytes) -> None:
    assert subsystem_of(message) is None


@pytest.mark.skipif(not os.access(KICK, os.W_OK), reason=f"{KICK} cannot be written, so no event can be made here")
def test_a_device_that_changes_wakes_the_loop_and_asks_for_a_look(source: Uevents) -> None:
    assert source.take() is False, "nothing has come"
    KICK.write_text("change")
    assert is_readable(source, within=60)
    assert source.take() is True
    assert source.take() is False


@pytest.mark.skipif(not os.access(KICK, os.W_OK), reason=f"{KICK} cannot be written, so no event can be made here")
def test_a_device_of_another_kind_asks_for_nothing(source: Uevents) -> None:
    other = Uevents({"power_supply"})
    try:
        KICK.write_text("change")
        assert is_readable(other, within=60)
        assert other.take() is False
    finally:
        other.close()
