"""JSON files of captions: COCO's and NoCaps', BLIP's lists of rows, and Karpathy's splits."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from cutline.config import Columns, DataSource
from cutline.data.coco_results import find_coco_number
from cutline.data.find import SPLIT_SETTING, reject_split
from cutline.data.row import (
    IMAGE_KEYS,
    URL_KEYS,
    UrlHandling,
    first_value,
    image_folder,
    locate_image,
    parse_captions,
    parse_id,
    parse_row,
    reject_columns,
)
from cutline.data.sample import Sample
from cutline.data.tolerant import Tolerant, attempt
from cutline.errors import DataError, ImageError
from cutline.files import ImageRef
from cutline.messages import format_name

Locate: TypeAlias = Callable[[str, str], str]
"""returns the path of an image from its name and where it is named"""


@dataclass(frozen=True, slots=True)
class UnnamedImage(ImageRef):
    """An image of which only the id is known: it has captions, but cannot be read."""

    id: str

    def __str__(self) -> str:
        return f"image {self.id}"

    def read(self) -> bytes:
        """Raise ImageError."""
        raise ImageError(f"{self}: the data does not name its file; add its `file_name`")


def iter_coco(
    content: object,
    path: Path,
    source: DataSource,
    urls: UrlHandling,
    require_files: bool = True,
) -> Tolerant[Sample]:
    """Yield the images in the parsed content of a JSON file in one of three forms.

    - COCO: `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`. Without
      annotations, as in the test data of NoCaps, images have no captions. An image's `domain`,
      which NoCaps has, is kept.
    - BLIP: a list of `{"image", "caption", "image_id"}`, or of `{"image", "caption": [...]}`, where
      the id is the number in a COCO file name, as in BLIP's data/coco_karpathy_dataset.py.
    - Karpathy's dataset_coco.json:
      `{"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}`.

    Args:
        content: Parsed content of the file.
        path: The file, for error messages and relative image paths.
        source: Says where the images are, which split of a Karpathy file is meant (`train` includes
            `restval`, as usual), and which column names differ from the defaults, in BLIP's form.
        urls: What becomes of addresses.
        require_files: Whether an image without a `file_name` is an error, else an `UnnamedImage`:
            references are measured without their images.

    Yields:
        A sample for each image or row, or the error of an invalid one.

    Raises:
        DataError: The content is in none of these forms, names no files, or lacks the split.
    """
    root, split, columns = image_folder(path, source), source.split, source.columns
    locate = partial(locate_image, root=root, urls=urls)
    if isinstance(content, dict) and isinstance(images := content.get("images"), list):
        reject_columns(columns, path)
        if any(isinstance(image, dict) and "sentences" in image for image in images[:1]):
            return _parse_karpathy(images, path, locate, split)
        if isinstance(annotations := content.get("annotations") or [], list):
            reject_split(split, path)
            if require_files:
                _reject_unnamed(images, path)
            return _parse_coco(images, annotations, path, locate, require_files)
    if isinstance(content, list):
        reject_split(split, path)
        if not columns.image_column:
            _reject_results(content, path)
        return (
            attempt(_parse_blip, row, root, f"{path}, row {number}", columns, urls)
            for number, row in enumerate(content, 1)
        )
    raise DataError(
        f"{path}: neither COCO captions nor a list of rows; it must contain `images`, or a list"
    )


def _reject_unnamed(images: list[Any], path: Path) -> None:
    """Raise DataError if no image has a file name, as in BLIP's coco_karpathy_val_gt.json."""
    if images and all(isinstance(image, dict) and not image.get("file_name") for image in images):
        raise DataError(
            f"{path}: names no image files, so that it can only be the references of "
            "`cutline evaluate --captions` and `cutline compare`; give data with a `file_name` "
            "of each image"
        )


def _reject_results(rows: list[Any], path: Path) -> None:
    """Raise DataError if the rows are COCO's results."""
    row = rows[0] if rows and isinstance(rows[0], dict) else {}
    is_result = "image_id" in row and isinstance(row.get("caption"), str)
    if is_result and not row.keys() & {*IMAGE_KEYS, *URL_KEYS}:
        raise DataError(
            f"{path}: COCO results, which are captions of images that it does not name; measure "
            f"them with `cutline evaluate DATA --captions {path}`"
        )


def _parse_blip(row: object, root: str, where: str, columns: Columns, urls: UrlHandling) -> Sample:
    sample = parse_row(row, root, where, columns, urls)
    number = None if columns.id_column else find_coco_number(sample.id)
    return sample if number is None else replace(sample, id=str(number))


def _parse_coco(
    images: list[Any], annotations: list[Any], path: Path, locate: Locate, require_files: bool
) -> Tolerant[Sample]:
    captions: dict[str, list[str]] = defaultdict(list)
    for number, annotation in enumerate(annotations, 1):
        error = attempt(_add_caption, captions, annotation, f"{path}, annotation {number}")
        if error:
            yield error
    names: dict[str, str] = {}
    for number, image in enumerate(images, 1):
        where = f"{path}, image {number}"
        yield attempt(_parse_image, image, captions, names, locate, where, require_files)
    if captions:
        id = format_name(next(iter(captions)))
        yield DataError(
            f"{path}: has captions of image {id}, which is not in `images`; "
            "add it there, or remove the captions"
        )


def _add_caption(captions: dict[str, list[str]], annotation: object, where: str) -> None:
    id = _parse_id(annotation, ("image_id",), where)
    captions[id].append(_parse_text(annotation, "caption", where))


def _parse_image(
    image: Any,
    captions: dict[str, list[str]],
    names: dict[str, str],
    locate: Locate,
    where: str,
    require_files: bool,
) -> Sample:
    """Return the sample of an image, whose captions are taken, and whose name is added."""
    id = _parse_id(image, ("id",), where)
    is_named = require_files or image.get("file_name") is not None
    name = _parse_text(image, "file_name", where) if is_named else str(UnnamedImage(id))
    if id in names:
        raise DataError(
            f"{where}: {format_name(name)} has the same id as {format_name(names[id])}, "
            f"{format_name(id)}; make the ids unique"
        )
    names[id] = name
    domain = "" if image.get("domain") is None else _parse_text(image, "domain", where)
    texts = parse_captions(captions.pop(id, None), where)
    return Sample(locate(name, where) if is_named else UnnamedImage(id), texts, id, domain=domain)


def _parse_karpathy(images: list[Any], path: Path, locate: Locate, split: str) -> Tolerant[Sample]:
    selected = {"train": ("train", "restval")}.get(split, (split,))
    splits: Counter[str] = Counter()
    for number, image in enumerate(images, 1):
        where = f"{path}, image {number}"
        image_split = attempt(_parse_text, image, "split", where)
        if isinstance(image_split, DataError):
            yield image_split
            continue
        splits[image_split] += 1
        if not split or image_split in selected:
            yield attempt(_parse_karpathy_image, image, locate, where)
    if split and splits and not any(name in splits for name in selected):
        problem = f"{path}: has no split `{split}`; name one of {', '.join(splits)} in "
        raise DataError(problem, SPLIT_SETTING)


def _parse_karpathy_image(image: dict[str, Any], locate: Locate, where: str) -> Sample:
    sentences = image.get("sentences")
    if not isinstance(sentences, list):
        raise DataError(f"{where}: has no list of `sentences`; add it")
    captions = [_parse_text(sentence, "raw", where) for sentence in sentences]
    folder = _parse_text({"filepath": "", **image}, "filepath", where)
    name = str(Path(folder, _parse_text(image, "filename", where)))
    id = _parse_id(image, ("cocoid", "imgid"), where)
    return Sample(locate(name, where), parse_captions(captions, where), id)


def _parse_text(entry: object, key: str, where: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise DataError(
            f"{where}: `{key}` is missing or not text; check that this is a complete caption file"
        )
    return value


def _parse_id(entry: object, keys: tuple[str, ...], where: str) -> str:
    value = first_value(entry, keys) if isinstance(entry, dict) else None
    if value is None:
        raise DataError(
            f"{where}: `{keys[0]}` is missing; check that this is a complete caption file"
        )
    return parse_id(value, where)
