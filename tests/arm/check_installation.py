"""Is the project installed as on a real board? Runs inside the root, emulated; prints the versions in one line."""

import ctypes
import importlib.util
import platform
import sys
from importlib.metadata import PackageNotFoundError, distribution, distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

AT_HWCAP = 16
HWCAP = {0: "fp", 1: "asimd", 7: "crc32", 8: "atomics", 9: "fphp", 10: "asimdhp", 12: "asimdrdm", 20: "asimddp"}
"""Bits of aarch64's asm/hwcap.h that tell the processors apart."""


def unmet(name: str, seen: set[str]) -> list[str]:
    """Return what `name` requires on this very machine and does not find, all the way down."""
    seen.add(name.lower())
    wrong = []
    for text in distribution(name).requires or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{name} requires {wanted.name}, which is missing")
            continue
        if found not in wanted.specifier:
            wrong.append(f"{name} requires {text}, found {found}")
        if platform.python_version() not in SpecifierSet(distribution(wanted.name).metadata["Requires-Python"] or ""):
            wrong.append(f"{wanted.name} {found} is not for Python {platform.python_version()}")
        if wanted.name.lower() not in seen:
            wrong += unmet(wanted.name, seen)
    return wrong


def processor_features() -> set[str]:
    """Return which of `HWCAP` this processor has."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    bits = getauxval(AT_HWCAP)
    return {name for bit, name in HWCAP.items() if bits >> bit & 1}


def main() -> None:
    if platform.machine() != "aarch64":
        sys.exit(f"this is {platform.machine()}, not aarch64")
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii")
    line = next(line for line in cpuinfo.splitlines() if line.startswith("Features"))
    wanted = set(line.split()) & set(HWCAP.values())
    if wanted != (found := processor_features()):
        sys.exit(f"the processor has {sorted(found)}; the one that was asked for has {sorted(wanted)}")
    names = {str(each.metadata["Name"]).lower().replace("_", "-") for each in distributions()}
    training = [name for name in names if name.startswith("onnxruntime-training")]
    wrong = [*unmet("mmd-daemon", set()), *(f"{name} is installed" for name in training)]
    import onnxruntime

    if importlib.util.find_spec("onnxruntime.training") is not None:
        wrong.append("onnxruntime.training can be imported")
    if wrong:
        sys.exit("; ".join(wrong))
    print(f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, numpy {version('numpy')}")


if __name__ == "__main__":
    main()
