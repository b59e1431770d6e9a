"""Does the daemon know what other programs use of the processors, and leave out what is its own?"""

from pathlib import Path

import pytest
from tests.fakes.board import Board

from mmd.conditions import Instant
from mmd.conditions.cpu_used_by_others import ProcessorTimes, read

OWN, TRAINER = 100, 200


class Looks:
    """Looks at a board once a second unless told otherwise."""

    def __init__(self, root: Path) -> None:
        self.board = Board(root, is_bare=True)
        self.work = self.idle = 0
        self.now = 0.0
        self.times: ProcessorTimes | None = None

    def look(self, *, work: int = 0, idle: int = 0, seconds: float = 1.0) -> float | None:
        """Let the processors work and rest for so many ticks, and look."""
        self.work, self.idle, self.now = self.work + work, self.idle + idle, self.now + seconds
        self.board.processors(work=self.work, idle=self.idle)
        at = Instant(wall=1e9 + self.now, monotonic=self.now)
        reading, self.times = read(self.board.root, at, self.times, [OWN, TRAINER])
        assert reading.problems == ()
        return reading.value


@pytest.fixture
def looks(tmp_path: Path) -> Looks:
    return Looks(tmp_path / "root")


def test_it_takes_two_looks(looks: Looks) -> None:
    assert looks.look(work=100) is None
    assert looks.look(work=100, idle=100) == 50.0


def test_what_the_daemon_and_its_trainer_use_is_left_out(looks: Looks) -> None:
    looks.board.process(OWN, ticks=5).process(TRAINER, ticks=1000)
    looks.look()
    looks.board.process(OWN, ticks=10).process(TRAINER, ticks=1085)
    assert looks.look(work=100, idle=100) == 5.0


def test_a_trainer_that_ends_does_not_look_like_somebody_else(looks: Looks) -> None:
    looks.board.process(OWN, ticks=5).process(TRAINER, ticks=1000)
    looks.look()
    looks.board.process(OWN, ticks=5, children_ticks=1100).remove(f"proc/{TRAINER}/stat")
    assert looks.look(work=100, idle=100) == 0.0


def test_a_name_with_spaces_and_parentheses_is_read_over(looks: Looks) -> None:
    looks.board.process(OWN, ticks=0, name="a) R 1 (b c").process(TRAINER, ticks=0)
    looks.look()
    looks.board.process(OWN, ticks=50, name="a) R 1 (b c")
    assert looks.look(work=100, idle=100) == 25.0


def test_a_short_burst_decides_nothing_and_a_long_one_does(looks: Looks) -> None:
    looks.look()
    looks.look(idle=200)
    assert (looks.look(work=200) or 0) < 30
    for _ in range(20):
        looks.look(work=200)
    assert (looks.look(work=200) or 0) > 90


def test_waiting_for_a_disk_is_no_use_of_a_processor(looks: Looks) -> None:
    looks.look()
    looks.board.write("proc/stat", "cpu  0 0 0 50 150 0 0 0 0 0")
    reading, _ = read(looks.board.root, Instant(wall=2.0, monotonic=2.0), looks.times, [])
    assert reading.value == 0.0


def test_counters_that_go_back_or_stand_still_keep_the_value(looks: Looks) -> None:
    looks.look()
    assert looks.look(work=50, idle=50) == 50.0
    assert looks.look() == 50.0
    looks.work = 10
    assert looks.look() == 50.0


@pytest.mark.parametrize(
    "text", ["", "cpu", "cpu 1 2 3", "cpu a b c d e f g h", "intr 5", f"cpu {'9' * 5000} 2 3 4 5 6 7 8"]
)
def test_counters_that_cannot_be_read_are_named(tmp_path: Path, text: str) -> None:
    board = Board(tmp_path / "root", is_bare=True).write("proc/stat", text)
    reading, times = read(board.root, Instant(wall=1.0, monotonic=1.0), None, [])
    assert (reading.value, times) == (None, None)
    assert reading.problems == ("/proc/stat has no line cpu",)


def test_a_board_that_tells_no_times_has_no_limit(tmp_path: Path) -> None:
    board = Board(tmp_path / "root", is_bare=True)
    reading, _ = read(board.root, Instant(wall=1.0, monotonic=1.0), None, [])
    assert (reading.value, reading.problems) == (None, ())
