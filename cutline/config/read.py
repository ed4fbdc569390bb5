"""Convert plain values and YAML to settings, strictly, and back."""

import dataclasses
import difflib
import json
import re
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from cutline.config.recipe import Recipe
from cutline.config.renames import find_new_name
from cutline.errors import ConfigError

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
    import msgspec

    prefix = f"{where}: " if where else ""
    try:
        _reject_unknown_keys(cls, values, "")
        return msgspec.convert(values, cls)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{prefix}{error}") from None


def _reject_unknown_keys(cls: type, values: Any, path: str) -> None:
    """Raise ConfigError for a key that is not a field; msgspec ignores such keys."""
    if not dataclasses.is_dataclass(cls) or not isinstance(values, dict):
        return
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(_explain_unknown_key(f"{path}{key}", str(key), path, list(hints)))
        _reject_unknown_keys(hints[key], value, f"{path}{key}.")


def _explain_unknown_key(name: str, key: str, path: str, fields: list[str]) -> str:
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


def to_dict(config: Any) -> dict[str, Any]:
    """Return the plain values of a settings dataclass, ready for JSON or YAML."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples → lists
    return values


def _recipe_loader() -> type:
    """Return a YAML loader in which 1e-5 is a number, as in YAML 1.2 (PyYAML reads a string)."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def read_recipe(path: str | Path) -> Recipe:
    """Read a YAML recipe.

    Raises:
        ConfigError: The file cannot be read, or a key or value is wrong; the message names both.
    """
    import yaml

    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _recipe_loader())
    except OSError as error:
        raise ConfigError(
            f"{path}: the recipe cannot be read ({error.strerror}); check the path"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not a YAML file ({reason}); correct the YAML") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a recipe is a YAML mapping such as `data: {{train: photos.jsonl}}`"
        )
    return from_dict(Recipe, values, str(path))
