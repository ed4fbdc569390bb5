"""Find the words of a decoded text, and the tokens that each of them is made of."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from cutline.tokenizer.text import WIDE

_WIDE_CHARACTER = re.compile(f"[{WIDE}]")


class WordSpan(NamedTuple):
    """A word of a decoded text."""

    start: int
    """position of its first character in the text"""
    end: int
    """position after its last character"""
    tokens: tuple[int, ...]
    """positions of its tokens"""


def locate_words(text: str, tokens: Sequence[str], prefix: str = "##") -> list[WordSpan]:
    """Return the words of a text, in order, given its tokens: `join_tokens(tokens, prefix)`.

    A word has letters, marks and digits at both ends, so that punctuation beside it is no part of
    it. It is a token with the pieces that continue it, or several of these that are joined by an
    apostrophe or by nothing, as in "don't". Where texts have no spaces, in Chinese and Japanese,
    each token with its pieces is a word.
    """
    owners = dict(zip(_find_visible(text), _find_owners(tokens, prefix), strict=True))
    groups = _group_pieces(tokens, prefix)
    spans: list[list[int]] = []
    last = next(iter(owners), 0)
    for position, owner in owners.items():
        if not is_letter(text[position]):
            continue
        in_piece = groups[owners[last]] == groups[owner]
        if spans and _is_joined(text[last : position + 1], in_piece):
            spans[-1][1] = position + 1
        else:
            spans.append([position, position + 1])
        last = position
    return [WordSpan(start, end, _find_tokens(owners, start, end)) for start, end in spans]


@lru_cache(maxsize=1 << 14)
def is_letter(character: str) -> bool:
    """Return whether a character is a letter, a combining mark or a digit."""
    return unicodedata.category(character)[0] in "LMN"


def _find_owners(tokens: Sequence[str], prefix: str) -> list[int]:
    """Return the number of the token of each character of the text but whitespace.

    Joining tokens deletes nothing but prefixes and whitespace.
    """
    joined = " ".join(tokens)
    owners = [number for number, token in enumerate(tokens) for _ in f"{token} "][: len(joined)]
    kept: list[int] = []
    end = 0
    for match in re.finditer(re.escape(f" {prefix}"), joined):
        kept += range(end, match.start())
        end = match.end()
    kept += range(end, len(joined))
    if "".join(joined[place] for place in kept[: len(prefix)]) == prefix:
        kept = kept[len(prefix) :]
    return [owners[place] for place in kept if not joined[place].isspace()]


def _group_pieces(tokens: Sequence[str], prefix: str) -> list[int]:
    """Return, for each token, the number of the token that its word pieces begin with."""
    groups: list[int] = []
    for number, token in enumerate(tokens):
        groups.append(groups[-1] if groups and token.startswith(prefix) else number)
    return groups


def _find_visible(text: str) -> list[int]:
    """Return the positions of all characters but whitespace."""
    return [position for position, character in enumerate(text) if not character.isspace()]


def _is_joined(text: str, is_continued: bool) -> bool:
    """Return whether the first and the last character of a text belong to the same word.

    Args:
        text: The two, with what is between them.
        is_continued: Whether a token and its word pieces contain both.
    """
    if is_continued:
        return not any(map(str.isspace, text))
    return text[1:-1] in ("", "'") and not (_is_wide(text[0]) or _is_wide(text[-1]))


def _is_wide(character: str) -> bool:
    return character > "\u2e7f" and _WIDE_CHARACTER.match(character) is not None


def _find_tokens(owners: Mapping[int, int], start: int, end: int) -> tuple[int, ...]:
    """Return the tokens of the characters from `start` to `end`."""
    return tuple(dict.fromkeys(owners[i] for i in range(start, end) if i in owners))
