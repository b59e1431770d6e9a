"""Is the service manager heard when it wants memory back, in each form that its protocol has?"""

import os
import selectors
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmd.conditions.events import Unavailable
from mmd.conditions.events.listen import openers
from mmd.conditions.events.memory_watch import MemoryWatch, watched_path, words_to_write
from mmd.limits import ConditionsConfig, MemoryPressure

NOBODY_WAITS = b"some 1999999 2000000\0"
SOMEBODY_WAITS = b"some 100000 2000000\0"


def is_readable(source: MemoryWatch, *, within: float = 0.0) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(source.fileno(), selectors.EVENT_READ)
        return bool(selector.select(within))


def test_a_fifo_is_written_to_first_and_each_word_of_it_wakes_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    other_end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    watch = MemoryWatch(fifo, b"please", 20.0)
    assert os.read(other_end, 100) == b"please"
    assert not is_readable(watch)
    os.write(other_end, b"x")
    assert is_readable(watch)
    assert watch.take() is True
    assert not is_readable(watch)
    watch.close()
    os.close(other_end)


def test_a_socket_is_written_to_first_and_its_end_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        watch = MemoryWatch(tmp_path / "socket", b"please", 20.0)
        other_end, _ = listener.accept()
        assert other_end.recv(100) == b"please"
        assert not is_readable(watch)
        other_end.send(b"x")
        assert watch.take() is True
        other_end.close()
        assert is_readable(watch)
        with pytest.raises(OSError, match="gone"):
            watch.take()
        watch.close()


def test_a_pressure_file_of_the_kernel_wakes_when_its_trigger_fires_and_not_before() -> None:
    """The one of the processor: this memory is not to get short for a test."""
    file = Path("/proc/pressure/cpu")
    if not os.access(file, os.W_OK):
        pytest.skip(f"{file} is not there or takes no trigger, so the kernel tells no pressure here")
    quiet, watch = MemoryWatch(file, NOBODY_WAITS, 20.0), MemoryWatch(file, SOMEBODY_WAITS, 20.0)
    assert not is_readable(quiet)
    one = min(os.sched_getaffinity(0))
    busy = f"import os\nos.sched_setaffinity(0, [{one}])\nwhile True: pass"
    children = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2)]
    try:
        assert is_readable(watch, within=60.0)
        assert watch.take() is True
    finally:
        for child in children:
            child.kill()
            child.wait()
        quiet.close()
        watch.close()


def test_what_cannot_be_watched_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"cannot open .*/nothing \(No such file or directory\)"):
        MemoryWatch(tmp_path / "nothing", b"", 20.0)
    plain = tmp_path / "plain"
    plain.write_text("some avg10=0.00")
    with pytest.raises(Unavailable, match="does not take what the service manager wants written"):
        MemoryWatch(plain, b"some", 20.0)
    with pytest.raises(Unavailable, match="no base64"):
        words_to_write({"MEMORY_PRESSURE_WRITE": "%%%"})


def test_the_environment_says_what_to_watch_and_what_to_write() -> None:
    assert watched_path({}) is None
    assert watched_path({"MEMORY_PRESSURE_WATCH": "/dev/null"}) is None
    assert watched_path({"MEMORY_PRESSURE_WATCH": "/run/fifo"}) == Path("/run/fifo")
    assert words_to_write({}) == b""
    assert words_to_write({"MEMORY_PRESSURE_WRITE": "cGxlYXNl"}) == b"please"


def test_it_is_watched_under_any_root_and_counts_as_beyond_the_stop_level(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    environment = {"MEMORY_PRESSURE_WATCH": str(tmp_path / "fifo")}
    (opener,) = openers(tmp_path, ConditionsConfig(), environment).values()
    watch = opener()
    assert isinstance(watch, MemoryWatch)
    assert ConditionsConfig().memory_pressure.stop_percent < watch.percent <= 100
    watch.close()
    never = ConditionsConfig(memory_pressure=MemoryPressure(stop_percent=100.0))
    assert openers(tmp_path, never, environment) == {}
