"""The same images as every source that `cutline caption` reads."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from tars import write_tar
from web_server import WebServer, send

Kind = Literal["files", "bytes", "shard", "shards"]


@dataclass(frozen=True)
class Source:
    """A source of images."""

    words: list[str]
    """words of the command line"""
    kind: Kind
    """what the images are: local files, or something that no text can be written beside"""
    folder: Path
    """the common folder of local files"""
    stdin: str = ""


@dataclass(frozen=True)
class Images:
    """Image files, from which sources are made in a folder."""

    paths: Sequence[Path]
    folder: Path
    server: WebServer

    def link(self, *folders: str) -> list[Path]:
        """Link images into folders, and return their paths."""
        links = []
        for index, path in enumerate(self.paths):
            link = self.folder / folders[index % len(folders)] / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)
            links.append(link)
        return links

    def serve(self) -> list[str]:
        """Return addresses of the images."""
        for path in self.paths:
            self.server.answers[f"/{path.name}"] = send(path.read_bytes())
        return [self.server.url(f"/{path.name}") for path in self.paths]

    def write_shards(self, count: int, suffix: str = ".tar") -> list[str]:
        """Write tar shards, and return their paths."""
        mode = "w" if suffix == ".tar" else "w:gz"
        return [
            write_tar(
                self.folder / "tars" / f"{number:02}{suffix}",
                {path.name: path.read_bytes() for path in self.paths[number::count]},
                mode,
            )
            for number in range(count)
        ]

    def local(self, *words: object, folder: str = "images", stdin: str = "") -> Source:
        """Return a source of files in a folder."""
        return Source([*map(str, words)], "files", self.folder / folder, stdin)

    def other(self, kind: Kind, *words: object) -> Source:
        """Return a source whose images are no local files."""
        return Source([*map(str, words)], kind, self.folder)


PRIVATE = ["--allow-private-hosts", "127.0.0.0/8"]
ALLOW_URLS = ["--allow-urls", *PRIVATE]


def write_rows(path: Path, names: Sequence[object]) -> Path:
    """Write a table of image paths or addresses, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"file_name": str(name), "width": 48} for name in names]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".txt":
        path.write_text("".join(f"{name}\n" for name in names))
    else:
        with path.open("w", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, ["file_name", "width"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def _table(suffix: str, images: Images) -> Source:
    names = [path.relative_to(images.folder) for path in images.link("images")]
    # A list beside the folder: paths are relative to the list.
    return images.local(write_rows(images.folder / f"list{suffix}", names), folder=".")


def _parquet_bytes(images: Images) -> Source:
    rows = [
        {"image": {"bytes": path.read_bytes(), "path": path.name}, "image_id": path.stem}
        for path in images.paths
    ]
    path = images.folder / "scenes.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return images.other("bytes", path)


def _imagefolder(suffix: str, images: Images) -> Source:
    names = [path.name for path in images.link("images/train")]
    write_rows(images.folder / "images" / "train" / f"metadata{suffix}", names)
    return images.local(images.folder / "images")


def _list(images: Images, is_stdin: bool) -> Source:
    paths = images.link("images")
    if is_stdin:
        lines = "".join(f"{path}\n" for path in paths)
        return images.local("--from-list", "-", folder="images", stdin=lines)
    path = write_rows(images.folder / "images" / "list.txt", paths)
    return images.local("--from-list", path)


def _shards(pattern: str, images: Images) -> Source:
    images.write_shards(3)
    return images.other("shards", images.folder / pattern)


def _file_address(pattern: str, images: Images) -> Source:
    images.link("images", "images/sub")
    return images.other("bytes", (images.folder / "images").as_uri() + pattern)


def _memory(images: Images) -> Source:
    filesystem = fsspec.filesystem("memory")
    for path in images.paths:
        filesystem.pipe_file(f"/bucket/photos/{path.name}", path.read_bytes())
    return images.other("bytes", "memory://bucket/photos")


def _address_table(suffix: str, images: Images) -> Source:
    path = write_rows(images.folder / f"list{suffix}", images.serve())
    words = ["--from-list", str(path)] if suffix == ".txt" else [str(path)]
    return images.other("bytes", *words, *ALLOW_URLS)


def _web_shard(images: Images) -> Source:
    (shard,) = images.write_shards(1)
    images.server.answers["/images.tar"] = send(Path(shard).read_bytes())
    return images.other("shard", images.server.url("/images.tar"), *PRIVATE)


def _several(images: Images) -> Source:
    paths = images.link("images/a", "images/b/c", "images/d")
    table = write_rows(images.folder / "images" / "list.csv", [f"d/{path.name}" for path in paths])
    wanted = [path for path in paths if path.parent.name == "d"]
    write_rows(table, [f"d/{path.name}" for path in wanted])
    folder = images.folder / "images"
    return images.local(folder / "a", folder / "b" / "*" / "*.png", table)


def _mixed(images: Images) -> Source:
    paths = images.link("images", "shard")
    members = {path.name: path.read_bytes() for path in paths if path.parent.name == "shard"}
    shard = write_tar(images.folder / "more.tar", members)
    return images.other("bytes", images.folder / "images", shard)


SOURCES: dict[str, Callable[[Images], Source]] = {
    "files": lambda images: images.local(*images.link("images")),
    "files in two folders": lambda images: images.local(*images.link("images/a", "images/b")),
    "folder": lambda images: (images.link("images"), images.local(images.folder / "images"))[1],
    "nested folder": lambda images: (
        images.link("images", "images/a", "images/a/b c"),
        images.local(images.folder / "images"),
    )[1],
    "pattern": lambda images: (
        images.link("images"),
        images.local(images.folder / "images" / "*.png"),
    )[1],
    "deep pattern": lambda images: (
        images.link("images", "images/a/b"),
        images.local(images.folder / "images" / "**" / "*.png"),
    )[1],
    "list": lambda images: _list(images, is_stdin=False),
    "list on stdin": lambda images: _list(images, is_stdin=True),
    "csv": lambda images: _table(".csv", images),
    "tsv": lambda images: _table(".tsv", images),
    "jsonl": lambda images: _table(".jsonl", images),
    "parquet of paths": lambda images: _table(".parquet", images),
    "parquet of bytes": _parquet_bytes,
    "imagefolder jsonl": lambda images: _imagefolder(".jsonl", images),
    "imagefolder csv": lambda images: _imagefolder(".csv", images),
    "shard": lambda images: images.other("shard", *images.write_shards(1)),
    "shards": lambda images: images.other("shards", *images.write_shards(3)),
    "shard pattern": lambda images: _shards("tars/*.tar", images),
    "shard braces": lambda images: _shards("tars/{00..02}.tar", images),
    "shard folder": lambda images: _shards("tars", images),
    "gzip shards": lambda images: images.other("shards", *images.write_shards(2, ".tar.gz")),
    "file address": lambda images: _file_address("", images),
    "file address pattern": lambda images: _file_address("/**/*.png", images),
    "memory address": _memory,
    "web addresses": lambda images: images.other("bytes", *images.serve(), *PRIVATE),
    "csv of addresses": lambda images: _address_table(".csv", images),
    "jsonl of addresses": lambda images: _address_table(".jsonl", images),
    "list of addresses": lambda images: _address_table(".txt", images),
    "web shard": _web_shard,
    "several": _several,
    "folder and shard": _mixed,
}
USUAL_SOURCES = (
    *("files in two folders", "nested folder", "list on stdin", "csv", "parquet of bytes"),
    *("shards", "web addresses", "web shard", "folder and shard"),
)
"""sources of each kind, for tests that would take long with all of them"""
