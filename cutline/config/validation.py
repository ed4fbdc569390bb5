"""Validation helpers of the settings dataclasses."""

import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cutline.config.renames import find_new_value
from cutline.errors import ConfigError


def require(ok: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `ok`."""
    if not ok:
        raise ConfigError(message)


def require_at_least(config: Any, minimum: float, *names: str) -> None:
    """Raise ConfigError unless each of the fields `names` is finite and at least `minimum`."""
    for name in names:
        value = getattr(config, name)
        require(value >= minimum, f"{name} must be at least {minimum:g}, not {value}")
        require(math.isfinite(value), f"{name} must be finite, not {value}")


def require_fractions(config: Any, *names: str) -> None:
    """Raise ConfigError unless each of the fields `names` is in [0, 1), or None."""
    for name in names:
        value = getattr(config, name)
        require(value is None or 0 <= value < 1, f"{name} must be in [0, 1), not {value}")


def require_choices(config: Any) -> None:
    """Raise ConfigError unless every `Literal` field holds one of its values."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            require_choice(name, getattr(config, name), get_args(hint))


def require_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Raise ConfigError unless `value` is one of `choices`; an old spelling names the new one."""
    if value in choices:
        return
    new = find_new_value(name, value)
    hint = f"is now {new!r}" if new else f"is not one of {', '.join(choices)}"
    raise ConfigError(f"{name} {value!r} {hint}")
