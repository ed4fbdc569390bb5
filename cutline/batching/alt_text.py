"""Write captions as alternative texts of images, which a screen reader reads aloud."""

import re
import unicodedata
from typing import NamedTuple

from cutline.tokenizer.text import WIDE

MAX_ALT_LENGTH = 125
"""characters; some screen readers stop there"""

_NOUNS = "|".join(("image", "picture", "photo", "photograph", "pic", "snapshot"))
_VERBS = "showing|depicting|featuring|(?:that )?(?:shows|depicts|features)"
_INTRODUCTION = re.compile(
    rf"(?:(?:this|here|it)(?: is|['’]s) )?(?:(?:an?|the|this) )?(?:{_NOUNS}) (?:of|{_VERBS}) "
    r"(?=.*\w)".replace(" ", r"\s+"),
    re.IGNORECASE | re.DOTALL,
)
_WIDE_CHARACTER = re.compile(f"[{WIDE}]")
_ENDS, _CLOSING, _PAUSES = ".!?…。！？｡؟।", "\"'”’»)]」』）", ",;:-–—、，；："
_ELLIPSIS = "…"
_JOINER = "\u200d"  # of emoji
_REGIONS = re.compile(r"[\U0001f1e6-\U0001f1ff]*\Z")  # two of them are a flag


class AltText(NamedTuple):
    """An alternative text, and which part of a caption it is."""

    text: str
    start: int
    """position of its first character in the caption"""
    end: int
    """position after the last character that it has of the caption"""


def make_alt_text(caption: str) -> AltText:
    """Write a caption as an alternative text.

    It does not begin with "a picture of" or the like, begins with a capital letter, ends with a
    full stop, and has at most `MAX_ALT_LENGTH` characters: a longer one is cut after a word, and
    ends with an ellipsis. That of an alternative text is the same text.
    """
    start, end = _find_description(caption)
    ending = _choose_ending(caption[start:end])
    if end - start + len(ending) > MAX_ALT_LENGTH:
        longest = caption[: start + MAX_ALT_LENGTH - len(_ELLIPSIS)]
        end = _strip_end(caption, start, _find_cut(caption, start, len(longest)))
        ending = _ELLIPSIS if _choose_ending(caption[start:end]) else ""
    return AltText(_capitalize(caption[start:end]) + ending, start, end)


def _find_description(text: str) -> tuple[int, int]:
    """Return where a text begins and ends without what says that it describes an image."""
    start = len(text) - len(text.lstrip())
    while match := _INTRODUCTION.match(text, start):
        start = match.end()
    return start, _strip_end(text, start, len(text))


def _strip_end(text: str, start: int, end: int) -> int:
    """Return where a part of a text ends without whitespace and marks of a pause."""
    while end > start and (text[end - 1].isspace() or text[end - 1] in _PAUSES):
        end -= 1
    return end


def _choose_ending(text: str) -> str:
    """Return what is missing at the end of a text: a full stop of its script, or nothing."""
    last = text.rstrip(_CLOSING)[-1:]
    if not text or (last and last in _ENDS):
        return ""
    return "。" if _WIDE_CHARACTER.match(text[-1]) else "."


def _capitalize(text: str) -> str:
    """Return a text whose first letter is a capital, unless that would be two characters."""
    for position, character in enumerate(text):
        if character.isalnum():
            capital = character.title()  # not upper(): some letters have a form of their own
            return text[:position] + capital + text[position + 1 :] if len(capital) == 1 else text
    return text


def _find_cut(text: str, start: int, longest: int) -> int:
    """Return where to cut a text that is longer: after a word, or else after a character."""
    places = range(longest, start, -1)
    words = (place for place in places if _ends_word(text, place))
    characters = (place for place in places if not _is_inside(text, place))
    return next(words, None) or next(characters, longest)


def _ends_word(text: str, place: int) -> bool:
    """Return whether a word ends before a place; scripts without spaces are cut anywhere."""
    if text[place].isspace():
        return True
    is_wide = _WIDE_CHARACTER.match(text[place - 1]) or _WIDE_CHARACTER.match(text[place])
    return bool(is_wide) and not _is_inside(text, place)


def _is_inside(text: str, place: int) -> bool:
    """Return whether a place is inside of what is seen as one character.

    A subset of the grapheme clusters of Unicode's Annex 29: marks, emoji, flags, Hangul.
    """
    before, after = text[place - 1], text[place]
    if unicodedata.category(after)[0] == "M" or _JOINER in (before, after):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff":  # the color of a skin
        return True
    if "\u1160" <= after <= "\u11ff":  # a vowel or an end, which a Hangul syllable begins before
        return True
    regions = _REGIONS.search(text, 0, place)
    is_odd = regions is not None and len(regions[0]) % 2 == 1
    return is_odd and "\U0001f1e6" <= after <= "\U0001f1ff"
