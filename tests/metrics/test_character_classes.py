"""Classes of characters of the PTB tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.metrics.character_classes import replace_by_class, replace_line_breaks


@given(st.text())
def test_every_character_has_one_representative(text: str) -> None:
    assert len(replace_by_class(replace_line_breaks(text))) == len(text)
    assert all(replace_by_class(char) == char for char in text if " " <= char <= "~")


@pytest.mark.parametrize(
    ("chars", "representative"),
    [
        ("ßЖ中가ạ", "é"),
        ("٣७", "¾"),
        ("\u0301\u0e31\u093f", "¸"),
        ("™→×。＋", "§"),
        ("–—\x97", "–"),
        ("¹⁷", "²"),
        ("😀\u200b\x01〇𝐀", "\0"),
    ],
)
def test_character_classes(chars: str, representative: str) -> None:
    assert set(replace_by_class(chars)) == {representative}
