"""Data sets and pictures by their paths, whatever form they have."""

import glob
import json
import os
from collections.abc import Sequence
from pathlib import Path

from cutline.data.coco import read_coco, reject_split
from cutline.data.folder import is_picture, list_pictures, natural_order, read_folder
from cutline.data.jsonl import PICTURE_KEYS, read_jsonl
from cutline.data.sample import Sample, parse_json, read_text
from cutline.errors import DataError

FORMATS = "JSON Lines (.jsonl), COCO, BLIP or Karpathy captions (.json), or a folder of pictures with .txt files beside them"
_INDEXES = ("metadata.jsonl", "captions.jsonl")
_LONGEST_ROW = 100_000  # characters; a longer first line is a whole COCO file, and slow to parse twice


def open_data(path: str | Path, image_root: str = "", split: str = "") -> list[Sample]:
    """Read a data set: JSON Lines, COCO, BLIP or Karpathy JSON, or a folder (with a metadata.jsonl or captions.jsonl, or with a text
    file beside each picture).

    Picture paths are relative to `image_root`, or else to the folder of the file that names them. `split` is for Karpathy's
    dataset_coco.json alone. Pictures are not looked for. Raises DataError naming the file, and the line where there is one.
    """
    if path == "":
        raise DataError("no data are given; name a data file or a folder of pictures")
    path, image_root = Path(path).expanduser(), os.path.expanduser(image_root)  # noqa: PTH111  # Path would make "" the current folder
    samples = _read(path, image_root, split)
    if not samples:
        raise DataError(f"{path}: holds no pictures; data are {FORMATS}")
    return samples


def _read(path: Path, image_root: str, split: str) -> list[Sample]:
    if path.is_dir():
        index = next((path / name for name in _INDEXES if (path / name).is_file()), None)
        reject_split(split, path)
        return read_jsonl(index, image_root) if index else read_folder(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            reject_split(split, path)
            return read_jsonl(path, image_root)
        case ".json":
            return _read_json(path, image_root, split)
    raise DataError(f"{path}: not a known kind of data; give {FORMATS}")


def _read_json(path: Path, image_root: str, split: str) -> list[Sample]:
    text = read_text(path)
    if _is_lines(text):
        reject_split(split, path)
        return read_jsonl(path, image_root)
    return read_coco(parse_json(text, str(path)), path, image_root, split)


def _is_lines(text: str) -> bool:
    """Whether a .json file is JSON Lines: its first line alone is the row of a picture."""
    line = text.lstrip().partition("\n")[0]
    try:
        row = json.loads(line) if len(line) < _LONGEST_ROW else None
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and any(key in row for key in PICTURE_KEYS)


def find_images(paths: Sequence[str]) -> list[str]:
    """The pictures that `paths` mean, each once: files as they are, folders and patterns such as `photos/**/*.jpg` in natural order.

    A file that is named is taken whatever it is called; in folders and patterns only pictures are. Raises DataError for a path that
    means no picture.
    """
    found: dict[str, str] = {}
    for path in paths:
        for image in _find(os.path.expanduser(path)):  # noqa: PTH111  # a Path would lose "./"
            found.setdefault(os.path.normpath(image), image)
    return list(found.values())


def _find(path: str) -> list[str]:
    if Path(path).is_file():
        return [path]
    if path and Path(path).is_dir():
        images = list_pictures(Path(path))
    else:
        hits = [Path(hit) for hit in glob.glob(path, recursive=True)]  # noqa: PTH207  # Path.glob cannot take absolute patterns
        images = [str(hit) for hit in hits if is_picture(str(hit)) and hit.is_file()]
        images += [image for hit in hits if hit.is_dir() for image in list_pictures(hit)]
    if not images:
        raise DataError(f"{path}: no picture there; give picture files, folders that hold some, or patterns such as 'photos/*.jpg'")
    return sorted(set(images), key=natural_order)
