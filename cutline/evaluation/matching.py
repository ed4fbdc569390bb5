"""Which caption belongs to which image with references."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cutline.data import Sample
from cutline.evaluation.caption_file import CaptionRow


def match_captions(
    lines: Sequence[CaptionRow], samples: Sequence[Sample], name: str
) -> tuple[dict[int, str], list[str]]:
    """The caption of each sample that has one, by its place in `samples`; and a sentence for each caption that fits none.

    A row belongs to the sample with the same path, else to the only one whose file has the same name, else to the one whose id is the
    row's id or image. A sample whose path stands in some row is not another row's, and one that rows of different paths could mean by
    its name is none's. The order of rows decides nothing but which of an image's own captions is the first.
    """
    paths, files, ids = (
        _places(map(key, samples)) for key in (_path_of, _file_of, lambda sample: sample.id)
    )
    exact = [paths.get(_absolute(line.image), []) for line in lines]
    others = [
        _narrow(
            files.get(_file_name(line.image)) or ids.get(line.id or line.image) or [], line, samples
        )
        for line in lines
    ]
    taken = {place for hits in exact for place in hits}
    rivals: defaultdict[int, set[str]] = defaultdict(set)  # by place, the paths that may mean it
    for line, sure, hits in zip(lines, exact, others, strict=True):
        if not sure and len(hits) == 1:
            rivals[hits[0]].add(_absolute(line.image))
    found: dict[int, str] = {}
    left = []
    for line, sure, hits in zip(lines, exact, others, strict=True):
        place, *more = sure or hits or [-1]
        if place < 0:
            left.append(f"{name}: {line.image} has no references")
        elif more:
            left.append(
                f"{name}: {line.image} may be any of {1 + len(more)} images of that name; give its whole path"
            )
        elif not sure and place in taken:
            left.append(
                f"{name}: {line.image} has no references; those of its name are of {_title(samples[place])}, which has a row, too"
            )
        elif not sure and len(rivals[place]) > 1:
            left.append(
                f"{name}: {line.image} is one of {len(rivals[place])} that may be {_title(samples[place])}; give its whole path"
            )
        elif place in found:
            left.append(f"{name}: {line.image} has more than one caption; the first is compared")
        else:
            found[place] = line.caption
    return found, left


def _narrow(hits: list[int], line: CaptionRow, samples: Sequence[Sample]) -> list[int]:
    """Of several, those with the row's id, if there are any."""
    return (
        [place for place in hits if samples[place].id == line.id] or hits
        if len(hits) > 1 and line.id
        else hits
    )


def _places(keys: Iterable[str]) -> dict[str, list[int]]:
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        if key:
            places[key].append(place)
    return places


def join_references(samples: Iterable[Sample]) -> list[Sample]:
    """The samples with the references of an image together, whatever the prompts."""
    together: dict[str, Sample] = {}
    for sample in samples:
        key = _path_of(sample) or f"id {sample.id}"
        known = together.get(key)
        together[key] = (
            replace(known, captions=(*known.captions, *sample.captions)) if known else sample
        )
    return list(together.values())


def _path_of(sample: Sample) -> str:
    return "" if isinstance(sample.image, bytes) else _absolute(str(sample.image))


def _file_of(sample: Sample) -> str:
    return "" if isinstance(sample.image, bytes) else _file_name(str(sample.image))


def _absolute(image: str) -> str:
    return image if "://" in image else os.path.abspath(image)  # Path.absolute() keeps ".."


def _file_name(image: str) -> str:
    return image.replace("\\", "/").rpartition("/")[2]


def list_unpaired(
    samples: Sequence[Sample], ours: dict[int, str], theirs: dict[int, str], names: tuple[str, str]
) -> list[str]:
    """A sentence for each image that only one file has."""
    sentences = []
    for has, lacks, name in ((ours, theirs, names[1]), (theirs, ours, names[0])):
        sentences += [
            f"{name}: no caption of {_title(samples[place])}" for place in has if place not in lacks
        ]
    return sentences


def _title(sample: Sample) -> str:
    return sample.id if isinstance(sample.image, bytes) else str(sample.image)
