"""Does `mmd install-service` put the systemd files in place, once, and say what is left to do?"""

import os
from pathlib import Path

import pytest
from tests.support import call_mmd

from mmd.supervisor import service
from mmd.supervisor.service import PLACES, own_program

UNITS = Path(__file__).parents[3] / "systemd"


def test_every_file_of_the_service_is_installed_as_it_is_shipped(tmp_path: Path) -> None:
    ran = call_mmd("install-service", "--root", tmp_path)
    assert ran.code == 0, ran.err
    for name, place in PLACES.items():
        assert (tmp_path / place).read_bytes() == (UNITS / name).read_bytes()
        assert (tmp_path / place).stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in UNITS.rglob("*.*") if path.is_file() and path.suffix != ".md") == sorted(
        Path(name).name for name in PLACES
    )


def test_a_second_time_changes_nothing_and_says_so(tmp_path: Path) -> None:
    call_mmd("install-service", "--root", tmp_path)
    times = [(tmp_path / place).stat().st_mtime_ns for place in PLACES.values()]
    ran = call_mmd("install-service", "--root", tmp_path)
    assert [line.split()[0] for line in ran.out.splitlines()[:3]] == ["unchanged"] * 3
    assert "All was in place." in ran.out
    assert [(tmp_path / place).stat().st_mtime_ns for place in PLACES.values()] == times


def test_an_older_unit_is_replaced_and_a_drop_in_stays(tmp_path: Path) -> None:
    call_mmd("install-service", "--root", tmp_path)
    unit = tmp_path / PLACES["mmd.service"]
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    drop_in = tmp_path / "etc/systemd/system/mmd.service.d/own.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nNice=15\n")
    ran = call_mmd("install-service", "--root", tmp_path)
    assert f"replaced  {unit}" in ran.out
    assert "Type=notify" in unit.read_text()
    assert drop_in.read_text() == "[Service]\nNice=15\n"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    ran = call_mmd("install-service", "--root", tmp_path, "--dry-run")
    assert ran.code == 0
    assert ran.out.count("new ") == len(PLACES)
    assert ran.out.endswith("Nothing was written.\n")
    assert list(tmp_path.iterdir()) == []


def test_the_unit_starts_the_program_that_is_named(tmp_path: Path) -> None:
    ran = call_mmd("install-service", "--root", tmp_path, "--program", "/usr/local/bin/mmd")
    assert "ExecStart=/usr/local/bin/mmd run\n" in (tmp_path / PLACES["mmd.service"]).read_text()
    assert "runuser -u mmd -- /usr/local/bin/mmd --state-dir /var/lib/mmd init" in ran.out


def test_without_a_root_the_unit_starts_this_mmd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PLACES", {})
    monkeypatch.setattr(service, "HIDDEN", ())
    ran = call_mmd("install-service")
    assert ran.code == 0, ran.err
    assert f"{own_program()} --state-dir /var/lib/mmd init" in ran.out
    assert "systemctl enable --now mmd" in ran.out


def test_the_sandbox_hides_what_the_unit_says_it_hides() -> None:
    assert {"/home", "/root", "/run/user", "/tmp", "/var/tmp"} == set(service.HIDDEN)


@pytest.mark.parametrize("program", [f"{folder}/me/bin/mmd" for folder in service.HIDDEN])
def test_a_program_that_the_sandbox_hides_is_refused(tmp_path: Path, program: str) -> None:
    ran = call_mmd("install-service", "--root", tmp_path, "--program", program)
    assert ran.code == 2
    (line,) = ran.error_lines
    assert f"could not see {program}" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", ["mmd", "/opt/my mmd/bin/mmd", "/opt/%h/mmd"])
def test_a_program_that_a_unit_cannot_name_is_refused(tmp_path: Path, program: str) -> None:
    ran = call_mmd("install-service", "--root", tmp_path, "--program", program)
    assert ran.code == 2
    assert "give the absolute path of mmd" in ran.err


def test_a_masked_unit_is_left_masked(tmp_path: Path) -> None:
    unit = tmp_path / PLACES["mmd.service"]
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null")
    ran = call_mmd("install-service", "--root", tmp_path)
    assert ran.code == 2
    assert "is masked; run `systemctl unmask mmd.service` first." in ran.err
    assert unit.is_symlink()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file where a folder should be")
    ran = call_mmd("install-service", "--root", tmp_path)
    assert ran.code == 1
    (line,) = ran.error_lines
    assert "Cannot write" in line
    assert "mmd.service" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_plain_user_is_told_to_be_root() -> None:
    ran = call_mmd("install-service", "--program", "/opt/mmd/bin/mmd")
    assert ran.code == 1
    assert "run it as root" in ran.err


def test_an_installation_without_the_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CARRIED", tmp_path / "nothing")
    ran = call_mmd("install-service", "--root", tmp_path)
    assert ran.code == 1
    assert "install it again" in ran.err
