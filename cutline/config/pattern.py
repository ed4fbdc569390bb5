"""Regular expressions in settings, limited to those that are searched fast."""

import re
import warnings

from cutline.config.validation import Settings, reject
from cutline.messages import format_value

MAX_QUANTIFIERS = 3
"""maximum number of quantifiers in a regular expression: a search takes up to that power of the
length of the text, plus one"""
_QUANTIFIER = re.compile(r"(?<!\()(?:[*+?]|\{\d*,\d*\})[?+]?")
_REPEATED_GROUP = re.compile(r"\)[*+{]")  # a search can take exponential time


def require_simple_pattern(config: Settings, name: str) -> None:
    """Raise SettingError unless the field `name` is a regular expression that is searched fast."""
    pattern = getattr(config, name)
    if problem := _find_problem(pattern):
        reject(config, name, f"{format_value(pattern)} {problem}")


def _find_problem(pattern: str) -> str:
    """Return what is wrong with a regular expression, and what to do, or ""."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about sets inside sets
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"is not a regular expression ({error}): correct it"
    # without escaped characters, and without space, which (?x) allows before a quantifier
    bare = re.sub(r"[\s#]", "", re.sub(r"\\.", "x", pattern))
    if _REPEATED_GROUP.search(bare):
        return (
            "repeats a group in parentheses, which can take forever: "
            "repeat single characters, such as [a-z_]+"
        )
    if len(_QUANTIFIER.findall(bare)) > MAX_QUANTIFIERS:
        return (
            f"has more than {MAX_QUANTIFIERS} of * + ? {{}}, which can take forever: match only "
            "the part of the name that tells groups apart"
        )
    return ""
