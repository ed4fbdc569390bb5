"""Images with texts in every format that has some, and what is kept of them."""

import csv
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from tars import write_tar

Texts: TypeAlias = dict[str, list[str]]
"""texts by the names of images, such as scene-000003"""
Run: TypeAlias = Callable[..., tuple[int, str]]
"""runs a command with some words; returns the exit code and stderr"""
FAST = ["--device", "cpu", "--precision", "fp32", "--engine", "eager", "--batch-size", "4"]
_NAME = re.compile(r"scene-\d+")


@dataclass(frozen=True)
class Truth:
    """What a filter should do."""

    threshold: float
    kept: Texts
    dropped: Texts


def find_name(path: str) -> str:
    """Return the name of an image, given its path or id."""
    return _NAME.findall(path)[-1]


def collect(pairs: Iterable[tuple[str, str]]) -> Texts:
    """Return texts by name, in the order of their images."""
    texts: Texts = {}
    for path, text in pairs:
        texts.setdefault(find_name(path), []).append(text)
    return texts


def read_table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {**row, "itm": float(row["itm"]), "itc": float(row["itc"])}
                for row in csv.DictReader(file)
            ]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_texts(path: Path) -> Texts:
    """Return the texts of a table, a shard, or a folder of shards or of text files."""
    if path.suffix == ".tar":
        return collect(_iter_shard(path))
    if path.is_dir():
        tars = [each for each in sorted(path.rglob("*.tar")) if each.is_file()]
        shards = [pair for tar in tars for pair in _iter_shard(tar)]
        lines = [
            (str(file), line)
            for file in sorted(path.rglob("*.txt"))
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        return collect([*shards, *lines])
    if path.name == "metadata.jsonl":
        return collect((row["file_name"], row["text"]) for row in read_table(path))
    return collect((row["id"], row["caption"]) for row in read_table(path))


def _iter_shard(path: Path) -> Iterable[tuple[str, str]]:
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".txt"):
                file = tar.extractfile(member)
                assert file
                for line in file.read().decode().splitlines():
                    yield member.name, line


# Sources


Writer: TypeAlias = Callable[[Path, Sequence[Path], Mapping[str, list[str]]], list[str]]
"""writes a source to a folder, given images and texts; returns words of the command line"""


def link_images(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Link images into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        os.link(path, folder / path.name)
    return [folder / path.name for path in paths]


def _write_rows(path: Path, paths: Sequence[Path], texts: Mapping[str, list[str]]) -> Path:
    rows = [
        {"image": os.path.relpath(image, path.parent), "caption": text}
        for image in paths
        for text in texts[image.stem]
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["image", "caption"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _make_table(suffix: str) -> Writer:
    def write(folder: Path, paths: Sequence[Path], texts: Mapping[str, list[str]]) -> list[str]:
        links = link_images(folder / "images", paths)
        return [str(_write_rows(folder / f"texts{suffix}", links, texts))]

    return write


def _write_sidecars(
    folder: Path, paths: Sequence[Path], texts: Mapping[str, list[str]]
) -> list[str]:
    for link in link_images(folder / "images", paths):
        link.with_suffix(".txt").write_text("".join(f"{text}\n" for text in texts[link.stem]))
    return [str(folder / "images")]


def _write_imagefolder(
    folder: Path, paths: Sequence[Path], texts: Mapping[str, list[str]]
) -> list[str]:
    links = link_images(folder / "images", paths)
    rows = [{"file_name": link.name, "captions": texts[link.stem]} for link in links]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "images" / "metadata.jsonl").write_text(lines)
    return [str(folder / "images")]


def _write_bytes(folder: Path, paths: Sequence[Path], texts: Mapping[str, list[str]]) -> list[str]:
    rows = [
        {
            "image": {"bytes": path.read_bytes(), "path": path.name},
            "captions": texts[path.stem],
            "image_id": path.stem,
        }
        for path in paths
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "bytes.parquet")
    return [str(folder / "bytes.parquet")]


def _make_shards(suffix: str) -> Writer:
    def write(folder: Path, paths: Sequence[Path], texts: Mapping[str, list[str]]) -> list[str]:
        for number in range(2):
            members: dict[str, bytes | str] = {}
            for path in paths[number::2]:
                members[path.name] = path.read_bytes()
                members[f"{path.stem}.txt"] = "\n".join(texts[path.stem])
            write_tar(
                folder / "tars" / f"{number}{suffix}", members, "w:gz" if "gz" in suffix else "w"
            )
        return [str(folder / "tars" / f"*{suffix}")]

    return write


SOURCES: dict[str, Writer] = {
    "jsonl": _make_table(".jsonl"),
    "csv": _make_table(".csv"),
    "parquet": _make_table(".parquet"),
    "sidecars": _write_sidecars,
    "imagefolder": _write_imagefolder,
    "parquet of bytes": _write_bytes,
    "shards": _make_shards(".tar"),
    "gzip shards": _make_shards(".tar.gz"),
}
FILES = ("jsonl", "csv", "parquet", "sidecars", "imagefolder")
"""sources whose images are files"""
