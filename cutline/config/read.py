"""Convert plain values and YAML to settings, strictly, and back."""

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from cutline.config.recipe import Recipe
from cutline.config.renames import find_new_name
from cutline.errors import ConfigError, SettingError
from cutline.messages import format_name, format_value

T = TypeVar("T")


def from_dict(cls: type[T], values: Any, where: str = "") -> T:
    """Make a settings dataclass from plain values.

    Args:
        cls: The dataclass.
        values: Mapping of field names to plain values, nested for nested dataclasses.
        where: Name of the file that holds them, for error messages.

    Returns:
        An instance of `cls`.

    Raises:
        ConfigError: A key or a value is wrong; the message names it.
    """
    try:
        return _make(cls, values, "")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def _make(cls: type[T], values: Any, path: str) -> T:
    """Make the dataclass of a section, whose settings have names that begin with `path`."""
    if not isinstance(values, dict):
        name = path.removesuffix(".") or "the file"
        given = "empty" if values is None else format_value(values)
        raise ConfigError(f"{name} must be a mapping of settings to values, but it is {given}")
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise ConfigError(_explain_unknown_key(path, format_name(key), list(hints)))
    arguments = {
        name: _make(hints[name], value, f"{path}{name}.")
        if dataclasses.is_dataclass(hints[name])
        else _read_switch(hints[name], value)
        for name, value in values.items()
    }
    try:
        return cls(**arguments)
    except SettingError as error:
        raise ConfigError(f"{path}{error}{_suggest_quotes(error, arguments)}") from None


def _read_switch(hint: Any, value: Any) -> Any:
    """Return "on" or "off" for the booleans that YAML makes of these words, if it is a choice."""
    if isinstance(value, bool) and get_origin(hint) is Literal:
        word = "on" if value else "off"
        return word if word in get_args(hint) else value
    return value


def _suggest_quotes(error: SettingError, values: dict[str, Any]) -> str:
    """Return a hint for text that YAML reads as something else, such as 5 or no."""
    is_scalar = isinstance(values.get(error.name), bool | int | float)
    return "; put it in quotes" if is_scalar and "must be a string" in error.problem else ""


def _explain_unknown_key(path: str, key: str, fields: list[str]) -> str:
    name = f"{path}{key}"
    if new := find_new_name(name):
        return f"the setting `{name}` is now `{new}`"
    place = f" of `{path.removesuffix('.')}`" if path else ""
    similar = difflib.get_close_matches(key, fields, n=1)
    hint = (
        f"did you mean `{path}{similar[0]}`?"
        if similar
        else f"the settings{place} are {', '.join(fields)}"
    )
    return f"unknown setting `{name}`; {hint}"


def find_section(settings: type | None, root: type = Recipe) -> str:
    """Return where a recipe has the settings of a dataclass: `optim.` of OptimConfig, else ""."""
    for name, hint in get_type_hints(root).items():
        if hint is settings:
            return f"{name}."
        if dataclasses.is_dataclass(hint) and (inner := find_section(settings, cast(type, hint))):
            return f"{name}.{inner}"
    return ""


def to_dict(config: Any) -> dict[str, Any]:
    """Return the plain values of a settings dataclass, ready for JSON or YAML."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples → lists
    return values


def read_recipe(path: str | Path) -> Recipe:
    """Read a YAML recipe.

    Raises:
        ConfigError: The file cannot be read, or a key or value is wrong; the message names both.
    """
    from cutline.config.yaml import read_yaml  # PyYAML, which few commands need

    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a recipe is a YAML mapping such as `data: {{train: photos.jsonl}}`"
        )
    return from_dict(Recipe, values, str(path))
