r"""The tokenizer of the COCO evaluator: Penn Treebank tokens in lower case, without punctuation.

The evaluator (Chen et al., 2015, arXiv 1504.00325) uses Stanford's PTBTokenizer 3.4.1. This module
reproduces that program as a table of rules. At each position the rule with the longest match wins,
lookahead included, and among equals the first. Whitespace and unknown characters separate tokens
and are dropped.

The rules are written over the representatives of `character_classes.py`: `é` is any letter other
than a-z, `–` any dash, and so on.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from cutline.metrics.character_classes import (
    DIGIT,
    LETTER,
    MARK,
    SYMBOL,
    replace_by_class,
    replace_line_breaks,
)

# ---------------------------------------------------------------- how a matched text is formatted

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_QUOTES = {
    **dict.fromkeys("\x91‘‛‹", "`"),
    **dict.fromkeys("\x92’›", "'"),
    **dict.fromkeys("\x93“«", "``"),
    **dict.fromkeys('"\x94”»', "''"),
}
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_DROPPED = frozenset(["", "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""punctuation that the evaluator drops; its list has brackets in capitals, so brackets stay"""

_Formatter = Callable[[str], str]


def _format_word(token: str) -> str:
    return re.sub("(?i)&amp;", "&", _format_verbatim(token.replace("\xad", "")))


def _format_verbatim(token: str) -> str:
    return token.replace(" ", "\xa0")  # a space inside a token becomes a no-break space


def _format_quotes(token: str) -> str:
    token = token.replace("&apos;", "'").replace("&quot;", '"')
    return "".join(_QUOTES.get(char, char) for char in token)


def _format_round_brackets(token: str) -> str:
    return _format_verbatim(token.replace("(", "-lrb-").replace(")", "-rrb-"))


def _format_as(text: str) -> _Formatter:
    return lambda token: text


_drop = _format_as("")

# ------------------------------------------------------------------------- components of the rules


def _any_of(*words: str) -> str:
    """Return a pattern that matches any of the words.

    Case is ignored, but a capital initial in the list requires a capital in the text.
    """
    return "|".join(
        f"{word[0]}(?i:{word[1:]})" if word[0].isupper() else f"(?i:{word})"
        for word in " ".join(words).split()
    )


_LETTER = f"[A-Za-z{LETTER}]"
_DIGIT = f"[0-9{DIGIT}]"
_ALNUM = f"[A-Za-z0-9{LETTER}{DIGIT}]"
# a letter, also with marks, soft hyphens or entities
_EXTENDED_LETTER = f"(?:[A-Za-z\xad{LETTER}{MARK}]|&[aeiouAEIOU](?i:acute|grave|uml);)"
_EXTENDED_ALNUM = f"(?:{_DIGIT}|{_EXTENDED_LETTER})"
_BLANK = "[ \t\xa0\u3000]"
_GAP = "[ \t\xa0\u3000\n]"
_APOSTROPHE = "(?:['\x92’]|(?i:&apos;))"
_TICK = "(?:['\x92’`\x91‘‛]|(?i:&apos;))"  # what people type for an apostrophe
_CLITIC = f"{_APOSTROPHE}(?:(?i:re|ve|ll)|[msdMSD])"
_NOT = f"[nN]{_TICK}[tT]"

_WORD = f"{_EXTENDED_LETTER}{_EXTENDED_ALNUM}*(?:[.!?]{_EXTENDED_LETTER}{_EXTENDED_ALNUM}*)*"
_PART = f"(?:[dDoOlL]{_TICK}{_ALNUM})?{_ALNUM}+"  # l'eau, O'Brien, 3rd
_COMPOUND = f"{_PART}(?:[-_‐]{_PART})*"
_DOTTED = r"[A-Za-z](?:\.[A-Za-z])+"  # a.m without its last period
_NATIONS = r"(?i:canada|sino|korean|eu|japan|non)-(?i:u\.s)"
# U.S.-based, 1,000-strong
_LOOSE_COMPOUND = rf"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:{_DOTTED}\.|[A-Za-z0-9\xad]+))+"
_INITIALS = "[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+"  # AT&T
_SLASHED = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_NUMBER = f"(?:{_DIGIT}*(?:[.:,\xad٫]{_DIGIT}+)+|{_DIGIT}+)"
_APOSTROPHE_WORD = "|".join(
    [
        f"{_APOSTROPHE}[nN]{_APOSTROPHE}?",  # rock 'n' roll
        f"(?i:dunkin|somethin|ol){_APOSTROPHE}",
        f"{_APOSTROPHE}(?:(?i:em|till?|cause)|[2-9]0[sS])",
        rf"(?i:c{_APOSTROPHE}mon|o{_APOSTROPHE}clock|cont'd\.?|nor'easter|e'er)",
        rf"(?i:s'mores|ev'ry|li'l|nat'l|o{_TICK}o)",
        f"{_LETTER}+[aeiouyAEIOUY]{_TICK}[aeiouA-Z]{_LETTER}*",  # Hawai'i
        f"[A-HJ-XZn]{_TICK}{_LETTER}{_LETTER}+",  # O'Hara
        f"[lLdDjJ]{_APOSTROPHE}",
    ]
)
_ABBREVIATION = _any_of(
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri",
    "ala ariz Ark Az calif colo conn ct dak Del fla ga Ill ind kan kans ky La Mass md mich minn",
    "Miss mo mont neb nev okla Ore Pa penn tenn Tex va vt Wash wis wisc wyo",
    "inc co cos corp ltd plc rt bancorp dept bhd assn univ intl sys bldg blvd rd",
    r"tel est ext sq jr sr bros esq ed\.d ph\.d etc al seq pt(?-i:[ey])s? ppt(?-i:[ey])s?",
)
_TITLE = _any_of(
    "adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl det dr drs",
    "elec ens ft gen gov govs hon insp invt jos lieut lt maj messrs m(?-i:[ft])g mlle mme mr mrs",
    "ms msgr mt natl pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste",
    "supt supts treas vs wm [a-z]",
)
_BEFORE_NUMBER = _any_of("ca fig figs prop no nos art pp op")
_SENTENCE_START = _any_of(
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last",
    "Many More Mr\\. Ms\\. Now Once One Other Our She Since So Some Such That The Their Then There",
    "These They This We What When While Yet You",
)
_FILE_EXTENSION = (
    "bat|bmp|c|cgi|class|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|"
    "ppt|ps|py|sql|tar|txt|wav|x|xml|zip"
)
_URL_END = r'[^ \t\n"<>|.!?(){},-]'
_TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_ATTRIBUTE_VALUE = """(?:'[^'\n]*'|"[^"\n]*")"""
_ATTRIBUTE = f"{_TAG_NAME}(?: *= *{_ATTRIBUTE_VALUE})?"
_TAG = rf"<(?:[!?][A-Za-z-][^>\n]*|{_TAG_NAME}(?: +{_ATTRIBUTE})* */?|/{_TAG_NAME}) *>"
_ASIAN_SMILEY = "|".join(  # (^_^)
    [
        r"[\^x=~<>]\.\[\^x=~<>\]",
        "[-^x=~<>']_[-^x=~<>']",
        r"\([-^x=~<>'][_.]?[-^x=~<>']\)",
        r"\([\^x=~<>']-[\^x=~<>'`]\)",
    ]
)
_WWW_HOST = r'(?i:www)\.(?:[^ \t\n"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}'
_HOST = r'(?:[^ \t\n"`' + r"'<>|.!?(){},-_$]+\.)+(?i:com|net|org|edu)"
_EMAIL = (
    r'(?:<|(?i:&lt;))?[a-zA-Z0-9][^ \t\n"<>|()\xa0{}]*@'
    r'(?:[^ \t\n"<>|(){}.\xa0]+\.)*[^ \t\n"<>|(){}.\xa0]+(?:>|(?i:&gt;))?'
)
_PHONE = "|".join(
    [
        r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
        r"[0-9]{3,4}[- \xa0]?[0-9]{3,5}",
        r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
    ]
)

# --------------------------------------------------------------------------------------- the rules


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    """group 1 is the token; the rest is lookahead"""
    formatter: _Formatter


def _rule(token: str, lookahead: str = "", formatter: _Formatter = _format_word) -> _Rule:
    return _Rule(re.compile(f"({token}){lookahead}"), formatter)


_RULES = [
    # parts of words: the comments show a bar where the token ends
    _rule("(?i:can)", "(?i:not)"),  # can|not
    _rule("(?i:gon|wan)", "(?i:na)"),  # gon|na
    _rule("(?i:got)", "(?i:ta)"),  # got|ta
    _rule("(?i:lem|gim)", "(?i:me)"),  # lem|me
    _rule("'[tT]", "(?i:is|was)"),  # 't|is
    # words
    _rule(_WORD, _CLITIC),  # dog|'s
    _rule("[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", _NOT),  # do|n't
    _rule(_WORD),
    _rule(_APOSTROPHE_WORD),
    _rule(f"[yY]{_APOSTROPHE}", _LETTER),
    _rule(_CLITIC, "[^A-Za-z]", _format_quotes),
    _rule(_NOT, formatter=_format_quotes),
    # URLs, email addresses, mentions and hashtags
    _rule(rf'(?i:https?)://[^ \t\n"<>|(){{}}]+{_URL_END}', formatter=_format_verbatim),
    _rule(rf'(?:{_WWW_HOST}|{_HOST})(?:/[^ \t\n"<>|()]+{_URL_END})?', formatter=_format_verbatim),
    _rule(_EMAIL, formatter=_format_verbatim),
    _rule(f"@[A-Za-z_][A-Za-z_0-9]*|#{_EXTENDED_LETTER}+", formatter=_format_verbatim),
    # numbers
    _rule(f"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}"),  # 1/2/2015
    _rule(f"[-+]?{_NUMBER}"),  # -1,000.5
    _rule("⁺?(?:²+|₂+)"),
    # 2 1/2
    _rule(rf"(?:{_DIGIT}{{1,4}}[- \xa0])?{_DIGIT}{{1,4}}(?:\\?/|⁄){_DIGIT}{{1,4}}"),
    _rule("½", formatter=_FRACTIONS.__getitem__),
    _rule(_PHONE, formatter=_format_round_brackets),  # (555) 123-4567
    _rule(f"{_APOSTROPHE}[0-9][0-9]", _GAP),  # '98
    # abbreviations and compounds
    _rule(
        rf"(?i:-[lr][rcs]b-|c\.d\.s|pro-|anti-|s(?:&|&amp;)(?:p-500|ls)|cap{_APOSTROPHE}n"
        rf"|c{_APOSTROPHE}est|[cf]#|c\+\+)"
    ),
    _rule(rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}"),  # and/or
    _rule(rf"(?:{_ABBREVIATION})\.", r"[\s\S][\s\S]"),  # Inc. inside a text
    _rule(rf"(?:{_ABBREVIATION}|{_TITLE})\."),  # Dr.
    _rule(rf"(?:{_NATIONS}|{_DOTTED})\."),  # U.S.
    _rule("[A-Za-z]", rf"\.{_BLANK}+(?:{_SENTENCE_START}|{_TAG}){_GAP}"),
    _rule(rf"(?:{_BEFORE_NUMBER})\.", f"{_GAP}?{_DIGIT}"),  # no.| 5
    _rule(rf"{_NATIONS}|(?i:u\.s\.-u\.(?:k|s\.s\.r))|{_DOTTED}", _GAP),
    _rule(
        rf"{_EXTENDED_ALNUM}+(?:\.{_EXTENDED_ALNUM}+)*\.(?i:{_FILE_EXTENSION})",
        "[ \t\xa0\u3000\n.?!,]",
        _format_verbatim,
    ),
    _rule(rf"(?:{_LOOSE_COMPOUND}|{_WORD}|{_COMPOUND}|{_INITIALS})\.", "[,;:、]"),
    _rule(_LOOSE_COMPOUND),
    _rule(_COMPOUND),
    _rule(_INITIALS),
    # tags, currencies, smileys, punctuation and symbols
    _rule(_TAG, formatter=_format_verbatim),
    _rule("[A-Z]*[$]|#"),  # US$
    _rule("[\x80¤₠€]", formatter=_format_as("$")),
    _rule("£", formatter=_format_as("#")),
    _rule("¢", formatter=_format_as("cents")),
    _rule("(?i:&lt;|&gt;|&amp;)", formatter=lambda token: _ENTITIES[token.lower()]),
    _rule("&(?:(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq)|#[0-9]+);"),
    _rule(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|[\]]", "[^A-Za-z0-9]", _format_round_brackets),
    _rule(_ASIAN_SMILEY, formatter=_format_round_brackets),
    _rule(r"[][(){}]", formatter=_BRACKETS.__getitem__),
    _rule(rf"[?!]+|@+|#+|_+|\*+|(?:\\\*){{1,3}}|/|<<|>>|[<>=+%&~^|\\{SYMBOL}⁺⁄、]"),
    _rule("-----+"),
    _rule(
        r"--?-?-?|–|\.{3,5}|(?:\.[ \xa0]){2,4}\.|…|[.,;:]|(?i:&(?:md|mdash|ndash|nbsp);)",
        formatter=_drop,
    ),
    _rule(f"{_BLANK}+", formatter=_drop),
    _rule("'", r"[A-Za-z][^ \t\n\xa0]", _drop),  # an opening quotation mark
    _rule(_CLITIC, formatter=_format_quotes),
    _rule(
        "''|['\"]|(?i:&apos;|&quot;)|[`\x91-\x94‘’‚‛“”„‟‹›«»]{1,2}",
        formatter=_format_quotes,
    ),
]
_PLAIN_WORD = re.compile(
    rf"(?!(?i:cannot|gonna|wanna|gotta|lemme|gimme)(?!{_LETTER})"
    rf"|(?=[A-Za-z]+\.)(?:{_ABBREVIATION}|{_TITLE}|{_BEFORE_NUMBER})\.)"
    rf"({_LETTER}*)(?:,|\.(?![ \xa0]\.))?(?:[ \t]{_BLANK}*|\n)"
)
"""fast path: a word that no other rule matches, with the punctuation and whitespace after it; the
tokens are the same without it"""


def tokenize(text: str) -> list[str]:
    """Split a caption into tokens in lower case, without punctuation.

    The tokens are those of Stanford's PTBTokenizer (CoreNLP 3.4.1, `-lowerCase`) for this caption
    alone, without the punctuation that the COCO evaluator drops. Given a file, the program also
    looks at the next line to decide whether a final `X.` keeps its period. Line breaks count as
    spaces.
    """
    text = replace_line_breaks(text)
    classes = replace_by_class(text) + "\n"
    tokens: list[str] = []
    start = 0
    while start < len(text):
        if plain := _PLAIN_WORD.match(classes, start):
            token, start = text[start : plain.end(1)], plain.end()
        else:
            end, formatter = _match_longest(classes, start)
            token, start = formatter(text[start:end]), end
        tokens.append(token.lower())
    return [token for token in tokens if token not in _DROPPED]


def _match_longest(classes: str, start: int) -> tuple[int, _Formatter]:
    """Return the end of the token at `start`, and its formatter.

    A character that no rule matches is dropped.
    """
    longest, end, formatter = start, start + 1, _drop
    for rule in _RULES:
        match = rule.pattern.match(classes, start)
        if match and match.end() > longest:
            longest, end, formatter = match.end(), match.end(1), rule.formatter
    return end, formatter
