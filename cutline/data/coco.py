"""The JSON files of COCO captions: COCO's own, NoCaps' too, BLIP's rows, and Karpathy's splits."""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutline.config import Columns
from cutline.data.row import (
    DEFAULT_COLUMNS,
    first_of,
    parse_captions,
    parse_id,
    parse_row,
    reject_columns,
)
from cutline.data.sample import Sample, image_path, merge_rows
from cutline.errors import DataError

_COCO_NAME = re.compile(r"(?:^|[_/\\])(\d{12})\.\w+$")


def read_coco(
    values: object,
    path: Path,
    image_root: str = "",
    split: str = "",
    columns: Columns = DEFAULT_COLUMNS,
) -> list[Sample]:
    """Read what a JSON file holds (`values`), in one of three forms:

    - COCO's: `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`; an image's `domain` is kept, which
      NoCaps has;
    - BLIP's: a list of `{"image", "caption", "image_id"}`, or of `{"image", "caption": [...]}`, where the id is the number in a COCO
      file name, as in BLIP's data/coco_karpathy_dataset.py; only these have `columns`;
    - Karpathy's dataset_coco.json: `{"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}`. Only this one has splits;
      `split="train"` takes `restval` too, as is the custom, and "" takes every image.

    Paths are relative to `image_root`, or else to the folder of `path`. Raises DataError naming `path`.
    """
    root = image_root or str(path.parent)
    if isinstance(values, dict) and isinstance(images := values.get("images"), list):
        reject_columns(columns, path)
        if any(isinstance(image, dict) and "sentences" in image for image in images[:1]):
            return merge_rows(_karpathy(images, path, root, split))
        if isinstance(annotations := values.get("annotations"), list):
            reject_split(split, path)
            return merge_rows(_coco(images, annotations, path, root))
    if isinstance(values, list):
        reject_split(split, path)
        return merge_rows(
            _blip(row, root, f"{path}, row {number}", columns)
            for number, row in enumerate(values, 1)
        )
    raise DataError(
        f"{path}: neither COCO captions nor a list of rows; it must hold `images` and `annotations`, or a list"
    )


def reject_split(split: str, path: Path | str) -> None:
    """Raise DataError where a `split` is asked of data that have none."""
    if split:
        raise DataError(f"{path}: has no splits to take `{split}` from; leave the split out")


def _blip(row: object, root: str, where: str, columns: Columns) -> Sample:
    sample = parse_row(row, root, where, columns)
    number = _COCO_NAME.search(sample.id)
    return replace(sample, id=str(int(number[1]))) if number else sample


def _coco(images: list[Any], annotations: list[Any], path: Path, root: str) -> list[Sample]:
    captions: dict[str, list[str]] = defaultdict(list)
    for number, annotation in enumerate(annotations, 1):
        where = f"{path}, annotation {number}"
        captions[_id(annotation, ("image_id",), where)].append(_field(annotation, "caption", where))
    samples = []
    named: dict[str, str] = {}
    for number, image in enumerate(images, 1):
        where = f"{path}, image {number}"
        id, name = _id(image, ("id",), where), _field(image, "file_name", where)
        if id in named:
            raise DataError(
                f"{where}: {name} has the id {id}, and so has {named[id]}; give each image an id of its own"
            )
        named[id] = name
        domain = "" if image.get("domain") is None else _field(image, "domain", where)
        about = parse_captions(captions.pop(id, None), where)
        samples.append(Sample(image_path(name, root), about, id, domain=domain))
    if captions:
        raise DataError(
            f"{path}: captions of image {next(iter(captions))}, which is not in `images`; add it or remove them"
        )
    return samples


def _karpathy(images: list[Any], path: Path, root: str, split: str) -> list[Sample]:
    wanted = {"train": ("train", "restval")}.get(split, (split,))
    samples = []
    splits: Counter[str] = Counter()
    for number, image in enumerate(images, 1):
        where = f"{path}, image {number}"
        splits[part := _field(image, "split", where)] += 1
        if not split or part in wanted:
            samples.append(_karpathy_sample(image, root, where))
    if not samples and images:
        raise DataError(f"{path}: has no split `{split}`; there are {', '.join(splits)}")
    return samples


def _karpathy_sample(image: dict[str, Any], root: str, where: str) -> Sample:
    sentences = image.get("sentences")
    if not isinstance(sentences, list):
        raise DataError(f"{where}: has no list of `sentences`; add it")
    captions = [_field(sentence, "raw", where) for sentence in sentences]
    name = str(
        Path(_field({"filepath": "", **image}, "filepath", where))
        / _field(image, "filename", where)
    )
    return Sample(
        image_path(name, root),
        parse_captions(captions, where),
        _id(image, ("cocoid", "imgid"), where),
    )


def _field(entry: object, key: str, where: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise DataError(
            f"{where}: has no `{key}`, or it is not text; give the file of the captions, whole"
        )
    return value


def _id(entry: object, keys: tuple[str, ...], where: str) -> str:
    value = first_of(entry, keys) if isinstance(entry, dict) else None
    if value is None:
        raise DataError(f"{where}: has no `{keys[0]}`; give the file of the captions, whole")
    return parse_id(value, where)
