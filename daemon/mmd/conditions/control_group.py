"""In which control groups does this process live? Every folder from the root of the hierarchy down to its own."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from mmd.conditions.reading import read_text

SUPERVISOR_GROUP = "supervisor"
"""The group that the daemon moves into where its service's own may be divided; its trainer gets one beside it."""


class ControlGroup(msgspec.Struct, frozen=True):
    version: int
    folder: str
    name: str
    """As `/proc/self/cgroup` names it."""


def own_groups(root: Path, controller: str) -> Iterator[ControlGroup]:
    """Yield the groups of version 2, and those of version 1 that have `controller`; the outermost first."""
    for line in (read_text(f"{root}/proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            version, base = 2, f"{root}/sys/fs/cgroup"
        elif controller in controllers.split(","):
            version, base = 1, f"{root}/sys/fs/cgroup/{controller}"
        else:
            continue
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            yield ControlGroup(version, "/".join([base, *parts[:depth]]), "/" + "/".join(parts[:depth]))
