"""Do events wake the loop, and does one that is missing or dies cost nothing but a line in the log?"""

import logging
import os
import selectors
from pathlib import Path

import pytest

from mmd.conditions.events import Events, Unavailable
from mmd.conditions.events.listen import openers
from mmd.limits import ConditionsConfig


class Pipe:
    """A source that tests write to."""

    def __init__(self, name: str = "pipe") -> None:
        self.name = name
        self.read, self.write = os.pipe()
        self.is_dead = self.is_closed = False

    def fileno(self) -> int:
        return self.read

    def take(self) -> bool:
        if self.is_dead:
            raise OSError(5, "it fell over")
        return os.read(self.read, 10) == b"look"

    def close(self) -> None:
        self.is_closed = True
        os.close(self.read)
        os.close(self.write)


class Loop:
    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.looks = 0
        self.events = Events(self.selector, self.look)

    def look(self) -> None:
        self.looks += 1

    def turn(self) -> None:
        for key, _ in self.selector.select(0):
            key.data()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_an_event_asks_for_a_look(loop: Loop) -> None:
    pipe = Pipe()
    loop.events.listen({"pipe": lambda: pipe})
    loop.turn()
    assert loop.looks == 0
    os.write(pipe.write, b"look")
    loop.turn()
    assert loop.looks == 1
    os.write(pipe.write, b"other")
    loop.turn()
    assert loop.looks == 1


def test_a_source_that_is_missing_is_said_once(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    def missing() -> Pipe:
        raise Unavailable("the sandbox forbids it")

    with caplog.at_level(logging.INFO):
        for _ in range(3):
            loop.events.listen({"uevents": missing})
    assert caplog.messages == ["no uevents: the sandbox forbids it; the poll goes on without it"]
    assert loop.events.names == ()


def test_a_source_that_dies_is_said_once_and_closed_and_the_others_go_on(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    dying, living = Pipe("dying"), Pipe("living")
    loop.events.listen({"dying": lambda: dying, "living": lambda: living})
    dying.is_dead = True
    os.write(dying.write, b"x")
    with caplog.at_level(logging.INFO):
        loop.turn()
        loop.turn()
    assert caplog.messages == ["the dying is gone: it fell over; the poll goes on without it"]
    assert dying.is_closed
    assert loop.events.names == ("living",)
    assert loop.looks == 1, "nobody knows what was missed"
    os.write(living.write, b"look")
    loop.turn()
    assert loop.looks == 2


def test_listening_anew_closes_what_was_open(loop: Loop) -> None:
    first, second = Pipe(), Pipe()
    loop.events.listen({"pipe": lambda: first})
    loop.events.listen({"pipe": lambda: second})
    assert (first.is_closed, second.is_closed) == (True, False)
    loop.events.close()
    assert second.is_closed
    assert not loop.selector.get_map()


def test_a_root_that_stands_in_for_the_machine_has_no_events(tmp_path: Path) -> None:
    assert openers(tmp_path, ConditionsConfig()) == {}
    assert set(openers(Path("/"), ConditionsConfig())) == {
        "uevents",
        "system bus",
        "cpu pressure trigger",
        "memory pressure trigger",
        "io pressure trigger",
    }


def test_whatever_this_machine_has_opens_and_closes_without_harm(loop: Loop) -> None:
    loop.events.listen(openers(Path("/"), ConditionsConfig()))
    assert loop.events.sessions == () or loop.events.names
    loop.turn()
    loop.events.close()
    assert not loop.selector.get_map()


def test_no_alarm_is_taken_twice(loop: Loop) -> None:
    assert loop.events.take_alarms() == {}
