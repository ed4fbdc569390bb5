"""cutline's own folder: config.json, tokenizer.json, model.safetensors."""

from pathlib import Path

from cutline.checkpoint.names import OURS
from cutline.checkpoint.storage import read_json, read_safetensors, write_json, write_safetensors
from cutline.checkpoint.weights import Checkpoint, import_weights, weight_shapes
from cutline.config import CaptionConfig, from_dict, to_dict
from cutline.errors import CheckpointError
from cutline.tokenizer import Tokenizer

FORMAT = "cutline"
VERSION = 1
WEIGHTS = "model.safetensors"


def save_native(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write the folder, each file whole or not at all, the weights last."""
    folder = Path(folder)
    values = {"format": FORMAT, "version": VERSION, "config": to_dict(checkpoint.config)}
    write_json(folder / "config.json", values)
    checkpoint.tokenizer.save(folder / "tokenizer.json")
    write_safetensors(folder / WEIGHTS, checkpoint.weights)


def load_native(folder: str | Path, tokenizer: str | Path | None = None) -> Checkpoint:
    """Read the folder; `tokenizer` overrules its tokenizer.json. Raises CheckpointError."""
    folder = Path(folder)
    values = read_json(folder / "config.json")
    if values.get("version") != VERSION:
        raise CheckpointError(
            f"{folder / 'config.json'}: version {values.get('version')} of the format, but this cutline reads version {VERSION}; "
            "upgrade cutline"
        )
    config = from_dict(CaptionConfig, values.get("config"), str(folder / "config.json"))
    theirs = read_safetensors(folder / WEIGHTS)
    weights = import_weights(theirs, OURS, weight_shapes(config), str(folder / WEIGHTS))
    return Checkpoint(config, weights, Tokenizer.load(tokenizer or folder / "tokenizer.json"))
