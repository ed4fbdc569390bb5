"""What a setting that makes no sense runs into."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

from cutline.errors import ConfigError


def require(ok: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `ok`."""
    if not ok:
        raise ConfigError(message)


def require_choices(config: Any) -> None:
    """Fields that are a `Literal` must hold one of its values."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            value = getattr(config, name)
            require(
                value in get_args(hint),
                f"{name} {value!r} is not one of {', '.join(get_args(hint))}",
            )
