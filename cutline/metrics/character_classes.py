"""Classes of characters, as the Penn Treebank tokenizer distinguishes them.

Its rules are written over about a hundred characters. Every other character of the text is first
replaced by a representative of its class, one for one, so that positions in the text stay valid.
The classes are those of Unicode 6.1, except that letters are those of the Unicode version at hand.
"""

import re
import unicodedata

LETTER, MARK, DIGIT, SYMBOL, UNKNOWN = "é", "¸", "¾", "§", "\0"
"""representatives of large classes; ¾ is free to stand for digits, as the text's own becomes ½"""
_UNCHANGED = frozenset(
    "\t\xa0\xad\x91\x92\x93\x94‘’‚‛“”„‟‹›«»\x80¢£¤€₠⁄、…" + "".join(map(chr, range(32, 127)))
)
_CLASSES = [
    ("\u3000", re.compile("[\u2000-\u200a\u3000]")),  # spaces
    ("–", re.compile("[\x96\x97\u2013-\u2015]")),  # dashes
    ("‐", re.compile("[\u058a\u2010\u2011]")),  # hyphens
    ("٫", re.compile("[\u066b\u066c]")),  # Arabic decimal and thousands separators
    ("½", re.compile("[¼½¾⅓⅔]")),  # fractions
    ("²", re.compile("[²³¹\u2070\u2074-\u2079]")),  # superscript digits
    ("₂", re.compile("[\u2080-\u2089]")),  # subscript digits
    ("⁺", re.compile("[\u207a\u207b\u208a\u208b]")),  # superscript and subscript signs
]
_MARKS = re.compile(
    "[\u02c2-\u0379\u0384\u0385\u03f6\u0483-\u0487\u055a-\u055f\u0591-\u05bd\u05bf\u05c1\u05c2"
    "\u05c4\u05c5\u05c7\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06fe\u070f-\u07b0\u07eb-\u07f3"
    "\u0900-\u0903\u093c-\u094e\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc-\u09c4\u09c7\u09c8"
    "\u09cb-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc-\u0acf"
    "\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d44"
    "\u0d46-\u0d48\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ecd]"
)
_SYMBOLS = re.compile(
    "[\xa1-\u037e\u0387\u0589\u05be-\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060c\u0614-\u061b"
    "\u061e\u061f\u066a-\u070d\u07f6-\u07f8\u0964\u0965\u0e3f-\u0e4f\u1fbd\u2016-\u2023"
    "\u2030-\u203b\u203e-\u2042\u207c-\u208e\u20a4\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3002"
    "\u3012\u30fb\uff01-\uff65\uffe0\uffe1\uffe5\uffe6]"
)
_LINE_BREAK = re.compile("[\n\r\v\f\x85\u2028\u2029]")


class _Representatives(dict[int, str]):
    """Maps each code point to the representative of its class; a cache."""

    def __missing__(self, code: int) -> str:
        self[code] = representative = _find_representative(chr(code))
        return representative


def _find_representative(char: str) -> str:
    if char in _UNCHANGED:
        return char
    if char > "\uffff":
        return UNKNOWN
    for representative, pattern in _CLASSES:
        if pattern.match(char):
            return representative
    category = unicodedata.category(char)
    if category[0] == "L" or char in "\u1885\u1886":  # these two are marks since Unicode 9
        return LETTER
    if category == "Nd":
        return DIGIT
    if _MARKS.match(char):
        return MARK
    return SYMBOL if _SYMBOLS.match(char) else UNKNOWN


_REPRESENTATIVES = _Representatives()


def replace_line_breaks(text: str) -> str:
    """Return the text with a space in place of each line break."""
    return _LINE_BREAK.sub(" ", text)


def replace_by_class(text: str) -> str:
    """Return the text with each character replaced by the representative of its class.

    Printable ASCII and most punctuation represent themselves.
    """
    return text.translate(_REPRESENTATIVES)
