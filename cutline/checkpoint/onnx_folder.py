"""Folders of ONNX graphs, which `cutline convert --to onnx` writes: settings, vocabulary, graphs.

The graphs are run by `cutline.engine.onnx`; they hold no weights that PyTorch could read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cutline.checkpoint.kinds import CAPTIONER
from cutline.checkpoint.locate import find_model, locate_model
from cutline.checkpoint.native import CONFIG_FILE, TOKENIZER_FILE, check_version
from cutline.config import CaptionConfig, Engine, InferencePrecision, from_dict
from cutline.errors import CheckpointError, ConfigError, blame_setting
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer

VERSION = 1
GraphPrecision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class OnnxFolder:
    """A captioner as ONNX graphs."""

    folder: Path
    config: CaptionConfig
    tokenizer: Tokenizer
    precision: GraphPrecision
    fingerprint: str
    """that of the checkpoint that the graphs were made from"""

    def check_settings(self, device: str, precision: InferencePrecision, engine: Engine) -> None:
        """Raise ConfigError unless the graphs run with these settings of `cutline.load`."""
        if engine not in ("auto", "onnx"):
            raise ConfigError(
                f"{self.folder}: ONNX graphs run with engine onnx, not {engine}: leave engine at "
                "auto or, to train or explain, use the model that they were made from"
            )
        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"{self.folder}: ONNX graphs run on the CPU, not on {device}: leave device at "
                "auto, or use the model that they were made from"
            )
        if precision not in ("auto", self.precision):
            raise ConfigError(
                f"{self.folder}: holds graphs in {self.precision}, not {precision}: leave "
                "precision at auto, or convert the model again"
            )


def find_onnx_folder(path: str | Path) -> Path | None:
    """Return the folder of ONNX graphs that a path names; None for any other model, or a hub id.

    Raises:
        CheckpointError: There is no model, or its config.json cannot be read.
    """
    try:
        is_here = Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # `load_checkpoint` says what is wrong
        is_here = False
    location = locate_model(path) if is_here else None
    if location is None or location.is_file():
        return None
    folder, format = find_model(location, CAPTIONER)
    return folder if format == "onnx" else None


def load_onnx_folder(
    folder: Path,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    merge_tokens: int | None = None,
) -> OnnxFolder:
    """Read a folder of ONNX graphs, without the graphs.

    Args:
        folder: The folder.
        tokenizer: A vocabulary to use instead of the folder's tokenizer.json.
        image_size: The image size that is asked for; None for that of the graphs.
        merge_tokens: The number of merged tokens that is asked for; None for that of the graphs.

    Raises:
        CheckpointError: A file cannot be read, the parts do not fit together, or the graphs take
            images of another size or merge another number of tokens.
        ConfigError: The settings are invalid.
    """
    values = _read_values(folder)
    config = read_onnx_config(folder)
    if image_size not in (None, config.vision.image_size):
        raise CheckpointError(
            f"{folder}: ONNX graphs take images of {config.vision.image_size} pixels only, not "
            f"{image_size}; convert the model again with `--image-size {image_size}`"
        )
    if merge_tokens not in (None, config.merge_tokens):
        raise CheckpointError(
            f"{folder}: ONNX graphs that merge {config.merge_tokens} tokens, not {merge_tokens}; "
            f"convert the model again with `--merge-tokens {merge_tokens}`"
        )
    with blame_setting("tokenizer" if tokenizer else ""):
        vocabulary = Tokenizer.load(tokenizer or folder / TOKENIZER_FILE)
        if vocabulary.vocab_size != config.text.vocab_size:
            raise CheckpointError(
                f"{tokenizer or folder}: the vocabulary has {vocabulary.vocab_size} tokens, but "
                f"the graphs have {config.text.vocab_size}; use the vocabulary of the model that "
                "they were made from"
            )
    return OnnxFolder(folder, config, vocabulary, values["precision"], values["fingerprint"])


def read_onnx_config(folder: Path) -> CaptionConfig:
    """Read the settings of a folder of ONNX graphs.

    Raises:
        CheckpointError: config.json cannot be read, or has another version.
        ConfigError: The settings are invalid.
    """
    return from_dict(CaptionConfig, _read_values(folder).get("config"), str(folder / CONFIG_FILE))


def _read_values(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    values = read_json(file)
    check_version(file, values, VERSION)
    is_known = values.get("precision") in get_args(GraphPrecision)
    if not is_known or not isinstance(values.get("fingerprint"), str):
        raise CheckpointError(
            f"{file}: lacks the precision or the fingerprint of the graphs; convert the model again"
        )
    return values


def graphs_only_error(path: str | Path, is_downloaded: bool) -> CheckpointError:
    """Return the error of reading ONNX graphs where weights are needed, or by a hub id."""
    if is_downloaded:
        return CheckpointError(
            f"{path}: this repository holds ONNX graphs, which are not loaded from the hub; "
            f"run `hf download {path} --local-dir FOLDER`, and name the folder"
        )
    return CheckpointError(
        f"{path}: holds ONNX graphs, which can caption, but not be trained, explained or "
        "converted; use the model that they were made from"
    )
