"""Tokenizers for measuring captions in any language."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from cutline.config import MetricTokenizer
from cutline.metrics import ptb

Tokenize = Callable[[str], list[str]]

UNSPACED = (
    # Thai and Lao, Burmese, Khmer
    "\u0e01-\u0eff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\u1780-\u17ff"
    # radicals, kana, bopomofo
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    # Han, half-width kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""characters of scripts without spaces between words; Korean has spaces"""
_UNSPACED = re.compile(f"[{UNSPACED}]")
_JOINERS = "'’-‐\u200c\u200d"  # part of a word if inside it


class _WordCharacters(dict[int, str]):
    """Maps letters, marks, digits and joiners to themselves and all else to a space; a cache."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        is_word_char = unicodedata.category(char)[0] in "LMN" or char in _JOINERS
        self[code] = result = char if is_word_char else " "
        return result


_WORD_CHARACTERS = _WordCharacters()


def choose_tokenizer(name: MetricTokenizer, references: Iterable[str]) -> Tokenize:
    """Return the function that splits captions into words.

    Args:
        name: "ptb" is the tokenizer of the COCO evaluator, made for English. It splits other Latin,
            Greek, Cyrillic and Arabic text mostly at spaces and punctuation, but does not
            recognize letters that are typed as two code points. "words" is `split_words` and
            "characters" is `split_characters`. "auto" is "characters" if most letters of the
            references belong to scripts without spaces, such as Chinese, Japanese or Thai; else it
            is "ptb" after composing letters (NFC), which changes nothing in English.
        references: The captions that "auto" depends on.
    """
    match name:
        case "ptb":
            return ptb.tokenize
        case "words":
            return split_words
        case "characters":
            return split_characters
        case "auto":
            return split_characters if is_mostly_unspaced(references) else _tokenize_composed


def _tokenize_composed(text: str) -> list[str]:
    return ptb.tokenize(unicodedata.normalize("NFC", text))


def is_mostly_unspaced(texts: Iterable[str]) -> bool:
    """Return whether scripts without spaces prevail in `texts`.

    A character of such a script counts as much as a whole word of another script.
    """
    tokens = [token for text in texts for token in split_characters(text)]
    return sum(bool(_UNSPACED.match(token)) for token in tokens) > len(tokens) / 2


def split_words(text: str) -> list[str]:
    """Split a text into words in lower case, without punctuation and symbols.

    Letters are composed (NFC). Apostrophes and hyphens inside a word stay.
    """
    # Lowercasing may yield letters that can be composed (J̌ becomes ǰ), so this is done again.
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    words = [word.strip(_JOINERS) for word in text.translate(_WORD_CHARACTERS).split()]
    # Typographic apostrophes and hyphens become ASCII.
    return [word.replace("’", "'").replace("‐", "-") for word in words if word]


def split_characters(text: str) -> list[str]:
    """Split a text into words, and into single characters where a script has no spaces.

    Combining marks stay with their character.
    """
    return [token for word in split_words(text) for token in split_unspaced(word)]


def split_unspaced(word: str) -> list[str]:
    """Return the parts of a word: one for each character of a script without spaces."""
    tokens: list[str] = []
    for char in word:
        # Marks, and characters of scripts with spaces, belong to the token before them.
        is_mark = unicodedata.category(char)[0] == "M"
        if tokens and (is_mark or not (_UNSPACED.match(char) or _UNSPACED.match(tokens[-1]))):
            tokens[-1] += char
        else:
            tokens.append(char)
    return tokens
