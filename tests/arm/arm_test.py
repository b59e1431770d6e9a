"""Does the product work on a board's processor? Runs it in emulated aarch64 roots and compares with this machine.

Exit code: 0 when every step of every case passed, or when this machine cannot run it (a line says why); else 1.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.arm import machine, parity, roots
from tests.arm.case import INT8_OUT, OUT, REFERENCE

REPOSITORY = Path(__file__).resolve().parents[2]
ROW = "{:<9} {:<11} {:<13} {:>7}  {}"
NICENESS = 10


@dataclass(frozen=True)
class Case:
    """A Debian, and the processor that it runs on."""

    suite: str
    cpu: str


FULL = (
    Case("trixie", "cortex-a53"),
    Case("trixie", "cortex-a72"),
    Case("trixie", "cortex-a76"),
    Case("bookworm", "cortex-a72"),
)
QUICK = (Case("trixie", "cortex-a72"),)
SHORT = ("installation", "steps")
"""What `--short` runs of a case."""


@dataclass
class Tally:
    steps: int = 0
    failed: int = 0


def run(cases: tuple[Case, ...], cache: Path, mirror: machine.Mirror | None) -> Tally:
    """Install the project for every case, and run the reference and the cases one after the other.

    Without a mirror: the short form, with the roots and wheels that are there.
    """
    tally = Tally()
    with _locked(cache, waits=mirror is not None), tempfile.TemporaryDirectory(prefix="run-", dir=cache) as scratch:
        here = Path(scratch)
        built = roots.wheel(REPOSITORY, here)
        product = roots.unpacked(built, here / "product")
        made = {case.suite: _installed(cache, case.suite, built, mirror) for case in cases}
        batches = here / "batches.npz"
        parity.write_batches(product / "mmd/shipped/set", batches)
        print(ROW.format("root", "cpu", "step", "seconds", "result"), flush=True)
        common = [f"--product={product}", *(["--only", *SHORT] if mirror is None else [])]
        work = _work_folder(here / "x86", batches)
        _follow([*common, f"--work={work}"], [], Case("host", "x86-64"), tally)
        references = [work / name for name in (OUT, INT8_OUT) if (work / name).exists()]
        for case in cases:
            work = _work_folder(here / f"{case.suite}-{case.cpu}", batches)
            for reference in references:
                shutil.copy(reference, work / REFERENCE)
            places = [f"--{name}={path}" for name, path in made[case.suite].items()]
            _follow([*common, *places, f"--work={work}", f"--cpu={case.cpu}"], machine.NAMESPACE, case, tally)
    return tally


def _installed(cache: Path, suite: str, built: Path, mirror: machine.Mirror | None) -> dict[str, Path]:
    bytecode = cache / f"bytecode-{suite}"
    bytecode.mkdir(exist_ok=True)
    return {
        "root": roots.debian_root(cache, suite, mirror),
        "dependencies": roots.dependencies(cache, built, roots.PYTHONS[suite], may_fetch=mirror is not None),
        "bytecode": bytecode,
    }


def _work_folder(folder: Path, batches: Path) -> Path:
    (folder / REFERENCE).mkdir(parents=True)
    shutil.copy(batches, folder / "batches.npz")
    return folder


def _follow(arguments: list[str], namespace: list[str], case: Case, tally: Tally) -> None:
    """Run one case and show its steps as they end."""
    command = [*namespace, sys.executable, "-m", "tests.arm.case", *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            step = json.loads(line)
            said = step["said"] if step["passed"] else f"FAILED: {step['said']}"
            tally.steps += 1
            tally.failed += not step["passed"]
            print(ROW.format(case.suite, case.cpu, step["step"], f"{step['seconds']:.1f}", said), flush=True)
    if process.returncode != 0:
        tally.failed += 1
        print(ROW.format(case.suite, case.cpu, "", "", f"FAILED: the case ended with {process.returncode}"))


@contextlib.contextmanager
def _locked(cache: Path, *, waits: bool) -> Iterator[None]:
    """Keep a second run from making the same roots. Raises `CannotRun` where it does not wait for the first."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            raise machine.CannotRun(f"another run is using {cache}") from None
        yield


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmd-arm"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/arm/arm_test.py", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--quick", action="store_true", help="Debian trixie on a Cortex-A72 alone.")
    form.add_argument(
        "--short", action="store_true", help="Of it only the installation and the steps, with what an earlier run left."
    )
    parser.add_argument("--cache", type=Path, default=_default_cache(), help="Roots and wheels [default: %(default)s].")
    options = parser.parse_args()
    os.nice(NICENESS)
    started = time.monotonic()
    try:
        mirror = None if options.short else machine.prepare()
        if options.short:
            machine.require_ready()
        tally = run(QUICK if options.quick or options.short else FULL, options.cache.resolve(), mirror)
    except machine.CannotRun as reason:
        print(f"skipped: {reason}")
        return 0
    except roots.BuildFailed as failure:
        print(f"failed: {failure}")
        return 1
    outcome = f"{tally.failed} failed" if tally.failed else "all passed"
    print(f"{tally.steps} steps, {outcome}, {time.monotonic() - started:.0f} s")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
