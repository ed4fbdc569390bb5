"""Clean captions before tokenization, and join tokens to text after it."""

import re
from collections.abc import Sequence

from cutline.config import Cleaning

# Scripts that are written without spaces between words: Han, kana, bopomofo, full-width marks.
WIDE = (
    "\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
    "\uff5b-\uff9f\U00020000-\U0003ffff"
)
# Characters that these scripts share with others: digits, curly quotation marks, dashes, the
# ellipsis, the middle dot. Beside a wide character, they too are written without a space.
_SHARED = "\\d\u00b7\u2013-\u2015\u2018-\u201d\u2026"
_WIDE_SPACE = re.compile(f"(?<=[{WIDE}]) (?=[{WIDE}{_SHARED}])|(?<=[{_SHARED}]) (?=[{WIDE}])")

# The replacements of clean_up_tokenization in transformers 4.15, in its order.
_CONTRACTIONS = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {end}", end) for end in ("n't", "'m", "'s", "'ve", "'re")),
)


def clean_caption(text: str, clean: Cleaning, max_words: int) -> str:
    """Clean a caption before tokenization and truncate it.

    Args:
        text: The caption.
        clean: "blip" is BLIP's `pre_caption`: lower case; each of . ! " ( ) * # : ; ~ becomes a
            space; consecutive whitespace becomes one space. "none" only strips whitespace.
        max_words: Maximum number of words, which are split at single spaces.
    """
    if clean == "blip":
        text = re.sub(r'[.!"()*#:;~]', " ", text.lower())
        text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    else:
        text = text.strip()
    return " ".join(text.split(" ")[:max_words])


def join_tokens(tokens: Sequence[str], prefix: str = "##") -> str:
    """Join WordPiece tokens to text.

    The result is that of `BertTokenizer.decode` in transformers, except that Chinese and Japanese
    have no spaces, and that `prefix` is also removed from the first token.
    """
    text = " ".join(tokens).replace(f" {prefix}", "").removeprefix(prefix).strip()
    return _WIDE_SPACE.sub("", _join_contractions(text))


def join_bert_tokens(tokens: Sequence[str], prefix: str = "##") -> str:
    """Join WordPiece tokens to text as `BertTokenizer.decode` in transformers does."""
    return _join_contractions(" ".join(tokens).replace(f" {prefix}", "").strip())


def _join_contractions(text: str) -> str:
    for spaced, joined in _CONTRACTIONS:
        text = text.replace(spaced, joined)
    return text


def join_settled_tokens(tokens: Sequence[str], prefix: str = "##") -> str:
    """Join the first tokens of a text to the longest text that no further token changes.

    Further tokens only delete spaces: one before words at the end that may become part of a
    contraction such as "n't" or "'s", and one after them. All other words are complete.
    """
    text = join_tokens(tokens, prefix)
    words = " ".join(tokens).replace(f" {prefix}", "").removeprefix(prefix).split(" ")
    unsettled = []
    if words[-1].startswith(("'", "n")):
        unsettled.append(words.pop())
        if unsettled[0][0] == "'" and words and words[-1] == "n":
            unsettled.append(words.pop())
    for word in unsettled:
        text = text.removesuffix(word).rstrip(" ")
    return text


def remove_surrogates(text: str) -> str:
    """Remove lone surrogates, which JSON files may contain and UTF-8 cannot encode."""
    return text.encode("utf-8", "ignore").decode("utf-8")
