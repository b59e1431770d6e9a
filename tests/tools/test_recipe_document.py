"""Does docs/recipe.md say what a recipe may hold, key by key?"""

from pathlib import Path

import msgspec
import pytest

from mmd_tools.recipe import Recipe
from mmd_tools.recipe_document import meanings_of, page, sections, structure_in

SECTIONS = dict(sections(Recipe, ""))


def test_the_page_is_that_of_the_code() -> None:
    written = Path(__file__).parents[2] / "docs" / "recipe.md"
    assert written.read_text() == page(), "run `python -m mmd_tools.recipe_document docs/recipe.md`"


def test_every_section_of_a_recipe_is_there() -> None:
    expected = {"", "input", "input.audio", "[probe]", "auto", "loss", "loss.schedules.NAME", "optimizer", "training"}
    assert expected <= SECTIONS.keys()


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_has_a_meaning(heading: str) -> None:
    structure = SECTIONS[heading]
    meanings = meanings_of(structure)
    kinds = msgspec.structs.fields(structure)
    assert [field.name for field in kinds if structure_in(field.type)[0] is None and field.name not in meanings] == []


def test_types_and_bounds_are_told_as_a_writer_of_toml_thinks_of_them() -> None:
    text = page()
    assert "| `replay` | number from 0 to 1 | `0.5` |" in text
    assert "| `label_smoothing` | number from 0 below 1 | `0.0` |" in text
    assert "| `classes` | list of text | must be given |" in text
    assert "| `width` | `select`, `zero-pad`, `project`, `pca` | none |" in text
