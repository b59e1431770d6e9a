"""Is a resource getting short right now? A trigger of the kernel's pressure stall information, `psi(7)`.

The averages that are read lag behind by seconds; a trigger tells when tasks stood still for more than a share of two
seconds. Two seconds is the shortest window that the kernel grants everybody; older kernels grant none.
"""

import os
import select
from pathlib import Path

from mmd.conditions.events.source import Unavailable
from mmd.conditions.pressure import pressure_files

WINDOW_MICROSECONDS = 2_000_000


class PressureTrigger:
    """Tells when tasks waited for `resource` for more than `percent` of the last two seconds."""

    def __init__(self, root: Path, resource: str, percent: float) -> None:
        """Arm the trigger. Raises `Unavailable` where there is no such file, or the kernel refuses."""
        self.name = f"{resource} pressure trigger"
        self.resource = resource
        microseconds = int(WINDOW_MICROSECONDS * percent / 100) + 1
        self.percent = 100.0 * microseconds / WINDOW_MICROSECONDS
        """A hair above the one asked for: what it passes is beyond the level."""
        if microseconds >= WINDOW_MICROSECONDS:
            raise Unavailable("its stop level is 100 %, which is never passed")
        file = next((file for file in pressure_files(root, resource) if Path(file).exists()), None)
        if file is None:
            raise Unavailable("this kernel tells no pressure")
        try:
            self._file = os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Unavailable(f"cannot open {file} for writing ({error.strerror})") from error
        # The kernel marks such a file readable at all times and urgent when the trigger fires, once for each time
        # somebody asks: a poll of its own turns that into something the loop can wait on.
        self._poll = select.epoll()
        try:
            os.write(self._file, f"some {microseconds} {WINDOW_MICROSECONDS}\0".encode())
            self._poll.register(self._file, select.EPOLLPRI)
        except OSError as error:
            self.close()
            raise Unavailable(f"the kernel refuses a trigger on {file} ({error.strerror})") from error

    def fileno(self) -> int:
        return self._poll.fileno()

    def take(self) -> bool:
        """Being woken is the event: the loop's look at it has taken it already. Raises `OSError` for a dead group."""
        for _, events in self._poll.poll(0):
            if events & select.EPOLLERR:
                raise OSError(None, "its control group is gone")
        return True

    def close(self) -> None:
        self._poll.close()
        os.close(self._file)
