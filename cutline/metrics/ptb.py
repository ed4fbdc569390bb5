r"""Words of a caption as the captioning field counts them: Penn Treebank tokens, lower-cased, without punctuation.

The numbers of the COCO evaluation (Chen et al. 2015, arXiv 1504.00325) are taken over the tokens of Stanford's PTBTokenizer 3.4.1.
This is a description of what that program does, as a table of rules: at each place the rule that reaches farthest wins, what it only
looks at counted in, and of equals the first. White space and characters that it does not know vanish, and part words.

The rules are written over the stand-ins of `characters.py`, where `é` is any letter beyond a-z, `–` any dash, and so on.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from cutline.metrics.characters import DIGIT, LETTER, MARK, SYMBOL, on_one_line, stand_ins

# --------------------------------------------------------------------------------------------- how a token is written

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_FRACTIONS = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_QUOTES = {
    **dict.fromkeys("\x91‘‛‹", "`"),
    **dict.fromkeys("\x92’›", "'"),
    **dict.fromkeys("\x93“«", "``"),
    **dict.fromkeys('"\x94”»', "''"),
}
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_SILENT = frozenset(["", "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""the punctuation that the field leaves out (in its list brackets are in capitals, so that they stay)"""

_Write = Callable[[str], str]


def _plain(token: str) -> str:
    return re.sub("(?i)&amp;", "&", _verbatim(token.replace("\xad", "")))


def _verbatim(token: str) -> str:
    return token.replace(" ", "\xa0")  # a space inside a token is a no-break space


def _quotes(token: str) -> str:
    return "".join(
        _QUOTES.get(char, char) for char in token.replace("&apos;", "'").replace("&quot;", '"')
    )


def _round_brackets(token: str) -> str:
    return _verbatim(token.replace("(", "-lrb-").replace(")", "-rrb-"))


def _always(text: str) -> _Write:
    return lambda token: text


_silent = _always("")

# ------------------------------------------------------------------------------------------------ parts of the rules


def _any_of(*words: str) -> str:
    """Any of the words in any case, except that a capital in the list must be one in the text."""
    return "|".join(
        f"{word[0]}(?i:{word[1:]})" if word[0].isupper() else f"(?i:{word})"
        for word in " ".join(words).split()
    )


_A = f"[A-Za-z{LETTER}]"  # a letter
_N = f"[0-9{DIGIT}]"
_AN = f"[A-Za-z0-9{LETTER}{DIGIT}]"
_WIDE_A = f"(?:[A-Za-z\xad{LETTER}{MARK}]|&[aeiouAEIOU](?i:acute|grave|uml);)"  # with marks, soft hyphens and entities
_WIDE_AN = f"(?:{_N}|{_WIDE_A})"
_BLANK = "[ \t\xa0\u3000]"
_GAP = "[ \t\xa0\u3000\n]"
_APOSTROPHE = "(?:['\x92’]|(?i:&apos;))"
_TICK = "(?:['\x92’`\x91‘‛]|(?i:&apos;))"  # what people type for an apostrophe
_CLITIC = f"{_APOSTROPHE}(?:(?i:re|ve|ll)|[msdMSD])"
_NOT = f"[nN]{_TICK}[tT]"

_WORD = f"{_WIDE_A}{_WIDE_AN}*(?:[.!?]{_WIDE_A}{_WIDE_AN}*)*"
_PART = f"(?:[dDoOlL]{_TICK}{_AN})?{_AN}+"  # l'eau, O'Brien, 3rd
_COMPOUND = f"{_PART}(?:[-_‐]{_PART})*"
_DOTTED = r"[A-Za-z](?:\.[A-Za-z])+"  # a.m without its last period
_NATIONS = r"(?i:canada|sino|korean|eu|japan|non)-(?i:u\.s)"
_LOOSE_COMPOUND = rf"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:{_DOTTED}\.|[A-Za-z0-9\xad]+))+"  # U.S.-based, 1,000-strong
_INITIALS = "[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+"  # AT&T
_SLASHED = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_NUMBER = f"(?:{_N}*(?:[.:,\xad٫]{_N}+)+|{_N}+)"
_APOSTROPHE_WORD = "|".join(
    [
        f"{_APOSTROPHE}[nN]{_APOSTROPHE}?",  # rock 'n' roll
        f"(?i:dunkin|somethin|ol){_APOSTROPHE}",
        f"{_APOSTROPHE}(?:(?i:em|till?|cause)|[2-9]0[sS])",
        rf"(?i:c{_APOSTROPHE}mon|o{_APOSTROPHE}clock|cont'd\.?|nor'easter|e'er|s'mores|ev'ry|li'l|nat'l|o{_TICK}o)",
        f"{_A}+[aeiouyAEIOUY]{_TICK}[aeiouA-Z]{_A}*",  # Hawai'i
        f"[A-HJ-XZn]{_TICK}{_A}{_A}+",  # O'Hara
        f"[lLdDjJ]{_APOSTROPHE}",
    ]
)
_ABBREVIATION = _any_of(
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri",
    "ala ariz Ark Az calif colo conn ct dak Del fla ga Ill ind kan kans ky La Mass md mich minn Miss mo mont neb nev okla Ore Pa penn",
    "tenn Tex va vt Wash wis wisc wyo inc co cos corp ltd plc rt bancorp dept bhd assn univ intl sys bldg blvd rd",
    r"tel est ext sq jr sr bros esq ed\.d ph\.d etc al seq pt(?-i:[ey])s? ppt(?-i:[ey])s?",
)
_TITLE = _any_of(
    "adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl det dr drs elec ens ft gen gov govs hon insp invt jos",
    "lieut lt maj messrs m(?-i:[ft])g mlle mme mr mrs ms msgr mt natl pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste",
    "supt supts treas vs wm [a-z]",
)
_BEFORE_NUMBER = _any_of("ca fig figs prop no nos art pp op")
_SENTENCE_START = _any_of(
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Mr\\. Ms\\. Now Once One",
    "Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You",
)
_FILE = "bat|bmp|c|cgi|class|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|zip"
_URL_END = r'[^ \t\n"<>|.!?(){},-]'
_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_VALUE = """(?:'[^'\n]*'|"[^"\n]*")"""
_TAG = rf"<(?:[!?][A-Za-z-][^>\n]*|{_NAME}(?: +{_NAME}(?: *= *{_VALUE})?)* */?|/{_NAME}) *>"
_WIDE_FACE = r"[\^x=~<>]\.\[\^x=~<>\]|[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)"

# ---------------------------------------------------------------------------------------------------------- the rules


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    """group 1 is the token, the rest is only looked at"""
    write: _Write


def _rule(token: str, then: str = "", write: _Write = _plain) -> _Rule:
    return _Rule(re.compile(f"({token}){then}"), write)


_RULES = [
    _rule("(?i:can)", "(?i:not)"),
    _rule("(?i:gon|wan)", "(?i:na)"),
    _rule("(?i:got)", "(?i:ta)"),
    _rule("(?i:lem|gim)", "(?i:me)"),
    _rule("'[tT]", "(?i:is|was)"),
    # words
    _rule(_WORD, _CLITIC),
    _rule("[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", _NOT),
    _rule(_WORD),
    _rule(_APOSTROPHE_WORD),
    _rule(f"[yY]{_APOSTROPHE}", _A),
    _rule(_CLITIC, "[^A-Za-z]", _quotes),
    _rule(_NOT, write=_quotes),
    # addresses
    _rule(rf'(?i:https?)://[^ \t\n"<>|(){{}}]+{_URL_END}', write=_verbatim),
    _rule(
        rf"""(?:(?i:www)\.(?:[^ \t\n"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}|(?:[^ \t\n"`'<>|.!?(){{}},-_$]+\.)+(?i:com|net|org|edu))"""
        rf'(?:/[^ \t\n"<>|()]+{_URL_END})?',
        write=_verbatim,
    ),
    _rule(
        r'(?:<|(?i:&lt;))?[a-zA-Z0-9][^ \t\n"<>|()\xa0{}]*@(?:[^ \t\n"<>|(){}.\xa0]+\.)*[^ \t\n"<>|(){}.\xa0]+(?:>|(?i:&gt;))?',
        write=_verbatim,
    ),
    _rule(f"@[A-Za-z_][A-Za-z_0-9]*|#{_WIDE_A}+", write=_verbatim),
    # numbers
    _rule(f"{_N}{{1,2}}[-/]{_N}{{1,2}}[-/]{_N}{{2,4}}"),
    _rule(f"[-+]?{_NUMBER}"),
    _rule("⁺?(?:²+|₂+)"),
    _rule(rf"(?:{_N}{{1,4}}[- \xa0])?{_N}{{1,4}}(?:\\?/|⁄){_N}{{1,4}}"),
    _rule("½", write=_FRACTIONS.__getitem__),
    _rule(
        r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])[0-9]{3,4}[- \xa0]?[0-9]{3,5}"
        r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
        write=_round_brackets,
    ),
    _rule(f"{_APOSTROPHE}[0-9][0-9]", _GAP),
    # abbreviations and compounds
    _rule(
        rf"(?i:-[lr][rcs]b-|c\.d\.s|pro-|anti-|s(?:&|&amp;)(?:p-500|ls)|cap{_APOSTROPHE}n|c{_APOSTROPHE}est|[cf]#|c\+\+)"
    ),
    _rule(rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}"),
    _rule(rf"(?:{_ABBREVIATION})\.", r"[\s\S][\s\S]"),
    _rule(rf"(?:{_ABBREVIATION}|{_TITLE})\."),
    _rule(rf"(?:{_NATIONS}|{_DOTTED})\."),
    _rule("[A-Za-z]", rf"\.{_BLANK}+(?:{_SENTENCE_START}|{_TAG}){_GAP}"),
    _rule(rf"(?:{_BEFORE_NUMBER})\.", f"{_GAP}?{_N}"),
    _rule(rf"{_NATIONS}|(?i:u\.s\.-u\.(?:k|s\.s\.r))|{_DOTTED}", _GAP),
    _rule(rf"{_WIDE_AN}+(?:\.{_WIDE_AN}+)*\.(?i:{_FILE})", "[ \t\xa0\u3000\n.?!,]", _verbatim),
    _rule(rf"(?:{_LOOSE_COMPOUND}|{_WORD}|{_COMPOUND}|{_INITIALS})\.", "[,;:、]"),
    _rule(_LOOSE_COMPOUND),
    _rule(_COMPOUND),
    _rule(_INITIALS),
    # signs
    _rule(_TAG, write=_verbatim),
    _rule("[A-Z]*[$]|#"),
    _rule("[\x80¤₠€]", write=_always("$")),
    _rule("£", write=_always("#")),
    _rule("¢", write=_always("cents")),
    _rule("(?i:&lt;|&gt;|&amp;)", write=lambda token: _ENTITIES[token.lower()]),
    _rule("&(?:(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq)|#[0-9]+);"),
    _rule(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|[\]]", "[^A-Za-z0-9]", _round_brackets),
    _rule(_WIDE_FACE, write=_round_brackets),
    _rule(r"[][(){}]", write=_BRACKETS.__getitem__),
    _rule(rf"[?!]+|@+|#+|_+|\*+|(?:\\\*){{1,3}}|/|<<|>>|[<>=+%&~^|\\{SYMBOL}⁺⁄、]"),
    _rule("-----+"),
    _rule(
        r"--?-?-?|–|\.{3,5}|(?:\.[ \xa0]){2,4}\.|…|[.,;:]|(?i:&(?:md|mdash|ndash|nbsp);)",
        write=_silent,
    ),
    _rule(f"{_BLANK}+", write=_silent),
    _rule("'", r"[A-Za-z][^ \t\n\xa0]", _silent),
    _rule(_CLITIC, write=_quotes),
    _rule("''|['\"]|(?i:&apos;|&quot;)|[`\x91-\x94‘’‚‛“”„‟‹›«»]{1,2}", write=_quotes),
]
_PLAIN_WORD = re.compile(
    rf"(?!(?i:cannot|gonna|wanna|gotta|lemme|gimme)(?!{_A})|(?=[A-Za-z]+\.)(?:{_ABBREVIATION}|{_TITLE}|{_BEFORE_NUMBER})\.)"
    rf"({_A}*)(?:,|\.(?![ \xa0]\.))?(?:[ \t]{_BLANK}*|\n)"
)
"""most words, to which no other rule applies, with the punctuation and the gap behind them: only for speed"""


def tokenize(text: str) -> list[str]:
    """MetricTokenizer of one caption, lower-cased, punctuation removed; none for an empty one.

    They are those of Stanford's PTBTokenizer (CoreNLP 3.4.1, `-lowerCase`) for the caption alone, less the field's punctuation; over a
    file that program also peeks at the next line, so that whether a last `X.` keeps its period depends on it. Line breaks are spaces.
    """
    text = on_one_line(text)
    kinds = stand_ins(text) + "\n"
    tokens: list[str] = []
    start = 0
    while start < len(text):
        if plain := _PLAIN_WORD.match(kinds, start):
            token, start = text[start : plain.end(1)], plain.end()
        else:
            end, write = _longest(kinds, start)
            token, start = write(text[start:end]), end
        tokens.append(token.lower())
    return [token for token in tokens if token not in _SILENT]


def _longest(kinds: str, start: int) -> tuple[int, _Write]:
    """End of the token that starts here, and how it is written; a character that starts none is passed over."""
    farthest, end, write = start, start + 1, _silent
    for rule in _RULES:
        match = rule.pattern.match(kinds, start)
        if match and match.end() > farthest:
            farthest, end, write = match.end(), match.end(1), rule.write
    return end, write
