"""Is every file that is no .npz of plain arrays refused in one short line, and none of it run?"""

from pathlib import Path

import numpy as np
import pytest

from mmd.errors import InputRefused
from mmd_tools.archive import read_archive


def write(path: Path, damage: str) -> None:
    np.savez_compressed(path, inputs=np.arange(500), labels=np.zeros(3))
    if damage == "single":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "objects":
        np.savez(path, inputs=np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "flipped":
        whole = bytearray(path.read_bytes())
        whole[120] ^= 0xFF
        path.write_bytes(whole)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "short": path.read_bytes()[:200]}[damage])


@pytest.mark.parametrize("damage", ["single", "objects", "flipped", "gone", "empty", "text", "short"])
def test_what_cannot_be_read_is_refused_with_a_short_reason(damage: str, tmp_path: Path) -> None:
    write(tmp_path / "a.npz", damage)
    with pytest.raises(InputRefused) as refused:
        read_archive(tmp_path / "a.npz", InputRefused)
    assert "\n" not in str(refused.value)
    assert "allow_pickle" not in str(refused.value)


def test_arrays_come_back_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=np.arange(3), labels=np.zeros(2))
    found = read_archive(tmp_path / "a.npz", InputRefused)
    assert {name: values.tolist() for name, values in found.items()} == {"inputs": [0, 1, 2], "labels": [0.0, 0.0]}
