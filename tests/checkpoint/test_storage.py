"""The files of a model are read within limits, and written all at once."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import start

from cutline.checkpoint import Checkpoint, CheckpointFormat, load_checkpoint, save_checkpoint
from cutline.checkpoint.storage import read_safetensors
from cutline.errors import CheckpointError
from cutline.model_files import read_json

MakeCheckpoint = Callable[..., Checkpoint]


@pytest.fixture
def folder(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> Path:
    save_checkpoint(tmp_path / "model", make_checkpoint())
    return tmp_path / "model"


def read_folder(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# --- reading


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', r"not JSON \(the key `c` occurs twice in an object\)"),
        ("[" * 100_000, r"not JSON \(nested too deeply\)"),
        ("9" * 10_000, r"not JSON \("),
        ("é".encode("latin1"), "not UTF-8 text"),
    ],
    ids=["twice", "nested", "digits", "bytes"],
)
def test_hostile_json_is_an_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match=rf"^[^\n]*config\.json: {message}[^\n]*$"):
        read_json(file)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    os.truncate(tmp_path / "config.json", 1 << 40)
    with pytest.raises(CheckpointError, match=r"config\.json: larger than 4 MiB"):
        read_json(tmp_path / "config.json")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_pipe_is_not_read(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match=r"not a regular file|contains neither"):
        load_checkpoint(folder)


def test_links_to_files_elsewhere_are_read(folder: Path, make_checkpoint: MakeCheckpoint) -> None:
    """The hub's cache is made of such links."""
    folder.with_name("blobs").mkdir()
    for file in folder.iterdir():
        file.symlink_to(file.rename(folder.with_name("blobs") / file.name))
    assert load_checkpoint(folder).config == make_checkpoint().config


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes((100_000_000).to_bytes(8, "little"))
    os.truncate(file, 100_000_008)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: .*its header is of 100000000"):
        read_safetensors(file)


def test_a_name_twice_in_a_header_is_an_error(tmp_path: Path) -> None:
    entry = json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    header = f'{{"a": {entry}, "a": {entry}}}'.encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match=r"a\.safetensors: .*the key `a` occurs twice"):
        read_safetensors(tmp_path / "a.safetensors")


def test_layers_are_counted_before_they_are_built(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["config"]["text"]["depth"] = 200
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"safetensors: contains \d+ weights, too few for"):
        load_checkpoint(folder)


# --- writing

FORMATS: tuple[CheckpointFormat, ...] = ("cutline", "huggingface")


@pytest.mark.parametrize("format", [*FORMATS, "salesforce"])
def test_a_full_disk_keeps_the_converted_folder(
    folder: Path, format: CheckpointFormat, limit_file_size: Callable[[int], None]
) -> None:
    before = read_folder(folder)
    checkpoint = load_checkpoint(folder)
    path = folder / "model.pth" if format == "salesforce" else folder
    for size in (10, 1000, len(before["model.safetensors"]) - 1):
        limit_file_size(size)
        with pytest.raises(CheckpointError, match=r"cannot be written .*is unchanged"):
            save_checkpoint(path, checkpoint, format)
        assert read_folder(folder) == before


def convert_and_die(folder: Path, format: CheckpointFormat, calls: int) -> None:
    """Convert a folder in place in a process that ends before the given call to replace a file."""
    replace, remaining = Path.replace, [calls]

    def count(self: Path, target: Path) -> Path:
        if not remaining[0]:
            os._exit(9)
        remaining[0] -= 1
        return replace(self, target)

    Path.replace = count  # type: ignore[assignment,method-assign]
    save_checkpoint(folder, load_checkpoint(folder), format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("calls", range(6))
def test_a_killed_conversion_in_place_leaves_the_model_or_an_incomplete_folder(
    folder: Path, format: CheckpointFormat, calls: int
) -> None:
    weights = load_checkpoint(folder).weights
    start(convert_and_die, folder, format, calls).join(120)
    if not (folder / "config.json").exists():
        assert list(folder.glob(".config.json.*.tmp"))
        with pytest.raises(CheckpointError, match=r"contains neither config\.json"):
            load_checkpoint(folder)
        return
    read = load_checkpoint(folder).weights
    assert all(torch.equal(read[name], weight) for name, weight in weights.items())


def test_conversion_beside_its_source_keeps_the_source(
    tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    source = tmp_path / "model.pth"
    save_checkpoint(source, make_checkpoint(), "salesforce")
    before = read_folder(tmp_path)
    for format in FORMATS:
        save_checkpoint(tmp_path, load_checkpoint(source), format)
    assert before.items() <= read_folder(tmp_path).items()
    assert load_checkpoint(tmp_path).config == load_checkpoint(source).config


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_pickle_does_not_replace_another_kind_of_file(folder: Path, name: str) -> None:
    before = read_folder(folder)
    with pytest.raises(CheckpointError, match=r"is a pickle, not a \.\w+ file; use a file name"):
        save_checkpoint(folder / name, load_checkpoint(folder), "salesforce")
    assert read_folder(folder) == before
