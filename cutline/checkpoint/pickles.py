"""Read pickles of weights; reading runs no code, and takes no more memory than the file."""

import pickletools
import re
import zipfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from cutline.errors import CheckpointError
from cutline.messages import format_name
from cutline.model_files import open_regular

MAX_PICKLE_BYTES = 4 << 20
"""largest pickle of names and shapes, without the weights; that of BLIP is 0.2 MB"""
MAX_NESTING = 100
"""deepest nesting in a pickle; Python crashes when it hashes a tuple that is nested very deeply"""
MAX_SHARING = 2
"""bytes of weights per byte of the file: tied weights are stored once, but have two names"""

# PyTorch allows more, such as functions that allocate any amount of memory.
_ALLOWED_GLOBAL = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) set"
    r"|torch (Size|device|Tensor|\w+Storage|bool|complex\d+|b?float\d+\w*|u?int\d+)"
    r"|torch\.storage UntypedStorage|torch\.nn\.parameter Parameter"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter)"
    r"|torch\._tensor _rebuild_from_type_v2"
)
_LEGACY_PICKLES = 5
"""pickles before the weights in a file of PyTorch before 1.6"""


def read_pickle(file: Path) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values that `torch.save` wrote.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or contains code.
    """
    try:
        with open_regular(file) as stream:
            is_zip = _check_pickle(stream, file)
        # memory-mapped, so that an optimizer state beside the weights is not read
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror or error}); use a file of weights"
        ) from None
    except Exception:  # damaged files raise errors of any type
        raise CheckpointError(
            f"{file}: not a complete file of weights; download or copy it again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{file}: contains a {type(content).__name__}, not a dictionary of weights; "
            "save the model's state_dict()"
        )
    return content


def unwrap_state_dict(content: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """Return the weights in the content of a pickle: in "model", in "state_dict", or bare.

    Raises:
        CheckpointError: It contains no weights, or weights that are larger than the file.
    """
    state_dict = next(
        (content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)),
        content,
    )
    if not state_dict or not all(map(_is_weight, state_dict.items())):
        raise CheckpointError(
            f"{file}: contains no weights; "
            'save them with torch.save({"model": model.state_dict()}, path)'
        )
    size = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    if size > MAX_SHARING * file.stat().st_size:
        raise CheckpointError(
            f"{file}: declares weights of {size:,} bytes, which the file cannot contain; "
            "download or copy it again"
        )
    return dict(state_dict)


def _is_weight(item: tuple[object, object]) -> bool:
    """Return whether an item of a dictionary is a name and an ordinary tensor in memory."""
    name, tensor = item
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
    )


def _check_pickle(stream: BinaryIO, file: Path) -> bool:
    """Check a file before PyTorch reads it, and return whether it is a zip archive."""
    is_zip = zipfile.is_zipfile(stream)
    if is_zip:
        data = _read_archived_pickle(stream)
    else:
        stream.seek(0)
        data = stream.read(MAX_PICKLE_BYTES)
    pickles = BytesIO(data)
    for _ in range(1 if is_zip else _LEGACY_PICKLES):
        operations: list[tuple[pickletools.OpcodeInfo, Any]] = [
            (opcode, argument) for opcode, argument, _ in pickletools.genops(pickles)
        ]
        for opcode, argument in operations:
            if opcode.name in ("GLOBAL", "INST") and not _ALLOWED_GLOBAL.fullmatch(argument):
                name = format_name(argument.replace(" ", "."))
                raise CheckpointError(
                    f"{file}: contains {name}, which cannot be loaded without running code, and "
                    "cutline never runs code from files; if you trust the file, save only its "
                    'weights with torch.save({"model": weights}, path)'
                )
        _check_nesting(operations)
    return is_zip


def _read_archived_pickle(stream: BinaryIO) -> bytes:
    """Return data.pkl of an archive whose entries are neither compressed nor overlap."""
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        size = stream.seek(0, 2)
        names = [entry.filename.lower() for entry in entries]
        (pickle,) = (entry for entry in entries if entry.filename.lower().endswith("data.pkl"))
        if (
            any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            or sum(entry.file_size for entry in entries) > size
            or len(set(names)) < len(names)
            or pickle.file_size > MAX_PICKLE_BYTES
        ):
            raise ValueError("not an archive that torch.save writes")
        return archive.read(pickle)


def _check_nesting(operations: Iterable[tuple[pickletools.OpcodeInfo, Any]]) -> None:
    """Raise ValueError for values that are nested too deeply.

    The stack and memo of the pickle hold the depth of each value instead of the value.
    """
    stack: list[int] = []
    marks: list[list[int]] = []
    memo: dict[int, int] = {}
    for opcode, argument in operations:
        if opcode.name == "MARK":
            marks.append(stack)
            stack = []
        elif "PUT" in opcode.name:
            memo[argument] = stack[-1]
        elif "GET" in opcode.name:
            stack.append(memo[argument])
        else:
            operands = opcode.stack_before
            items: list[int] = []
            if pickletools.markobject in operands:
                items, stack = stack, marks.pop()
                operands = operands[: operands.index(pickletools.markobject)]
            popped = [stack.pop() for _ in operands]
            if opcode.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
                container = popped.pop()
                depth = max(container, 1 + max([*items, *popped], default=0))
            else:
                depth = 1 + max([*items, *popped], default=0)
            if depth > MAX_NESTING:
                raise ValueError("nested too deeply")
            stack.extend(depth for _ in opcode.stack_after)
