"""Words in which two captions differ."""

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

from cutline.metrics.tokenizers import split_unspaced
from cutline.report import Mark


class _Word(NamedTuple):
    """A word of a text, or a character of a script without spaces."""

    start: int
    end: int
    key: str
    """equal for words that differ in case or punctuation, as they do not differ for metrics"""


def mark_differences(first: str, second: str) -> tuple[list[Mark], list[Mark]]:
    """Return the parts of `first` that `second` lacks, as removed, and its new parts, as added.

    Words are compared without case and punctuation.
    """
    words = _split(first), _split(second)
    first_keys, second_keys = ([word.key for word in each] for each in words)
    removed: list[Mark] = []
    added: list[Mark] = []
    matcher = SequenceMatcher(None, first_keys, second_keys, autojunk=False)
    for operation, start, end, other_start, other_end in matcher.get_opcodes():
        if operation != "equal":
            removed += _mark(words[0][start:end], "removed")
            added += _mark(words[1][other_start:other_end], "added")
    return removed, added


def _split(text: str) -> list[_Word]:
    words = []
    for match in re.finditer(r"\S+", text):
        parts = split_unspaced(match[0])
        ends = accumulate(map(len, parts), initial=match.start())
        words += [_Word(start, end, _make_key(text[start:end])) for start, end in pairwise(ends)]
    return [word for word in words if word.key]


def _make_key(word: str) -> str:
    """Return the letters, marks and digits of a word, in lower case."""
    text = unicodedata.normalize("NFC", word).casefold()
    return "".join(char for char in text if unicodedata.category(char)[0] in "LMN")


def _mark(words: Sequence[_Word], kind: Literal["added", "removed"]) -> list[Mark]:
    return [(words[0].start, words[-1].end, kind)] if words else []
