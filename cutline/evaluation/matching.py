"""Matching of captions in a file to images with references."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cutline.data import Sample, group_by_image
from cutline.data.coco import UnnamedImage
from cutline.data.coco_results import find_image_id
from cutline.data.sample import is_url
from cutline.evaluation.caption_file import CaptionRow


class Matches(NamedTuple):
    """The result of `match_captions`."""

    captions: dict[int, str]
    """caption of each sample that has one, by the index of the sample"""
    left_out: list[str]
    """a message for each row that was not matched"""


def match_captions(rows: Sequence[CaptionRow], samples: Sequence[Sample], file: str) -> Matches:
    """Match the rows of a caption file to samples.

    A row matches the sample with the same path, else the only one with the same file name, or with
    its number if it is that of COCO, such as COCO_val2014_000000000042.jpg, else the only one whose
    id is the row's id or image. An integer as id is also such a number. Matches by path come
    first: a sample that a row names by its path is not matched otherwise, and a sample that rows
    with different paths match otherwise is not matched at all. The order of the rows matters only
    if an image has several captions, of which the first is taken.

    Args:
        rows: The rows of the file.
        samples: Samples with references, one per image.
        file: Name of the file, for messages.
    """
    index = _SampleIndex(samples)
    path_matches = [index.find_by_path(row) for row in rows]
    name_matches = [index.find_by_name_or_id(row) for row in rows]
    matched_by_path = {i for matches in path_matches for i in matches}
    # For each sample, the paths or ids of the rows that match it by name or id only.
    images_by_sample: defaultdict[int, set[str]] = defaultdict(set)
    for row, by_path, by_name in zip(rows, path_matches, name_matches, strict=True):
        if not by_path and len(by_name) == 1:
            images_by_sample[by_name[0]].add(_absolute_path(row.image) if row.image else row.id)
    captions: dict[int, str] = {}
    left_out = []
    for row, by_path, by_name in zip(rows, path_matches, name_matches, strict=True):
        matches = by_path or by_name
        i = matches[0] if matches else -1
        if not matches:
            problem = "has no references"
        elif len(matches) > 1:
            problem = f"matches {len(matches)} images by file name or id; give its full path"
        elif not by_path and i in matched_by_path:
            problem = (
                "has no references; the image with its file name or id, "
                f"{samples[i].name}, has its own caption"
            )
        elif not by_path and len(images_by_sample[i]) > 1:
            problem = (
                f"is one of {len(images_by_sample[i])} images that match {samples[i].name} by file "
                "name or id; give its full path"
            )
        elif i in captions:
            problem = "has more than one caption; the first is taken"
        else:
            captions[i] = row.caption
            continue
        left_out.append(f"{file}: {row.name} {problem}")
    return Matches(captions, left_out)


class _SampleIndex:
    """Finds samples by path, file name, id and COCO number."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.paths = _make_index(map(_get_path, samples))
        self.file_names = _make_index(_get_file_name(_get_image(sample)) for sample in samples)
        self.ids = _make_index(sample.id for sample in samples)
        self.numbers = _make_index(_get_number(sample.id, _get_image(sample)) for sample in samples)

    def find_by_path(self, row: CaptionRow) -> list[int]:
        """Return the indices of samples with the path of the row."""
        return self.paths.get(_absolute_path(row.image), []) if row.image else []

    def find_by_name_or_id(self, row: CaptionRow) -> list[int]:
        """Return the indices of samples with the file name of the row, or else with its id.

        A number in the file name comes before the id, which in some files numbers the rows.

        If several have the file name, the id of the row selects among them.
        """
        indices = (
            self.file_names.get(_get_file_name(row.image))
            or self.numbers.get(_get_number("", row.image))
            or self.ids.get(row.id or row.image)
            or self.numbers.get(_get_number(row.id, row.image), [])
        )
        if len(indices) > 1 and row.id:
            return [i for i in indices if self.samples[i].id == row.id] or indices
        return indices


def _make_index(keys: Iterable[str]) -> dict[str, list[int]]:
    """Return the positions of each key that is not empty."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        if key:
            positions[key].append(position)
    return positions


def merge_references(samples: Iterable[Sample]) -> list[Sample]:
    """Merge the samples of each image into one, whatever their prompts."""
    return group_by_image(samples, lambda sample: _get_path(sample) or f"id {sample.id}")


def list_unpaired(
    samples: Sequence[Sample],
    captions: tuple[Mapping[int, str], Mapping[int, str]],
    files: tuple[str, str],
) -> list[str]:
    """Return a message for each image that only one of two files has."""
    messages = []
    for captions_here, captions_there, other_file in (
        (captions[0], captions[1], files[1]),
        (captions[1], captions[0], files[0]),
    ):
        missing = [samples[i].name for i in captions_here if i not in captions_there]
        messages += [f"{other_file}: no caption for {name}" for name in missing]
    return messages


def _get_image(sample: Sample) -> str:
    """Return the path of the image, or "" if it is given as bytes or by its id."""
    return "" if isinstance(sample.image, bytes | UnnamedImage) else str(sample.image)


def _get_path(sample: Sample) -> str:
    """Return the absolute path of the image, or "" if it is given as bytes or by its id."""
    image = _get_image(sample)
    return _absolute_path(image) if image else ""


def _get_number(id: str, image: str) -> str:
    """Return the integer by which COCO knows an image, or ""."""
    image_id = find_image_id(id, image)
    return "" if image_id is None else str(image_id)


def _absolute_path(image: str) -> str:
    # Path.absolute() would keep "..".
    return image if is_url(image) else os.path.abspath(image)  # noqa: PTH100


def _get_file_name(image: str) -> str:
    return image.replace("\\", "/").rpartition("/")[2]
