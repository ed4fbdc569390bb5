"""Values in the JSON files of Hugging Face folders."""

from collections.abc import Mapping
from typing import Any

from cutline.errors import CheckpointError
from cutline.messages import format_value


def read_section(values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return an object in config.json, for example vision_config.

    Raises:
        CheckpointError: It is no object, or that of another architecture.
    """
    # the first versions of transformers with BLIP wrote `..._dict`
    section = values.get(name) or values.get(f"{name}_dict") or {}
    if not isinstance(section, dict):
        raise CheckpointError(f"{where}: {name} is not an object; copy the file again")
    activation = lookup(section, "hidden_act", "gelu")
    if activation != "gelu":
        raise CheckpointError(
            f"{where}: {name} has hidden_act {format_value(activation)}, but BLIP's is 'gelu'; "
            "use another model"
        )
    return section


def lookup(section: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return a setting; a null counts as missing."""
    return default if section.get(name) is None else section[name]
