"""How is a machine with a kernel of its own booted, so that control groups, pressure and uevents are real?

The root of `tests.system.booted` becomes a disk, Debian's kernel is kept in the cache, and QEMU emulates the processor:
it needs no privilege of the machine below, only minutes. Commands go over the second serial line.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.arm.machine import CannotRun, last_line
from tests.arm.roots import Prepared, key_of
from tests.support import Ran
from tests.system.booted import INCOMING, SUITE, Inside, cache_folder, unpack_debian

_INCOMING_ON_DISK = "opt/incoming"

KERNEL_PACKAGES = ("linux-image-amd64", "initramfs-tools")
BOOT_SECONDS, ANSWER_SECONDS = 600.0, 600.0
_DISK_MIB, _MEMORY_MIB = 1500, 1200
_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs", "mmdebstrap": "mmdebstrap"}
_ANSWER = b"answer "
_APPEND = "root=/dev/vda rw quiet panic=-1 console=ttyS0 systemd.mask=serial-getty@ttyS0.service"

AGENT = """\
import json, os, subprocess, tty
line = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
tty.setraw(line)

def say(*answer):
    told = b"answer " + json.dumps(answer).encode() + b"\\n"
    while told:
        told = told[os.write(line, told):]

say(0, 0, "", "")
waiting = b""
while True:
    waiting += os.read(line, 65536)
    *questions, waiting = waiting.split(b"\\n")
    for number, *command in map(json.loads, questions):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        say(number, done.returncode, done.stdout, done.stderr)
"""
UNIT = """\
[Unit]
Description=Runs the commands of a test
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/agent.py
[Install]
WantedBy=multi-user.target
"""


def kernel() -> Path:
    """Return a folder with `vmlinuz` and `initrd`, made on first use. Raises `CannotRun`."""
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise CannotRun(f"it needs `apt-get install {' '.join(missing)}`")
    folder = cache_folder() / f"kernel-{SUITE}-{key_of(KERNEL_PACKAGES)}"
    if folder.is_dir():
        return folder
    with Prepared(folder) as prepared:
        root = prepared / "root"
        unpack_debian(KERNEL_PACKAGES, root)
        for name in ("vmlinuz", "initrd"):
            (found,) = (root / "boot").glob(f"{name}*")
            found.rename(prepared / name)
        shutil.rmtree(root)
    return folder


class VirtualMachine(Inside):
    """One machine of its own; its plug is pulled."""

    def __init__(self, root: Path, incoming: Path, folder: Path) -> None:
        """Make its disk in `folder`. Raises `CannotRun`."""
        self._kernel, self._folder, self._asked = kernel(), folder, 0
        tree, disk = folder / "tree", folder / "disk"
        # Not by Python: it would read the devices in there.
        subprocess.run(["cp", "-a", str(root), str(tree)], check=True)
        shutil.copytree(incoming, tree / _INCOMING_ON_DISK)
        (tree / "usr/local/lib/agent.py").write_text(AGENT)
        units = tree / "etc/systemd/system"
        (units / "agent.service").write_text(UNIT)
        (units / "multi-user.target.wants").mkdir(exist_ok=True)
        (units / "multi-user.target.wants/agent.service").symlink_to("../agent.service")
        made = ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", str(tree), str(disk), f"{_DISK_MIB}M"]
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        shutil.rmtree(tree)
        if done.returncode != 0:
            raise CannotRun(f"mke2fs made no disk: {last_line(done.stderr)}")

    def start(self) -> None:
        self._line_file = self._folder / "line"
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(_MEMORY_MIB)]
        command += ["-nodefaults", "-display", "none", "-no-reboot", "-append", _APPEND]
        command += ["-kernel", str(self._kernel / "vmlinuz"), "-initrd", str(self._kernel / "initrd")]
        command += ["-drive", f"file={self._folder / 'disk'},if=virtio,format=raw"]
        command += ["-serial", f"file:{self._folder / 'console'}"]
        command += ["-serial", f"unix:{self._line_file},server=on,wait=off"]
        self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def wait_until_up(self) -> None:
        self._line = self._connected(self._line_file)
        self._answer(within=BOOT_SECONDS)
        self.run("systemctl", "is-system-running", "--wait")
        self.check("sh", "-c", f"mkdir -p {INCOMING} && cp /{_INCOMING_ON_DISK}/* {INCOMING}")

    def switch_off(self) -> None:
        self._qemu.kill()
        self._qemu.wait()

    def _connected(self, path: Path) -> socket.socket:
        deadline = time.monotonic() + BOOT_SECONDS
        while self._qemu.poll() is None and time.monotonic() < deadline:
            line = socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError):
                line.connect(str(path))
                return line
            line.close()
            time.sleep(0.1)
        assert self._qemu.stderr is not None
        self._qemu.kill()
        raise CannotRun(f"QEMU does not start here: {last_line(self._qemu.stderr.read())}")

    def run(self, *command: str) -> Ran:
        self._asked += 1
        self._line.settimeout(ANSWER_SECONDS)
        self._line.sendall(json.dumps([self._asked, *command]).encode() + b"\n")
        return self._answer(within=ANSWER_SECONDS)

    def _answer(self, *, within: float) -> Ran:
        """Wait for the answer to the last question; before the first, for the word that the machine listens."""
        deadline, received = time.monotonic() + within, b""
        self._line.settimeout(within)
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                received += self._line.recv(65536)
            *lines, received = received.split(b"\n")
            for line in lines:
                if line.startswith(_ANSWER):
                    number, *answer = json.loads(line.removeprefix(_ANSWER))
                    if number == self._asked:
                        return Ran(*answer)
        raise CannotRun(f"the machine does not answer within {within:g} s")
