"""Where a model is: its folder or file, and the vocabulary beside it."""

from pathlib import Path
from typing import Any, Literal

from cutline.checkpoint.hub import MODEL_HINT, download_model, is_hub_id
from cutline.checkpoint.kinds import ModelKind
from cutline.checkpoint.native import FORMAT
from cutline.errors import CheckpointError, SettingName
from cutline.messages import format_name
from cutline.model_files import read_json

CheckpointFormat = Literal["cutline", "salesforce", "huggingface"]
FolderFormat = CheckpointFormat | Literal["onnx"]
ONNX_FORMAT = "cutline-onnx"
"""marks config.json of ONNX graphs"""


def locate_model(path: str | Path) -> Path:
    """Return the folder or .pth file of a model, given its path or hub id.

    Raises:
        CheckpointError: There is none.
    """
    try:
        location = Path(path).expanduser()
        is_model_file = location.suffix in (".safetensors", ".bin", ".json", ".onnx")
        if is_model_file and location.is_file() and (location.parent / "config.json").is_file():
            return location.parent  # a file in a model folder selects the folder
        if location.exists():
            return location
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        raise CheckpointError(f"{path}: cannot be read ({error}); check the path") from None
    if is_hub_id(str(path)):
        return download_model(str(path))
    raise CheckpointError(f"{path}: no such file or folder; ", *MODEL_HINT)


def find_model(location: Path, kind: ModelKind[Any]) -> tuple[Path, FolderFormat]:
    """Return the folder of a model, which may be in that of a training run, and its format.

    Raises:
        CheckpointError: There is no model, or a model of another architecture.
    """
    folders = (location, *list_run_models(location, kind))
    folder = next((each for each in folders if (each / "config.json").is_file()), None)
    if folder is None:
        raise CheckpointError(
            f"{location}: contains neither config.json nor a trained model in best/; "
            "use the folder of a model"
        )
    config_file = folder / "config.json"
    values = read_json(config_file)
    if values.get("format") == FORMAT:
        return folder, "cutline"
    if values.get("format") == ONNX_FORMAT:
        return folder, "onnx"
    model_type = values.get("model_type")
    if model_type == "blip":
        return folder, "huggingface"
    raise CheckpointError(
        f"{config_file}: not a BLIP {kind.name} (model_type {format_name(model_type)}); "
        f"use the folder of a {kind.name}"
    )


def list_run_models(location: Path, kind: ModelKind[Any]) -> tuple[Path, ...]:
    """Return where a training run has its best model of a kind.

    Pre-training trains a captioner and a matcher, which have a folder each.
    """
    best = location / "best"
    return best, best / kind.name, location / kind.name


def find_vocabulary(file: Path) -> Path:
    """Return the vocabulary beside a .pth file.

    Raises:
        CheckpointError: There is none.
    """
    candidates = (
        file.with_suffix(".tokenizer.json"),
        file.with_name("tokenizer.json"),
        file.with_name("vocab.txt"),
    )
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"{file}: contains no vocabulary; name its vocab.txt or tokenizer.json in ",
        SettingName("tokenizer", "`tokenizer`"),
        ", or put it beside the file",
    )
