"""Settings from plain values and YAML, strictly, and back."""

import dataclasses
import difflib
import json
import re
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from cutline.config.recipe import Recipe
from cutline.errors import ConfigError

T = TypeVar("T")


def from_dict(kind: type[T], values: Any, where: str = "") -> T:
    """Build the dataclass `kind` from plain `values`, strictly. Raises ConfigError naming the wrong key or value."""
    import msgspec

    _reject_unknown(kind, values, "", where)
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def _reject_unknown(kind: type, values: Any, path: str, where: str) -> None:
    """msgspec lets unknown keys of dataclasses pass; a misspelt setting must not."""
    if not dataclasses.is_dataclass(kind) or not isinstance(values, dict):
        return
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = (
                f"; did you mean `{path}{near[0]}`?" if near else f"; there are {', '.join(hints)}"
            )
            raise ConfigError(f"{where + ': ' if where else ''}unknown setting `{path}{key}`{hint}")
        _reject_unknown(hints[key], value, f"{path}{key}.", where)


def to_dict(config: Any) -> dict[str, Any]:
    """The plain values of a settings dataclass, ready for JSON or YAML."""
    return json.loads(json.dumps(dataclasses.asdict(config)))  # type: ignore[no-any-return]  # tuples become lists


def _recipe_loader() -> type:
    """YAML in which 1e-5 is a number, as YAML 1.2 has it; PyYAML's 1.1 reads it as a word."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )
    return Loader


def read_recipe(path: str | Path) -> Recipe:
    """Read a YAML recipe. Raises ConfigError naming the file and the wrong key."""
    import yaml

    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _recipe_loader())
    except OSError as error:
        raise ConfigError(f"{path}: the recipe cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a recipe is a YAML mapping such as `data: {{train: photos.jsonl}}`"
        )
    return from_dict(Recipe, values, str(path))
