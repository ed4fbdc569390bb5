"""Words of captions in any language."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from cutline.config import MetricTokenizer
from cutline.metrics import ptb

UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # radicals, kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"  # Han, half-width kana
)
"""characters of scripts that set no space between words; Korean does"""
_UNSPACED = re.compile(f"[{UNSPACED}]")
_JOINERS = "'’-‐\u200c\u200d"  # inside a word they belong to it


class _Spaces(dict[int, str]):
    """Letters, marks, digits and joiners stand for themselves, other characters for a space; found when first asked for."""

    def __missing__(self, code: int) -> str:
        kept = unicodedata.category(chr(code))[0] in "LMN" or chr(code) in _JOINERS
        self[code] = found = chr(code) if kept else " "
        return found


_SPACES = _Spaces()


def choose_tokenizer(tokens: MetricTokenizer, texts: Iterable[str]) -> Callable[[str], list[str]]:
    """How captions become words.

    "ptb" is the field's evaluator to the letter, made for English; other Latin, Greek, Cyrillic and Arabic text it mostly cuts at spaces
    and punctuation, but a letter typed as two code points is not the same letter to it. "words" and "characters" are the functions of
    this module. "auto" is "characters" where most letters of `texts`, the references, are of scripts without spaces, such as Chinese,
    Japanese or Thai; else "ptb", with letters composed (NFC) first, which changes nothing in English.
    """
    match tokens:
        case "ptb":
            return ptb.tokenize
        case "words":
            return words
        case "characters":
            return characters
        case "auto":
            return (
                characters
                if mostly_unspaced(texts)
                else lambda text: ptb.tokenize(unicodedata.normalize("NFC", text))
            )


def mostly_unspaced(texts: Iterable[str]) -> bool:
    """Whether more letters of `texts` are of scripts without spaces than of others, a word of those counting as one letter."""
    found = [word for text in texts for word in characters(text)]
    return sum(bool(_UNSPACED.match(word)) for word in found) > len(found) / 2


def words(text: str) -> list[str]:
    """Words in lower case, letters composed (NFC), without punctuation and symbols; apostrophes and hyphens inside a word stay."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).translate(
        _SPACES
    )
    return [
        word
        for part in text.split()
        if (word := part.strip(_JOINERS).replace("’", "'").replace("‐", "-"))
    ]


def characters(text: str) -> list[str]:
    """As `words`, but each character of a script without spaces is a word, with the marks above and below it."""
    return [part for word in words(text) for part in split_unspaced(word)]


def split_unspaced(word: str) -> list[str]:
    """A word of letters: as one, but each character of a script without spaces by itself, with the marks above and below it."""
    found: list[str] = []
    for char in word:
        mark = unicodedata.category(char)[0] == "M"
        if found and (mark or not (_UNSPACED.match(char) or _UNSPACED.match(found[-1]))):
            found[-1] += char
        else:
            found.append(char)
    return found
