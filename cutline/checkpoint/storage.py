"""Read and write files of weights and settings; reading never runs code from a file."""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutline.errors import CheckpointError
from cutline.files import atomic_write, write_text


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object atomically."""
    write_text(file, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_safetensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, and `metadata`, atomically.

    Raises:
        CheckpointError: The file cannot be written.
    """
    contents = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_write(file) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(contents, temporary, metadata={"format": "pt", **(metadata or {})})
            temporary.chmod(mode)  # safetensors makes files that only their owner can read
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file}: cannot be written ({error}); the previous file is unchanged: "
            "free some disk space or check the permissions, and try again"
        ) from None


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: The file cannot be read or is not a JSON object.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}); use a complete model folder"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); copy the file again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: not a JSON object; copy the file again")
    return values


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Raises:
        CheckpointError: The file cannot be read or is damaged.
    """
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(
            f"{file}: not a complete safetensors file ({error}); download or copy it again"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror or error}); use a complete model"
        ) from None


def read_pickle(file: Path) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values that `torch.save` wrote.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or contains code.
    """
    try:
        # memory-mapped, so that an optimizer state beside the weights is not read
        content = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror or error}); use a file of weights"
        ) from None
    except Exception as error:  # damaged files raise errors of any type
        raise CheckpointError(f"{file}: {_explain(str(error))}") from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file}: contains a {type(content).__name__}, not a dictionary of weights; "
            "save the model's state_dict()"
        )
    return content


def _explain(message: str) -> str:
    code = re.search(r"Unsupported global: GLOBAL (\S+)", message)
    if code:
        return (
            f"contains {code[1]}, which cannot be loaded without running code, and cutline never "
            "runs code from files; if you trust the file, save only its weights with "
            'torch.save({"model": weights}, path)'
        )
    return "not a complete file of weights; download or copy it again"


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read weights from a .safetensors file or a pickle.

    Raises:
        CheckpointError: The file cannot be read or contains no weights.
    """
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    return unwrap_state_dict(read_pickle(file), file)


def unwrap_state_dict(content: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """Return the weights in the content of a pickle: in "model", in "state_dict", or bare.

    Raises:
        CheckpointError: It contains no weights.
    """
    state_dict = next(
        (content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)),
        content,
    )
    if not state_dict or not all(isinstance(tensor, Tensor) for tensor in state_dict.values()):
        raise CheckpointError(
            f"{file}: contains no weights; "
            'save them with torch.save({"model": model.state_dict()}, path)'
        )
    return dict(state_dict)
