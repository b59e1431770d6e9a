"""Is the table of conditions in the documentation the one in the code?"""

from pathlib import Path

from mmd.config import ConditionsConfig
from mmd.policy.document import conditions_document
from mmd.policy.reasons import Code

DOCUMENT = Path(__file__).parents[3] / "docs" / "conditions.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == conditions_document(), (
        "write it anew: python -m mmd.policy.document > docs/conditions.md"
    )


def test_every_condition_and_every_code_is_documented() -> None:
    text = conditions_document()
    for name in (*ConditionsConfig.__struct_fields__, *Code):
        assert f"`{name}`" in text
