"""Does any number of a recipe get past the check that a graph could not compute with?"""

import copy
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmd.errors import UsageError
from mmd_tools.recipe import Recipe
from mmd_tools.recipe_check import check_recipe, load_recipe

Path_ = tuple[str | int, ...]

WHOLE: dict[str, Any] = {
    "name": "numbers",
    "licence": "MIT",
    "classes": ["a", "b"],
    "anchor": "a.npz",
    "spare_classes": 1,
    "seed": 1,
    "input": {"kind": "audio", "scale": 1.0, "mean": [0.0], "std": [1.0], "audio": {}},
    "probe": [{"mentor": "m", "mentee": "s", "schedule": [[0.0, 1.0], [1.0, 0.5]]}],
    "auto": {},
    "loss": {"soft": "dkd", "schedules": {"mine": {term: [[0.0, 1.0]] for term in ("alpha", "beta", "gamma")}}},
    "optimizer": {"kind": "sgd"},
    "training": {},
    "augmentation": {},
    "nets": {
        "small": {"layers": ["flatten", "fc 2"], "input": [4], "training": {}, "augment": {}, "audio_augment": {}}
    },
}
"""Every section, so that every number has its place."""


def numeric(structure: Any, found: dict[str, Any], at: Path_ = ()) -> Iterator[tuple[Path_, type]]:
    """Yield the place of every number of `structure`, with its type: in lists, of their first entry."""
    hints = get_type_hints(structure)
    for field in msgspec.structs.fields(structure):
        yield from _within(hints[field.name], found.get(field.name), (*at, field.name))


def _within(hint: Any, found: Any, at: Path_) -> Iterator[tuple[Path_, type]]:
    if hint in (int, float):
        yield at, hint
    elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield from numeric(hint, found, at)
    elif get_origin(hint) is dict:
        name = next(iter(found))
        yield from _within(get_args(hint)[1], found[name], (*at, name))
    elif get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis:
        yield from _within(get_args(hint)[0], found[0] if found else None, (*at, 0))
    elif get_origin(hint) is tuple:
        for index, part in enumerate(get_args(hint)):
            yield from _within(part, found[index], (*at, index))
    else:
        for part in get_args(hint):
            if part is not type(None):
                yield from _within(part, found, at)


NUMBERS = dict(numeric(Recipe, WHOLE))
FLOATS = [at for at, kind in NUMBERS.items() if kind is float]
SIGNED = {("input", "mean", 0)}
"""Where a number below 0 means something."""


def key(at: Path_) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at)[1:]


def changed(at: Path_, value: float) -> dict[str, Any]:
    document = copy.deepcopy(WHOLE)
    place: Any = document
    for part in at[:-1]:
        place = place[part]
    place[at[-1]] = value
    # Pairs are named or found.
    document.pop("probe" if at[0] == "auto" else "auto")
    return {**document, "pairs": "auto"} if at[0] == "auto" else document


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def refused(folder: Path, at: Path_, value: float) -> bool:
    """Return whether the recipe with this number is refused in one line that names the key."""
    path = folder / "recipe.toml"
    path.write_text("".join(f"{name} = {toml(each)}\n" for name, each in changed(at, value).items()))
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    message = str(caught.value)
    # The parser says `[...]` for a name that the recipe's maker chose.
    whole, *in_schedule = key(at), key(at[:-2]), key(at[:-1])
    masked = re.sub(r"(nets|schedules)\.\w+", r"\1[...]", whole)
    names = {f"`{whole}`", f"`$.{masked}`", *(f"`{name}`" for name in in_schedule if "schedule" in name)}
    return "\n" not in message and any(name in message for name in names)


def test_every_section_with_numbers_is_asked_about() -> None:
    assert len(NUMBERS) > 50
    assert {("loss", "temperature"), ("loss", "schedules", "mine", "beta", 0, 1), ("probe", 0, "weight")} <= set(FLOATS)


@pytest.mark.parametrize("at", FLOATS, ids=key)
def test_a_number_that_a_graph_could_not_compute_with_is_refused_by_its_key(at: Path_, tmp_path: Path) -> None:
    for value in (math.nan, math.inf, -math.inf, 1e39, 1e-50):
        assert refused(tmp_path, at, value)


@pytest.mark.parametrize("at", [at for at in NUMBERS if at not in FLOATS], ids=key)
def test_a_whole_number_that_is_too_large_is_refused_by_its_key(at: Path_, tmp_path: Path) -> None:
    assert refused(tmp_path, at, 2**31)
    assert refused(tmp_path, at, 10**400)


@pytest.mark.parametrize("at", [at for at in NUMBERS if at not in SIGNED], ids=key)
def test_a_number_below_0_is_refused_by_its_key(at: Path_, tmp_path: Path) -> None:
    assert refused(tmp_path, at, -1)


@given(at=st.sampled_from(FLOATS), value=st.floats())
def test_what_is_not_refused_is_the_same_kind_of_number_in_32_bits(at: Path_, value: float) -> None:
    try:
        check_recipe(msgspec.convert(changed(at, value), Recipe))
    except (UsageError, msgspec.ValidationError):
        return
    held = np.float32(value)
    assert np.isfinite(held)
    assert (held == 0) == (value == 0)
