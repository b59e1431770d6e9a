"""Does the cache give back what it was given, or nothing? And does nothing remain of what was forgotten?"""

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from tests.support import eventually

from mmd.errors import MmdError
from mmd.samples import row_cache
from mmd.samples.row_cache import RowCache, cache_bytes, entry_bytes, keep_rows, remove_cache, replay_id

A, B = "aa" * 32, "bb" * 32
SECRET = b"what the owner drew" * 20


def key(identifier: str | bytes, end: bytes = b"\0\0t") -> bytes:
    return (bytes.fromhex(identifier) if isinstance(identifier, str) else identifier) + end


def filled(path: Path, scope: str = "one") -> RowCache:
    cache = RowCache(path, scope)
    with cache.writing():
        cache.write({key(A): SECRET, key(A, b"\0\1v"): b"view", key(B): b"b", key(replay_id(7)): b"replay"})
    return cache


def test_what_was_written_is_there_for_the_next_process(tmp_path: Path) -> None:
    filled(tmp_path / "cache.db").close()
    with RowCache(tmp_path / "cache.db", "one") as cache:
        assert cache.read([key(B), key(A), key("cc" * 32)]) == {key(A): SECRET, key(B): b"b"}
        assert cache.count() == 4


def test_another_scope_finds_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "cache.db").close()
    for scope in ("two", "one"):
        with RowCache(tmp_path / "cache.db", scope) as cache:
            assert cache.count() == 0


def test_an_entry_that_fails_its_checksum_is_missing(tmp_path: Path) -> None:
    with filled(tmp_path / "cache.db") as cache:
        cache._connection.execute("UPDATE entries SET content = ? WHERE key = ?", (b"B", key(B)))
        assert cache.read([key(A), key(B)]) == {key(A): SECRET}


@pytest.mark.parametrize("at", [0, 100, 16384 + 20, -2000])
def test_a_damaged_file_is_empty_and_works_again(tmp_path: Path, at: int) -> None:
    path = tmp_path / "cache.db"
    with filled(path) as cache, cache.writing():
        cache.write({key(os.urandom(32)): os.urandom(300) for _ in range(200)})
    content = bytearray(path.read_bytes())
    content[at : at + 1500 or None] = b"\xa5" * 1500
    path.write_bytes(content)
    with RowCache(path, "one") as cache:
        found = cache.read([key(A), key(B)])
        assert found.items() <= {key(A): SECRET, key(B): b"b"}.items()
        with cache.writing():
            cache.write({key(B): b"new"})
        assert cache.read([key(B)]) == {key(B): b"new"}


def test_a_write_that_is_killed_leaves_what_was_there(tmp_path: Path) -> None:
    with filled(tmp_path / "cache.db") as cache:
        with contextlib.suppress(KeyboardInterrupt), cache.writing():
            cache.write({key(B): b"half"})
            raise KeyboardInterrupt
        assert cache.read([key(B)]) == {key(B): b"b"}


def test_what_is_kept_is_kept_and_the_rest_is_in_no_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    filled(path).close()
    assert SECRET in path.read_bytes()
    keep_rows(path, [B])
    assert not any(SECRET in file.read_bytes() for file in tmp_path.iterdir())
    with RowCache(path, "one") as cache:
        assert cache.read([key(A), key(A, b"\0\1v"), key(B), key(replay_id(7))]) == {
            key(B): b"b",
            key(replay_id(7)): b"replay",
        }


def test_forgetting_waits_for_a_write_that_is_under_way_and_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with filled(path) as cache:
        with cache.writing():
            cache.write({key(A, b"\0\2v"): SECRET})
            forgetting = threading.Thread(target=keep_rows, args=(path, [B]))
            forgetting.start()
        forgetting.join(60)
        eventually(lambda: SECRET not in path.read_bytes())


def test_without_a_cache_there_is_nothing_to_forget(tmp_path: Path) -> None:
    keep_rows(tmp_path / "cache.db", [])
    assert not list(tmp_path.iterdir())


def test_a_damaged_cache_is_forgotten_whole(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(SECRET * 100)
    keep_rows(tmp_path / "cache.db", [A])
    assert not list(tmp_path.iterdir())


def test_a_busy_cache_is_named_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache.db"
    monkeypatch.setattr(row_cache, "_BUSY_SECONDS", 0.01)
    with filled(path) as cache, cache.writing(), pytest.raises(MmdError, match="busy with another command"):
        keep_rows(path, [])
    assert cache_bytes(path) > 0


@pytest.mark.parametrize(
    ("code", "words"), [(sqlite3.SQLITE_FULL, "No space left"), (sqlite3.SQLITE_IOERR, "check its disk")]
)
def test_what_is_no_damage_is_said_and_nothing_is_thrown_away(tmp_path: Path, code: int, words: str) -> None:
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    with filled(tmp_path / "cache.db") as cache:
        with pytest.raises(MmdError, match=words), cache.writing():
            raise error
        assert cache.count() == 4


def test_it_has_room_until_its_file_is_as_large_as_it_may_be(tmp_path: Path) -> None:
    with RowCache(tmp_path / "cache.db", "one", most_bytes=100_000) as cache:
        assert cache.has_room
        with cache.writing():
            cache.write({key(os.urandom(32)): bytes(10_000) for _ in range(8)})
        assert not cache.has_room


@pytest.mark.parametrize(
    ("size", "count"), [(2, 8000), (276, 4000), (2100, 1000), (4096, 500), (9000, 500), (40_000, 200)]
)
def test_the_size_of_an_entry_is_foretold(tmp_path: Path, size: int, count: int) -> None:
    path = tmp_path / "cache.db"
    with RowCache(path, "one") as cache, cache.writing():
        cache.write({key(os.urandom(32)): bytes(size) for _ in range(count)})
    assert 0.75 < cache_bytes(path) / (count * entry_bytes(size)) < 1.15


def test_a_removed_cache_is_gone_with_its_journal(tmp_path: Path) -> None:
    filled(tmp_path / "cache.db").close()
    remove_cache(tmp_path / "cache.db")
    assert not list(tmp_path.iterdir())
    assert cache_bytes(tmp_path / "cache.db") == 0
