"""Files of weights and of settings: written whole, read without ever running code that a file brings."""

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
    """Write a JSON object, whole or not at all."""
    write_text(file, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_safetensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write name -> tensor and `metadata`, whole or not at all. Raises CheckpointError where there is no room or no permission."""
    contents = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_write(file) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(contents, temporary, metadata={"format": "pt", **(metadata or {})})
            temporary.chmod(mode)  # safetensors writes for the owner's eyes only
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file}: cannot be written ({error}); what was there before is untouched, so make room and try again"
        ) from None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}); give a whole model folder"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON ({error}); copy the file again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: not a JSON object; copy the file again")
    return values


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Name -> tensor. Raises CheckpointError."""
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(
            f"{file}: not a whole safetensors file ({error}); copy or save it again"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror or error}); give a whole model"
        ) from None


def read_pickle(file: Path) -> dict[str, Any]:
    """What `torch.save` wrote: a dictionary of tensors and plain values. Raises CheckpointError."""
    try:
        # mapped: an optimizer beside the weights is not read
        content = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror or error}); give a file of weights"
        ) from None
    except Exception as error:  # what broken bytes raise is anything
        raise CheckpointError(f"{file}: {_complaint(str(error))}") from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file}: holds a {type(content).__name__}, not a dictionary of weights; save the model's state_dict()"
        )
    return content


def _complaint(message: str) -> str:
    wanted = re.search(r"Unsupported global: GLOBAL (\S+)", message)
    if wanted:
        return (
            f"holds a {wanted[1]}, which only code inside the file could build, and that is never run; "
            'where you trust the file, save its weights alone with torch.save({"model": weights}, path)'
        )
    return "not a whole file of weights; download or copy it again"


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights of a .safetensors or a pickle, the latter possibly inside "model" or "state_dict". Raises CheckpointError."""
    return (
        read_safetensors(file)
        if file.suffix == ".safetensors"
        else unwrapped(read_pickle(file), file)
    )


def unwrapped(content: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The weights in what `read_pickle` gives. Raises CheckpointError."""
    inner = next(
        (content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)),
        content,
    )
    if not inner or not all(isinstance(tensor, Tensor) for tensor in inner.values()):
        raise CheckpointError(
            f'{file}: no weights inside; save them with torch.save({{"model": model.state_dict()}}, path)'
        )
    return dict(inner)
