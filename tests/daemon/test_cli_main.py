"""Does every command fail in one line with the exit code of its error, and does the light path stay light?"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.support import call_mmd, initialised_state, run_mmd

import mmd.cli.main as entry
from mmd import errors
from mmd.cli.main import COMMANDS, Session, cli, pass_session
from mmd.errors import MmdError

HEAVY = {"numpy", "onnxruntime", "onnx", "PIL"}
LIGHT = [
    ["--help"],
    ["--version"],
    ["status", "--json"],
    ["status"],
    ["why"],
    ["samples"],
    ["pause"],
    ["resume"],
    ["init", "--help"],
    ["run", "--help"],
    ["ingest", "--help"],
]

EXIT_CODES = {
    errors.MmdError: 1,
    errors.UsageError: 2,
    errors.InputRefused: 3,
    errors.StoreDamaged: 4,
    errors.ArtifactRefused: 5,
    errors.ModelsBusy: 1,
    errors.DaemonNotRunning: 6,
    errors.TrainingFailed: 1,
}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> "dict[str, BaseException]":
    """A command `fail` that raises what is put under "error"."""
    raised: dict[str, BaseException] = {}

    @click.command()
    @pass_session
    def fail(session: Session) -> int:
        if "error" in raised:
            raise raised["error"]
        return 42

    module = sys.modules[__name__]
    monkeypatch.setattr(module, "fail", fail, raising=False)
    monkeypatch.setitem(COMMANDS, "fail", f"{__name__}:fail")
    return raised


def test_every_error_has_its_exit_code_in_the_table() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MmdError)}
    assert classes == set(EXIT_CODES)


@pytest.mark.parametrize("kind", EXIT_CODES, ids=lambda kind: kind.__name__)
def test_a_foreseen_error_is_one_line_and_its_exit_code(
    kind: type[MmdError], failing: dict[str, BaseException]
) -> None:
    failing["error"] = kind("The thing broke; mend it.")
    ran = call_mmd("fail")
    assert (ran.code, ran.out, ran.err) == (EXIT_CODES[kind], "", "mmd: The thing broke; mend it.\n")


def test_an_unforeseen_error_is_one_line_and_exit_code_1(failing: dict[str, BaseException]) -> None:
    failing["error"] = ZeroDivisionError("division by zero")
    ran = call_mmd("fail")
    assert ran.code == 1
    advice = "--debug before the command shows the traceback"
    assert ran.error_lines == [f"mmd: ZeroDivisionError: division by zero ({advice})"]


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), MmdError("x")])
def test_debug_shows_the_traceback(error: Exception, failing: dict[str, BaseException]) -> None:
    failing["error"] = error
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        with pytest.raises(type(error)):
            call_mmd(*arguments)


def test_ctrl_c_is_exit_code_130(failing: dict[str, BaseException]) -> None:
    failing["error"] = KeyboardInterrupt()
    interrupted = 130
    assert call_mmd("fail").code == interrupted


def test_a_library_that_ctrl_c_stopped_while_it_loaded_is_no_error(failing: dict[str, BaseException]) -> None:
    failing["error"] = ImportError("initialization failed")
    failing["error"].__cause__ = KeyboardInterrupt()
    ran = call_mmd("fail")
    assert (ran.code, ran.err) == (errors.INTERRUPTED, "")


def test_a_command_s_own_exit_code_is_kept(failing: dict[str, BaseException]) -> None:
    returned = 42
    assert call_mmd("fail").code == returned


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "mmd", "samples", "--json", "--state-dir", state],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["nonsense"], ["ingest", "--nonsense"], ["label"]])
def test_a_command_that_is_not_understood_is_exit_code_2(arguments: list[str]) -> None:
    assert call_mmd(*arguments).code == 2


def test_an_unknown_key_in_the_configuration_is_exit_code_2_naming_the_nearest(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    config = tmp_path / "mmd.toml"
    config.write_text("[samples]\nhold_out = 0.5\n")
    ran = call_mmd("ingest", tmp_path, "--config", config, state=state)
    assert ran.code == 2
    (line,) = ran.error_lines
    assert "unknown key `samples.hold_out`; did you mean `samples.holdout`?" in line


@pytest.mark.parametrize("before", [True, False])
def test_common_options_go_before_or_after_the_command(before: bool, tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    option = ["--state-dir", str(state)]
    arguments = [*option, "samples", "--json"] if before else ["samples", "--json", *option]
    ran = call_mmd(*arguments)
    assert (ran.code, json.loads(ran.out)) == (0, [])


def test_a_flag_beats_the_environment(tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    assert call_mmd("samples", "--state-dir", state, state=tmp_path / "elsewhere").code == 0
    assert call_mmd("samples", state=tmp_path / "elsewhere").code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str) -> None:
    module, attribute = COMMANDS[name].split(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.help
    ran = call_mmd(name, "--help")
    assert ran.code == 0
    assert "--state-dir" in ran.out


def test_help_lists_every_command() -> None:
    out = call_mmd("--help").out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert cli.name == "cli"


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    state = initialised_state(tmp_path)
    code = (
        "import sys\nfrom mmd.cli.main import main\n"
        "try: main()\n"
        f"except SystemExit: print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    environment = os.environ | {"MMD_STATE_DIR": str(state), "MMD_CONFIG": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_the_module_runs_as_the_command_does() -> None:
    ran = run_mmd("--version")
    assert (ran.code, ran.out.startswith("mmd, version ")) == (0, True)
    assert entry.main.__doc__
