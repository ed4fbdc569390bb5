"""Find images that occur twice: in one dataset, or in two that must not share images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from cutline.check.findings import Finding
from cutline.check.images import ImageInfo, ImageInfos
from cutline.check.near_duplicates import group_near_duplicates
from cutline.data import Sample


@dataclass
class Duplicates:
    """The result of `find_duplicates`."""

    findings: list[Finding] = field(default_factory=list)
    exact: list[list[Sample]] = field(default_factory=list)
    """groups of images with equal pixels; images of the other dataset come last"""
    near: list[list[Sample]] = field(default_factory=list)
    """groups of near-duplicate images; of several with equal pixels, only one is listed; images of
    the other dataset come last"""


@dataclass
class _PixelGroup:
    """Samples whose images have the same pixels."""

    thumbnail: bytes
    samples: list[Sample] = field(default_factory=list)
    """samples of the dataset that is checked"""
    others: list[Sample] = field(default_factory=list)
    """samples of the other dataset"""


def find_duplicates(
    samples: Sequence[Sample], others: Sequence[Sample], infos: ImageInfos
) -> Duplicates:
    """Find images of `samples` that repeat each other or an image of `others`, exactly or nearly.

    The result does not depend on the order of the samples: the first of a group by name counts as
    the original.

    Args:
        samples: The dataset that is checked, each image once.
        others: Another dataset that must not share images with it.
        infos: Facts about the image of each sample.
    """
    duplicates = Duplicates()
    groups = _group_by_pixels(samples, others, infos)
    for group in groups:
        _add_exact(duplicates, group)
    for indices in group_near_duplicates([group.thumbnail for group in groups]):
        _add_near(duplicates, [groups[index] for index in indices])
    return duplicates


def _group_by_pixels(
    samples: Sequence[Sample], others: Sequence[Sample], infos: ImageInfos
) -> list[_PixelGroup]:
    """Group the readable images of both datasets by the hash of their pixels."""
    groups: dict[bytes, _PixelGroup] = {}
    for data, attribute in ((samples, "samples"), (others, "others")):
        for sample in sorted(data, key=attrgetter("name")):
            if isinstance(info := infos[sample.image], ImageInfo):
                group = groups.setdefault(info.digest, _PixelGroup(info.thumbnail))
                getattr(group, attribute).append(sample)
    return list(groups.values())


def _add_exact(duplicates: Duplicates, group: _PixelGroup) -> None:
    """Add the findings about a group of images with equal pixels."""
    if group.samples and len(group.samples) + len(group.others) > 1:
        duplicates.exact.append([*group.samples, *group.others])
    if group.others:
        duplicates.findings += [
            Finding("leak", sample.name, _describe_leak(sample.name, group.others[0].name))
            for sample in group.samples
        ]
    duplicates.findings += [
        Finding("duplicate", sample.name, f"the same pixels as {group.samples[0].name}")
        for sample in group.samples[1:]
    ]


def _describe_leak(name: str, other: str) -> str:
    match = "the same file" if name == other else f"the same pixels as {other}"
    return f"{match}; remove it from one of the datasets"


def _add_near(duplicates: Duplicates, groups: Sequence[_PixelGroup]) -> None:
    """Add the findings about near-duplicate groups."""
    samples = [group.samples[0] for group in groups if group.samples]
    others = [group.others[0] for group in groups if group.others]
    if not samples:
        return
    duplicates.near.append([*samples, *others])
    if others:
        # Images with equal pixels in the other dataset are already reported as leaks.
        near_leaks = [group.samples[0] for group in groups if group.samples and not group.others]
        duplicates.findings += [
            Finding("near_leak", sample.name, f"looks like {others[0].name}")
            for sample in near_leaks
        ]
    duplicates.findings += [
        Finding("near_duplicate", sample.name, f"looks like {samples[0].name}")
        for sample in samples[1:]
    ]
