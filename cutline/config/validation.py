"""The base of the settings dataclasses, which checks every value, and validation helpers."""

import math
import os
from functools import cache
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from cutline.config.renames import find_new_value
from cutline.errors import ConfigError, SettingError
from cutline.messages import format_value

_TYPES: dict[Any, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "an integer"),
    float: (Real, "a number"),
    str: (str, "a string"),
}
"""type of a field → the abstract type of its values (numpy's numbers included), and its name"""

MIN_INT, MAX_INT = -(2**63), 2**64 - 1
"""integers of 64 bits, signed or unsigned"""


class Settings:
    """The base of every settings dataclass.

    Each value must have the type of its field: a choice of a `Literal`, a finite number, an integer
    of at most 64 bits, a string without NUL, or a tuple of these. A float field may hold an
    integer, and a bool is not a number. Numbers of other libraries, such as numpy's, become
    Python's, which JSON can store; paths become strings, and lists become tuples.
    """

    def __post_init__(self) -> None:
        settings: Any = type(self)
        for name, hint in _find_type_hints(settings).items():
            value = getattr(self, name)
            checked = _check(settings, name, hint, value)
            if checked is not value:
                object.__setattr__(self, name, checked)


@cache  # settings are made for every image that is sampled, and looking up types is slow
def _find_type_hints(settings: type) -> dict[str, Any]:
    """Return the type of each field."""
    return get_type_hints(settings)


def _check(settings: type, name: str, hint: Any, value: Any) -> Any:
    """Return the value of a field as its type `hint`, or raise SettingError."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        require_choice(name, value, arguments, settings)
    elif NoneType in arguments:
        return None if value is None else _check(settings, name, arguments[0], value)
    elif get_origin(hint) is tuple:
        return _check_tuple(settings, name, arguments, value)
    elif hint in _TYPES:
        return _check_scalar(settings, name, hint, value)
    return value


def _check_tuple(settings: type, name: str, hints: tuple[Any, ...], values: Any) -> tuple[Any, ...]:
    any_length = hints[-1] is Ellipsis
    size = "a list" if any_length else f"a list of {len(hints)} values"
    if not isinstance(values, tuple | list) or not (any_length or len(values) == len(hints)):
        raise SettingError(settings, name, f"must be {size}, not {format_value(values)}")
    hints = hints[:1] * len(values) if any_length else hints
    return tuple(
        _check(settings, f"{name}[{index}]", hint, value)
        for index, (hint, value) in enumerate(zip(hints, values, strict=True))
    )


def _check_scalar(settings: type, name: str, kind: Any, value: Any) -> Any:
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    abstract_type, description = _TYPES[kind]
    if not isinstance(value, abstract_type) or (kind is not bool and isinstance(value, bool)):
        raise SettingError(settings, name, f"must be {description}, not {format_value(value)}")
    if not isinstance(value, kind | int):
        value = kind(value)
    if problem := _find_problem(value):
        raise SettingError(settings, name, f"{problem}, not {format_value(value)}")
    return value


def _find_problem(value: Any) -> str:
    if isinstance(value, int) and not MIN_INT <= value <= MAX_INT:
        return "must be a number of at most 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if isinstance(value, str) and "\0" in value:
        return "must be text without NUL characters"
    return ""


def require(ok: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `ok`."""
    if not ok:
        raise ConfigError(message)


def require_count(name: str, value: object, minimum: int) -> None:
    """Raise ConfigError unless `value` is an integer and at least `minimum`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ConfigError(f"{name} must be an integer, not {format_value(value)}")
    require(int(value) >= minimum, f"{name} must be at least {minimum}, not {format_value(value)}")


def reject(config: Settings, name: str, problem: str) -> NoReturn:
    """Raise the error that the value of the field `name` has a problem, which ends its sentence."""
    raise SettingError(type(config), name, problem)


def require_at_least(
    config: Settings, minimum: float, *names: str, maximum: float = math.inf
) -> None:
    """Raise SettingError unless each of the fields `names` is in [minimum, maximum]."""
    for name in names:
        value = getattr(config, name)
        if not minimum <= value <= maximum:
            bound = f"at least {minimum}" if value < minimum else f"at most {maximum}"
            reject(config, name, f"must be {bound}, not {format_value(value)}")


def require_between(config: Settings, low: float, high: float, *names: str) -> None:
    """Raise SettingError unless each of the fields `names` is in [low, high], or None."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            reject(config, name, f"must be between {low} and {high}, not {format_value(value)}")


def require_positive(config: Settings, *names: str, maximum: float = math.inf) -> None:
    """Raise SettingError unless each of the fields `names` is in (0, maximum]."""
    bounds = "positive" if maximum == math.inf else f"in (0, {maximum}]"
    for name in names:
        if not 0 < (value := getattr(config, name)) <= maximum:
            reject(config, name, f"must be {bounds}, not {format_value(value)}")


def require_fractions(config: Settings, *names: str) -> None:
    """Raise SettingError unless each of the fields `names` is in [0, 1), or None."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            reject(config, name, f"must be in [0, 1), not {format_value(value)}")


def require_choice(
    name: str, value: object, choices: tuple[Any, ...], settings: type | None = None
) -> None:
    """Raise SettingError unless `value` is one of `choices`; an old spelling names the new one."""
    if value in choices:
        return
    new = find_new_value(name, value)
    hint = f"is now {new!r}" if new else f"is not one of {', '.join(choices)}"
    raise SettingError(settings, name, f"{format_value(value)} {hint}")
