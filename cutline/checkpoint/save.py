"""Save a checkpoint in any format."""

import logging
from pathlib import Path

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.huggingface import save_huggingface
from cutline.checkpoint.kinds import AnyConfig
from cutline.checkpoint.locate import ONNX_FORMAT, CheckpointFormat, FolderFormat
from cutline.checkpoint.native import CONFIG_FILE, save_native
from cutline.checkpoint.salesforce import save_salesforce
from cutline.config import CaptionConfig
from cutline.errors import CheckpointError
from cutline.model_files import read_json

logger = logging.getLogger(__name__)

_SAVERS = {"cutline": save_native, "salesforce": save_salesforce, "huggingface": save_huggingface}


def save_checkpoint(
    path: str | Path, checkpoint: Checkpoint[AnyConfig], format: CheckpointFormat = "cutline"
) -> None:
    """Save a captioner or a matcher.

    Args:
        path: A folder; for the format "salesforce" a .pth file, beside which the vocabulary is
            written: `model.pth` and `model.tokenizer.json`.
        checkpoint: The model.
        format: Format of the files.

    Raises:
        CheckpointError: `path` is no name for the format (see `check_destination`), or cannot be
            written.
    """
    check_destination(path, format)
    config = checkpoint.config
    if format != "cutline" and isinstance(config, CaptionConfig) and config.merge_tokens:
        logger.warning(
            "%s: this captioner merges %d visual tokens per block, which the code that reads the "
            "%s format does not do: its captions will differ",
            *(path, config.merge_tokens, format),
        )
    _SAVERS[format](Path(path), checkpoint)


def check_destination(path: str | Path, format: FolderFormat) -> None:
    """Check the name of a file or folder that `save_checkpoint` or `save_onnx` shall write.

    Raises:
        CheckpointError: `path` is a file, but the format is a folder, or the reverse, or it has the
            suffix of another kind of file; or the folder holds ONNX graphs, and they are not the
            format.
    """
    location = Path(path)
    if format == "salesforce" and location.is_dir():
        raise CheckpointError(
            f"{path}: a folder, but the salesforce format is a single file; "
            f"use a file name such as {location / 'model.pth'}"
        )
    if format != "salesforce" and location.is_file():
        raise CheckpointError(
            f"{path}: a file, but the {format} format is a folder; use the name of a folder"
        )
    if format in ("cutline", "huggingface") and _holds_graphs(location):
        raise CheckpointError(
            f"{path}: holds ONNX graphs, whose {CONFIG_FILE} would be overwritten; name another "
            "folder"
        )
    if format == "salesforce" and location.suffix in (".safetensors", ".json", ".txt"):
        raise CheckpointError(
            f"{path}: the salesforce format is a pickle, not a {location.suffix} file; "
            "use a file name such as model.pth"
        )


def _holds_graphs(folder: Path) -> bool:
    try:
        return read_json(folder / CONFIG_FILE).get("format") == ONNX_FORMAT
    except (CheckpointError, OSError):  # there is no file, or one that may be overwritten
        return False
