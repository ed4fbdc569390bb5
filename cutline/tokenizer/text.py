"""Plain text before ids and after: caption cleaning, joining pieces."""

import re
from collections.abc import Sequence

from cutline.config import Cleaning

# Han, kana, bopomofo and full-width punctuation: scripts written without spaces between words.
_WIDE = "\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\U00020000-\U0003ffff"
# What such scripts share with others and also set without a space: digits, curly quotation marks, dashes, the ellipsis, the middle dot.
_SHARED = "\\d\u00b7\u2013-\u2015\u2018-\u201d\u2026"
_WIDE_SPACE = re.compile(f"(?<=[{_WIDE}]) (?=[{_WIDE}{_SHARED}])|(?<=[{_SHARED}]) (?=[{_WIDE}])")

# Transformers' clean_up_tokenization (4.15), in its order.
_CONTRACTIONS = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)


def clean_caption(text: str, clean: Cleaning, max_words: int) -> str:
    """Clean a caption before it becomes ids, and cut it to `max_words` words (split on single spaces).

    "blip" is the reference's `pre_caption`: lower case; each of . ! " ( ) * # : ; ~ becomes a space; two or more white-space
    characters in a row become one space. "none" only strips.
    """
    if clean == "blip":
        text = re.sub(r'[.!"()*#:;~]', " ", text.lower())
        text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    else:
        text = text.strip()
    return " ".join(text.split(" ")[:max_words])


def join_pieces(pieces: Sequence[str], prefix: str = "##") -> str:
    """Join word pieces into text as the reference's `BertTokenizer.decode` does, but Chinese and Japanese without spaces.

    A first piece that continues a word loses its `prefix`: generated ids may begin in the middle of one.
    """
    text = " ".join(pieces).replace(f" {prefix}", "").removeprefix(prefix).strip()
    for spaced, joined in _CONTRACTIONS:
        text = text.replace(spaced, joined)
    return _WIDE_SPACE.sub("", text)


def without_surrogates(text: str) -> str:
    """`text` without lone surrogates, which a careless JSON file can hold and no UTF-8 library takes."""
    return text.encode("utf-8", "ignore").decode("utf-8")
