"""cutline folders: config.json, tokenizer.json and model.safetensors."""

from pathlib import Path

from cutline.checkpoint.names import NATIVE
from cutline.checkpoint.storage import (
    json_writer,
    read_safetensors,
    safetensors_writer,
    text_writer,
    write_model,
)
from cutline.checkpoint.weights import Checkpoint, import_model
from cutline.config import CaptionConfig, from_dict, to_dict
from cutline.errors import CheckpointError
from cutline.messages import format_value
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer

FORMAT = "cutline"
VERSION = 1
CONFIG_FILE, TOKENIZER_FILE, WEIGHT_FILE = "config.json", "tokenizer.json", "model.safetensors"
NATIVE_FILES = (CONFIG_FILE, TOKENIZER_FILE, WEIGHT_FILE)


def save_native(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write a cutline folder, all of its files or none.

    Raises:
        CheckpointError: A file cannot be written.
    """
    folder = Path(folder)
    values = {"format": FORMAT, "version": VERSION, "config": to_dict(checkpoint.config)}
    write_model(
        {
            folder / WEIGHT_FILE: safetensors_writer(checkpoint.weights),
            folder / TOKENIZER_FILE: text_writer(checkpoint.tokenizer.to_json()),
            folder / CONFIG_FILE: json_writer(values),
        }
    )


def load_native(folder: str | Path, tokenizer: str | Path | None = None) -> Checkpoint:
    """Read a cutline folder.

    Args:
        folder: The folder.
        tokenizer: A vocabulary to use instead of the folder's tokenizer.json.

    Raises:
        CheckpointError: A file cannot be read, or the parts do not fit together.
        ConfigError: The settings are invalid.
    """
    folder = Path(folder)
    config = read_native_config(folder)
    source = read_safetensors(folder / WEIGHT_FILE)
    weights, _ = import_model(source, NATIVE, config, str(folder / WEIGHT_FILE))
    return Checkpoint(config, weights, Tokenizer.load(tokenizer or folder / TOKENIZER_FILE))


def read_native_config(folder: Path) -> CaptionConfig:
    """Read the settings of a cutline folder.

    Raises:
        CheckpointError: config.json cannot be read, or has another version.
        ConfigError: The settings are invalid.
    """
    config_file = folder / CONFIG_FILE
    values = read_json(config_file)
    if values.get("version") != VERSION:
        raise CheckpointError(
            f"{config_file}: format version {format_value(values.get('version'))}, but this "
            f"version of cutline reads version {VERSION}; upgrade cutline"
        )
    return from_dict(CaptionConfig, values.get("config"), str(config_file))
