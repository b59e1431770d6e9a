"""Where does each thing lie in the state folder?"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StateDir:
    """The state folder of one daemon; every other module asks it for its paths."""

    root: Path

    @property
    def samples_db(self) -> Path:
        return self.root / "samples.db"

    @property
    def cache_db(self) -> Path:
        """What was worked out about the samples; it may be removed at any time."""
        return self.root / "cache.db"

    @property
    def history_db(self) -> Path:
        return self.root / "history.db"

    @property
    def artifact_set(self) -> Path:
        return self.root / "set"

    @property
    def models(self) -> Path:
        """Holds `gen-0000`, `gen-0001`, ... and the link `current`."""
        return self.root / "models"

    @property
    def rounds(self) -> Path:
        """Holds one folder a round, `0001`, `0002`, ..."""
        return self.root / "rounds"

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def lock_file(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def control_socket(self) -> Path:
        return self.root / "control.sock"

    @property
    def serve_socket(self) -> Path:
        """Where `mmd serve` listens, unless told otherwise."""
        return self.root / "serve.sock"

    @property
    def hold_file(self) -> Path:
        """Present while the user holds training (`mmd pause`)."""
        return self.root / "held"

    @property
    def memory_file(self) -> Path:
        """What was learned from trainers that ran out of memory."""
        return self.root / "memory.json"

    @property
    def ledger_file(self) -> Path:
        """What training used, day by day."""
        return self.root / "ledger.json"

    @property
    def is_initialised(self) -> bool:
        return (self.artifact_set / "manifest.json").is_file()


def round_folder(state: StateDir, number: int) -> Path:
    return state.rounds / f"{number:04d}"


def round_numbers(state: StateDir) -> list[int]:
    """Return the numbers of all rounds that were ever begun, oldest first."""
    names = (folder.name for folder in state.rounds.glob("[0-9]*"))
    return sorted(int(name) for name in names if name.isdigit())


def default_state_dir() -> Path:
    """`/var/lib/mmd` for root, `$XDG_STATE_HOME/mmd` for a plain user."""
    if os.geteuid() == 0:
        return Path("/var/lib/mmd")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "mmd"


def default_config_file() -> Path:
    """`/etc/mmd/mmd.toml` for root, `$XDG_CONFIG_HOME/mmd/mmd.toml` for a plain user."""
    if os.geteuid() == 0:
        return Path("/etc/mmd/mmd.toml")
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "mmd" / "mmd.toml"
