"""Read and write the files of a model; reading never runs code from a file."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutline.checkpoint.pickles import read_pickle, unwrap_state_dict
from cutline.errors import CheckpointError
from cutline.files import PRIVATE_SUFFIX, atomic_writes
from cutline.messages import first_line
from cutline.model_files import open_regular
from cutline.strict_json import parse_strict_json

MAX_HEADER_BYTES = 8 << 20
"""largest header of a safetensors file: a hundred times that of BLIP"""

Writer = Callable[[Path], object]
"""writes a file completely"""


def write_model(files: Mapping[Path, Writer]) -> None:
    """Write the files of a model, all or none.

    Args:
        files: What writes each file; the last one is small, and the others are useless without it
            (see `atomic_writes`).

    Raises:
        CheckpointError: A file cannot be written.
    """
    try:
        with atomic_writes(list(files)) as temporaries:
            for temporary, write in zip(temporaries, files.values(), strict=True):
                write(temporary)
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: from torch.save
        raise CheckpointError(
            f"{next(iter(files))}: cannot be written ({first_line(error)}); the previous file "
            "is unchanged: free some disk space or check the permissions, and try again"
        ) from None


def text_writer(text: str) -> Writer:
    """Return a function that writes a text file."""
    return lambda path: path.write_text(text, encoding="utf-8")


def json_writer(values: Mapping[str, Any]) -> Writer:
    """Return a function that writes a JSON object."""
    return text_writer(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def safetensors_writer(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Writer:
    """Return a function that writes tensors by name, and `metadata`."""

    def write(path: Path) -> None:
        contents = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        path.touch()
        mode = path.stat().st_mode
        # safetensors writes to a temporary file with a name of its own, which a killed process
        # would leave beside the model.
        folder = path.with_name(path.name + PRIVATE_SUFFIX)
        folder.mkdir(exist_ok=True)
        try:
            file = folder / "tensors"
            save_file(contents, file, metadata={"format": "pt", **(metadata or {})})
            file.chmod(mode)  # safetensors makes files that only their owner can read
            file.replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return write


def write_safetensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, and `metadata`, atomically.

    Raises:
        CheckpointError: The file cannot be written.
    """
    write_model({file: safetensors_writer(tensors, metadata)})


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Raises:
        CheckpointError: The file cannot be read or is damaged.
    """
    try:
        _check_header(file)
        return load_file(file)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: an unknown data type
        raise CheckpointError(
            f"{file}: not a complete safetensors file ({first_line(error)}); "
            "download or copy it again"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror or error}); use a complete model"
        ) from None


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read weights from a .safetensors file or a pickle.

    Raises:
        CheckpointError: The file cannot be read or contains no weights.
    """
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    return unwrap_state_dict(read_pickle(file), file)


def _check_header(file: Path) -> None:
    """Raise ValueError for a header that is too large, or that has a name twice."""
    with open_regular(file) as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"its header is of {size} bytes")
        parse_strict_json(stream.read(size).decode())
