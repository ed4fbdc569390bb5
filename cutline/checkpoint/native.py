"""cutline folders: config.json, tokenizer.json and model.safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.kinds import CAPTIONER, KINDS, AnyConfig, C, ModelKind, check_kind, kind_of
from cutline.checkpoint.storage import (
    Writer,
    json_writer,
    read_safetensors,
    safetensors_writer,
    text_writer,
    write_model,
)
from cutline.checkpoint.weights import import_model
from cutline.config import from_dict, to_dict
from cutline.errors import CheckpointError, blame_setting
from cutline.messages import format_name, format_value
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer

FORMAT = "cutline"
VERSION = 1
CONFIG_FILE, TOKENIZER_FILE, WEIGHT_FILE = "config.json", "tokenizer.json", "model.safetensors"
NATIVE_FILES = (CONFIG_FILE, TOKENIZER_FILE, WEIGHT_FILE)


def save_native(folder: str | Path, checkpoint: Checkpoint[AnyConfig]) -> None:
    """Write a cutline folder, all of its files or none.

    Raises:
        CheckpointError: A file cannot be written.
    """
    save_native_folders({Path(folder): checkpoint})


def save_native_folders(checkpoints: Mapping[Path, Checkpoint[AnyConfig]]) -> None:
    """Write cutline folders, all of their files or none.

    Raises:
        CheckpointError: A file cannot be written.
    """
    writers: dict[Path, Writer] = {}
    for folder, checkpoint in checkpoints.items():
        writers |= _native_writers(folder, checkpoint)
    write_model(writers)


def _native_writers(folder: Path, checkpoint: Checkpoint[AnyConfig]) -> dict[Path, Writer]:
    """Return a function for each file of a folder that writes it."""
    kind = kind_of(checkpoint.config)
    values = {
        "format": FORMAT,
        "version": VERSION,
        **({} if kind is CAPTIONER else {"model": kind.name}),
        "config": to_dict(checkpoint.config),
    }
    return {
        folder / WEIGHT_FILE: safetensors_writer(checkpoint.weights),
        folder / TOKENIZER_FILE: text_writer(checkpoint.tokenizer.to_json()),
        folder / CONFIG_FILE: json_writer(values),
    }


def load_native(
    folder: str | Path, kind: ModelKind[C], tokenizer: str | Path | None = None
) -> Checkpoint[C]:
    """Read a cutline folder.

    Args:
        folder: The folder.
        kind: The kind of model that it shall contain.
        tokenizer: A vocabulary to use instead of the folder's tokenizer.json.

    Raises:
        CheckpointError: A file cannot be read, or the parts do not fit together.
        ConfigError: The settings are invalid.
    """
    folder = Path(folder)
    config = read_native_config(folder, kind)
    source = read_safetensors(folder / WEIGHT_FILE)
    weights, _ = import_model(source, kind.native, config, str(folder / WEIGHT_FILE))
    with blame_setting("tokenizer" if tokenizer else ""):
        return Checkpoint(config, weights, Tokenizer.load(tokenizer or folder / TOKENIZER_FILE))


def read_native_config(folder: Path, kind: ModelKind[C]) -> C:
    """Read the settings of a cutline folder.

    Raises:
        CheckpointError: config.json cannot be read, has another version, or is that of the other
            kind of model.
        ConfigError: The settings are invalid.
    """
    config_file = folder / CONFIG_FILE
    values = read_json(config_file)
    check_version(config_file, values, VERSION)
    kinds = find_native_kinds(values)
    if not kinds:
        raise CheckpointError(
            f"{config_file}: contains a {format_name(values['model'])}, which this version of "
            "cutline does not know; upgrade cutline"
        )
    check_kind(kinds, kind, str(config_file))
    return from_dict(kind.config_class, values.get("config"), str(config_file))


def check_version(config_file: Path, values: Mapping[str, Any], version: int) -> None:
    """Raise CheckpointError unless a config.json with these values has a version of its format."""
    if values.get("version") != version:
        raise CheckpointError(
            f"{config_file}: format version {format_value(values.get('version'))}, but this "
            f"version of cutline reads version {version}; upgrade cutline"
        )


def find_native_kinds(values: Mapping[str, Any]) -> list[ModelKind[Any]]:
    """Return the kind of model in a cutline folder, given the content of its config.json."""
    name = values.get("model", CAPTIONER.name)
    return [kind for kind in KINDS if kind.name == name]
