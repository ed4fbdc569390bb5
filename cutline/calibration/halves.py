"""Divide images into the half that a calibration is fitted on, and the half that tests it."""

from collections.abc import Sequence
from dataclasses import replace

from cutline.check.images import ImageInfo, inspect_images
from cutline.check.near_duplicates import group_near_duplicates
from cutline.config import DataConfig
from cutline.data import Sample
from cutline.data.split import group_ids, split_samples
from cutline.errors import DataError
from cutline.progress import Progress, no_progress


def divide_samples(
    samples: Sequence[Sample],
    data: DataConfig,
    seed: int,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> tuple[list[Sample], list[Sample]]:
    """Return two halves of the samples, neither of which has a near copy of an image of the other.

    Args:
        samples: The samples; those of a group go to the same half.
        data: The name of the data, for errors, and what a group is.
        seed: Seed of the division.
        num_workers: Processes that open images (0: threads of this process).
        progress: Shows how many images have been compared.

    Raises:
        DataError: All images belong together.
    """
    copies = find_near_copies(samples, num_workers, progress)
    grouped = join_groups(samples, copies, data)
    if len({sample.group for sample in grouped}) < 2:
        raise DataError(
            f"{data.train}: all images with captions are one image, one group or near copies of "
            "each other, but one half has to test what is fitted on the other; add other images"
        )
    data = replace(data, val_fraction=0.5, group_pattern="", group_column="")
    return split_samples(grouped, data, seed)


def join_groups(
    samples: Sequence[Sample], copies: Sequence[Sequence[Sample]], data: DataConfig
) -> list[Sample]:
    """Return the samples with groups: their own, joined where these have near copies."""
    groups = {
        id: group or f"image {id}" for group, ids in group_ids(samples, data).items() for id in ids
    }
    roots = {group: group for group in groups.values()}
    for original, *others in copies:
        for sample in others:
            first, second = (find_root(roots, groups[each.id]) for each in (original, sample))
            roots[second] = first
    return [replace(sample, group=find_root(roots, groups[sample.id])) for sample in samples]


def find_root(roots: dict[str, str], group: str) -> str:
    """Return the group that stands for all those that were joined with a group."""
    while roots[group] != group:
        group = roots[group]
    return group


def find_near_copies(
    samples: Sequence[Sample], num_workers: int, progress: Progress
) -> list[list[Sample]]:
    """Return the samples of each set of images that are near copies of each other."""
    infos = progress(
        inspect_images((sample.image for sample in samples), num_workers),
        len(samples),
        "comparing images",
    )
    readable = [
        (sample, info.thumbnail)
        for sample, info in zip(samples, infos, strict=True)
        if isinstance(info, ImageInfo)
    ]
    copies = group_near_duplicates([thumbnail for _, thumbnail in readable])
    return [[readable[number][0] for number in numbers] for numbers in copies]
