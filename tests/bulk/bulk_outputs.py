"""Read the captions in the outputs of `cutline caption`, whatever their format."""

import csv
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.parquet as pq

Captions: TypeAlias = dict[str, str]
"""captions by the names of images, such as scene-000003"""
Caption: TypeAlias = Callable[..., tuple[int, str, str]]
"""runs `cutline caption`; returns the exit code, stdout and stderr"""

FAST = ["--num-beams", "1", "--max-length", "12"]
"""settings of captions that take little time"""
_ROW = re.compile(r", row (\d+)$")
_NAME = re.compile(r"scene-\d+")
_SHARD = re.compile(r"\.(tar|tar\.gz|tgz)$")
_TEMPORARY = re.compile(r"\..*\.(tmp|old)|images")


def find_name(path: str) -> str:
    """Return the name of an image whose path, id or address is given, or its row in a table."""
    if row := _ROW.search(path):
        return f"scene-{int(row[1]) - 1:06}"
    return _NAME.findall(path)[-1]


def collect(pairs: Iterable[tuple[str, str]]) -> Captions:
    """Return captions by name; none occurs twice."""
    captions: Captions = {}
    for path, caption in pairs:
        name = find_name(path)
        assert name not in captions, f"{name} occurs twice"
        captions[name] = caption
    return captions


def read_lines(text: str) -> Captions:
    """Return the captions that the command printed."""
    return collect(tuple(line.split("\t")) for line in text.splitlines())  # type: ignore[misc]


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.split("\n")[:-1]]


def read_captions(path: Path, extension: str = ".txt") -> Captions:
    """Return the captions of a table, of a tar shard, or of a folder of shards or texts."""
    if path.name == "metadata.jsonl":
        return collect((row["file_name"], row["text"]) for row in read_table(path))
    if path.suffix == ".tar":
        return collect(_iter_texts(path, extension))
    if path.is_dir():
        texts = ((str(file), file.read_text("utf-8")) for file in path.rglob(f"*{extension}"))
        tars = [file for file in path.rglob("*") if _SHARD.search(file.name) and file.is_file()]
        shards = (pair for file in tars for pair in _iter_texts(file, extension))
        return collect((name, text.removesuffix("\n")) for name, text in [*texts, *shards])
    return collect((row["id"], row["caption"]) for row in read_table(path))


def _iter_texts(path: Path, extension: str) -> Iterator[tuple[str, str]]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(extension) and not member.name.endswith(".orig.txt"):
                file = tar.extractfile(member)
                assert file
                yield member.name, file.read().decode()


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder; there are none that a run should have removed."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    stray = [path for path in paths if _TEMPORARY.fullmatch(path.name)]
    assert not stray
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
