"""Does docs/configuration.md say what an owner may configure, key by key?"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmd_tools.config_document import own_sections, page
from mmd_tools.recipe_document import meanings_of, structure_in


def test_the_page_is_that_of_the_code() -> None:
    written = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert written.read_text() == page(), "run `python -m mmd_tools.config_document docs/configuration.md`"


def test_every_section_but_the_conditions_is_there() -> None:
    expected = {"samples", "training", "training.augmentation", "gate", "promotion", "daemon", "serve"}
    assert {heading for heading, _ in own_sections()} == expected


@pytest.mark.parametrize(("heading", "structure"), own_sections())
def test_every_key_has_a_meaning(heading: str, structure: Any) -> None:
    meanings = meanings_of(structure)
    keys = [field.name for field in msgspec.structs.fields(structure) if structure_in(field.type)[0] is None]
    assert [key for key in keys if key not in meanings] == [], heading
