"""Is every key of the configuration read, and is every mistake named with its nearest right?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from mmd.config import Config, load_config
from mmd.errors import UsageError


def written(folder: Path, text: str) -> Path:
    path = folder / "mmd.toml"
    path.write_text(text)
    return path


def keys(section: type[msgspec.Struct] = Config, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the default of every key."""
    for field in msgspec.structs.fields(section):
        structures = [each for each in (field.type, *get_args(field.type)) if _is_section(each)]
        if structures:
            yield from keys(structures[0], (*above, field.name))
        else:
            yield (*above, field.name), field.default


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


KEYS = list(keys())


def as_toml(value: Any) -> str:
    if isinstance(value, tuple):
        return str(list(value))
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_no_file_gives_the_defaults() -> None:
    assert load_config(None) == Config()


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "")) == Config()


@pytest.mark.parametrize(("path", "default"), KEYS, ids=[".".join(path) for path, _ in KEYS])
def test_every_key_can_be_written_down(path: tuple[str, ...], default: Any, tmp_path: Path) -> None:
    if default is None:
        default = "obedient" if path[-1] == "preset" else 1
    *sections, name = path
    config: Any = load_config(written(tmp_path, f"[{'.'.join(sections)}]\n{name} = {as_toml(default)}\n"))
    for part in path:
        config = getattr(config, part)
    assert config == default


@pytest.mark.parametrize("path", [path for path, _ in KEYS], ids=".".join)
def test_every_misspelt_key_is_refused_naming_the_right_one(path: tuple[str, ...], tmp_path: Path) -> None:
    *sections, name = path
    misspelt = name[:-1] + "_" + name[-1]
    file = written(tmp_path, f"[{'.'.join(sections)}]\n{misspelt} = 1\n")
    with pytest.raises(UsageError) as raised:
        load_config(file)
    assert f"unknown key `{'.'.join([*sections, misspelt])}`; did you mean `{'.'.join(path)}`?" in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_key_like_no_other_is_refused_listing_those_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known here: samples, training, gate, promotion, conditions, daemon"):
        load_config(written(tmp_path, "zzzzzzz = 1\n"))


@pytest.mark.parametrize("value", ["inf", "1e39", "1e-50"])
@pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "clip_norm", "augmentation.noise"])
def test_a_number_that_no_step_could_compute_with_is_refused_naming_its_key(
    key: str, value: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"`training.{key}` is"):
        load_config(written(tmp_path, f"[training]\n{key} = {value}\n"))


@pytest.mark.parametrize("key", ["daemon.trainer_memory_mib", "serve.max_request_mib", "serve.idle_seconds"])
def test_what_has_no_end_is_refused_by_its_key(tmp_path: Path, key: str) -> None:
    section, _, name = key.partition(".")
    with pytest.raises(UsageError, match=f"`{key}` is inf; it must be a finite number"):
        load_config(written(tmp_path, f"[{section}]\n{name} = inf\n"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[samples]\nholdout = 1.5\n", "samples.holdout"),
        ("[samples]\nquota_mib = 0\n", "samples.quota_mib"),
        ("[samples]\nmax_pixels = 'many'\n", "samples.max_pixels"),
        ("[training]\nengine = 'warp'\n", "training.engine"),
        ("[training]\nthreads = 0\n", "training.threads"),
        ("[gate]\nsignificance = -1\n", "gate.significance"),
        ("[conditions.user_idle]\nrequired = 1\n", "conditions.user_idle.required"),
        ("samples = 3\n", "samples"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_naming_its_key(text: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        load_config(written(tmp_path, text))
    assert f"$.{key}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("section", "first", "second"),
    [
        ("battery_charge", "start_percent = 20", "stop_percent = 40"),
        ("memory_available", "start_mib = 100", "stop_mib = 200"),
        ("disk_free", "start_mib = 100", "stop_mib = 200"),
        ("user_idle", "start_seconds = 10", "stop_seconds = 60"),
        ("soc_temperature", "start_celsius = 90", "stop_celsius = 70"),
        ("battery_temperature", "start_celsius = 50", "stop_celsius = 40"),
        ("cpu_pressure", "start_percent = 90", "stop_percent = 50"),
        ("duty_cycle", "start_percent = 10", "stop_percent = 20"),
    ],
)
def test_levels_that_contradict_each_other_are_refused(section: str, first: str, second: str, tmp_path: Path) -> None:
    file = written(tmp_path, f"[conditions.{section}]\n{first}\n{second}\n")
    with pytest.raises(UsageError, match=rf"contradicts itself: conditions\.{section}\..*swap them"):
        load_config(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[conditions.soc_temperature]\nstop_celsius = nan\n",
            "soc_temperature.stop_celsius is not a number",
        ),
        ("[conditions.allowed_hours]\nwindows = ['night']\n", "conditions.allowed_hours.windows has 'night'"),
        ("[conditions.allowed_hours]\nwindows = ['07:00-07:00']\n", "it is empty"),
        ("[conditions.exclusive_processes]\nnames = ['/usr/bin/game']\n", "as `ps -o comm` shows them"),
        ("[conditions.exclusive_processes]\nnames = [' ']\n", "conditions.exclusive_processes.names"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        load_config(written(tmp_path, text))
    assert words in str(raised.value)
    assert "contradicts itself" in str(raised.value)


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"daemon.sys_root = '/no/such/board', which is no folder"):
        load_config(written(tmp_path, "[daemon]\nsys_root = '/no/such/board'\n"))


def test_a_percentage_above_a_hundred_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"battery_charge\.start_percent"):
        load_config(written(tmp_path, "[conditions.battery_charge]\nstart_percent = 150\n"))


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not TOML"):
        load_config(written(tmp_path, "samples: no\n"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mmd.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not TOML"):
        load_config(tmp_path / "mmd.toml")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(UsageError, match="Cannot read the configuration"):
            load_config(path)
