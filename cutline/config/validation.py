"""Validation helpers of the settings dataclasses."""

import math
import re
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cutline.config.renames import find_new_value
from cutline.errors import ConfigError

# type of a field → the abstract type of its values (numpy's numbers included), and its description
_TYPES: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "an integer"),
    float: (Real, "a number"),
    str: (str, "a string"),
}
MAX_VALUE_LENGTH = 80
"""characters of a wrong value that a message repeats"""


def format_value(value: object) -> str:
    """Return a wrong value as a message repeats it: on one line, and shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4300 digits
        return "a number with thousands of digits"
    return _shorten(text)


def format_name(name: object) -> str:
    """Return a wrong name as a message repeats it: without quotes, on one line, and shortened."""
    return _shorten(repr(str(name))[1:-1])


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}…"


MAX_QUANTIFIERS = 3
"""maximum number of quantifiers in a regular expression: a search takes up to that power of the
length of the text, plus one"""
_QUANTIFIER = re.compile(r"(?<!\()(?:[*+?]|\{\d*,?\d*\})[?+]?")
_REPEATED_GROUP = re.compile(r"\)[*+{]")  # a search can take exponential time


def require(ok: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `ok`."""
    if not ok:
        raise ConfigError(message)


def require_at_least(config: Any, minimum: float, *names: str) -> None:
    """Raise ConfigError unless each of the fields `names` is finite and at least `minimum`."""
    for name in names:
        value = getattr(config, name)
        require(value >= minimum, f"{name} must be at least {minimum:g}, not {value}")
        is_finite = isinstance(value, int) or math.isfinite(value)  # a huge integer is no float
        require(is_finite, f"{name} must be finite, not {value}")


def require_between(config: Any, low: float, high: float, *names: str) -> None:
    """Raise ConfigError unless each of the fields `names` is in [low, high]."""
    for name in names:
        value = getattr(config, name)
        require(low <= value <= high, f"{name} must be between {low:g} and {high:g}, not {value}")


def require_fractions(config: Any, *names: str) -> None:
    """Raise ConfigError unless each of the fields `names` is in [0, 1), or None."""
    for name in names:
        value = getattr(config, name)
        require(value is None or 0 <= value < 1, f"{name} must be in [0, 1), not {value}")


def require_simple_pattern(config: Any, name: str) -> None:
    """Raise ConfigError unless the field `name` is a regular expression that is searched fast."""
    pattern = getattr(config, name)
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{name} {pattern!r} is not a regular expression ({error}): correct it"
        ) from None
    # without escaped characters, and without space, which (?x) allows before a quantifier
    bare = re.sub(r"[\s#]", "", re.sub(r"\\.", "x", pattern))
    require(
        not _REPEATED_GROUP.search(bare),
        f"{name} {pattern!r} repeats a group in parentheses, which can take forever: "
        "repeat single characters, such as [a-z_]+",
    )
    require(
        len(_QUANTIFIER.findall(bare)) <= MAX_QUANTIFIERS,
        f"{name} {pattern!r} has more than {MAX_QUANTIFIERS} of * + ? {{}}, which can take "
        "forever: match only the part of the name that tells groups apart",
    )


@cache  # settings are made for every image that is sampled, and looking up types is slow
def find_type_hints(config_type: type) -> dict[str, Any]:
    """Return the type of each field."""
    return get_type_hints(config_type)


def require_types(config: Any) -> None:
    """Raise ConfigError unless every bool, int, float and str field holds a value of its type.

    A float field may hold an integer, a field of type `... | None` may hold None, and a bool is not
    a number. Numbers of other libraries, such as numpy's, become Python's, which JSON can store.
    """
    for name, hint in find_type_hints(config.__class__).items():
        for kind in _TYPES:
            if hint == kind or (hint == kind | None and getattr(config, name) is not None):
                _require_type(config, name, kind)


def _require_type(config: Any, name: str, kind: type) -> None:
    value = getattr(config, name)
    abstract_type, description = _TYPES[kind]
    valid = isinstance(value, abstract_type) and (kind is bool or not isinstance(value, bool))
    require(valid, f"{name} must be {description}, not {value!r}")
    if not isinstance(value, kind | int):
        object.__setattr__(config, name, kind(value))


def require_choices(config: Any) -> None:
    """Raise ConfigError unless every `Literal` field holds one of its values."""
    for name, hint in find_type_hints(config.__class__).items():
        if get_origin(hint) is Literal:
            require_choice(name, getattr(config, name), get_args(hint))


def require_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Raise ConfigError unless `value` is one of `choices`; an old spelling names the new one."""
    if value in choices:
        return
    new = find_new_value(name, value)
    hint = f"is now {new!r}" if new else f"is not one of {', '.join(choices)}"
    raise ConfigError(f"{name} {value!r} {hint}")
