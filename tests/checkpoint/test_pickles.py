"""Pickles that take all memory or crash the interpreter are refused; ordinary ones are read."""

import codecs
import functools
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cutline.checkpoint.pickles import read_pickle, unwrap_state_dict
from cutline.errors import CheckpointError

DAMAGED = r"^[^\n]*weights\.pth: not a complete file of weights; download or copy it again$"
CODE = r"^[^\n]*weights\.pth: contains [\w.]*, which cannot be loaded without running code, [^\n]*$"


class Call:
    """An object that calls a function when it is read."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def write_archive(file: Path, pickle: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_of_a_training_is_read(file: Path, zipped: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    parts = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    content = {"model": model.state_dict(), **parts, "epoch": 3, "dtype": torch.bfloat16}
    content["parameters"] = dict(model.named_parameters())
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    read = unwrap_state_dict(read_pickle(file), file)
    assert all(torch.equal(read[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        Call(bytearray, 20_000_000_000),
        functools.reduce(lambda text, _: Call(codecs.encode, text, "hex"), range(40), b"a"),
    ],
    ids=["bytearray", "hex"],
)
def test_calls_that_take_memory_are_refused(file: Path, value: Call, zipped: bool) -> None:
    content = {"model": {"a": torch.zeros(1)}, "x": value}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=CODE):
        read_pickle(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_deep_nesting_does_not_crash_the_interpreter(file: Path, zipped: bool) -> None:
    """Python's hash of a tuple overflows the stack of the process if it is nested deeply."""
    pickle = b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s."
    write_archive(file, pickle) if zipped else file.write_bytes(pickle)
    with pytest.raises(CheckpointError, match=DAMAGED):
        read_pickle(file)


def test_a_compressed_archive_is_refused(file: Path) -> None:
    write_archive(file, bytes(20_000_000), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=DAMAGED):
        read_pickle(file)


def test_entries_larger_than_the_archive_are_refused(file: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(100)}, buffer)
    content = buffer.getvalue()
    entry = content.rindex(b"PK\x01\x02")  # of the last file
    size = entry + 24
    file.write_bytes(content[:size] + (10**9).to_bytes(4, "little") + content[size + 4 :])
    with pytest.raises(CheckpointError, match=DAMAGED):
        read_pickle(file)


def test_weights_larger_than_the_file_are_refused(file: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, file)
    with pytest.raises(
        CheckpointError, match=r"weights\.pth: declares weights of 4,000,000,000,000 bytes, which"
    ):
        unwrap_state_dict(read_pickle(file), file)


@pytest.mark.parametrize(
    "weights",
    [
        {3: torch.zeros(1)},
        {"a": torch.eye(2).to_sparse()},
        {"a": torch.empty(2, device="meta")},
    ],
    ids=["name", "sparse", "meta"],
)
def test_what_is_no_weight_is_refused(file: Path, weights: dict[Any, torch.Tensor]) -> None:
    with pytest.raises(CheckpointError, match="contains no weights"):
        unwrap_state_dict(weights, file)
