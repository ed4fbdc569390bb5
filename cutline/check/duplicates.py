"""The same image twice: within the data, or in two sets that are kept apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cutline.check.findings import Finding, name_of
from cutline.check.images import ImageInfo, ImageInfos
from cutline.check.near_duplicates import group_near_duplicates
from cutline.data import Sample


@dataclass
class Duplicates:
    """What `find_duplicates` finds."""

    rows: list[Finding] = field(default_factory=list)
    equal: list[list[Sample]] = field(default_factory=list)
    """groups of images of the same pixels, those of the other data last"""
    alike: list[list[Sample]] = field(default_factory=list)
    """groups of images that look alike, likewise; one of each that repeat exactly"""


@dataclass
class _Twins:
    """Images of the same pixels."""

    thumb: bytes
    ours: list[Sample] = field(default_factory=list)
    theirs: list[Sample] = field(default_factory=list)
    """those of the other data"""


def find_duplicates(
    samples: Sequence[Sample], others: Sequence[Sample], seen: ImageInfos
) -> Duplicates:
    """Find images of `samples` that repeat each other, and those that are in `others` too, exactly or nearly.

    `seen` has a look at each sample's image. The order of the data changes nothing: of a group, the first by name is the original.
    """
    twins: dict[bytes, _Twins] = {}
    for data, is_ours in ((samples, True), (others, False)):
        for sample in sorted(data, key=name_of):
            if isinstance(look := seen[sample.image], ImageInfo):
                same = twins.setdefault(look.digest, _Twins(look.thumb))
                (same.ours if is_ours else same.theirs).append(sample)
    found, distinct = Duplicates(), list(twins.values())
    for same in distinct:
        _add_equal(found, same)
    for group in group_near_duplicates([same.thumb for same in distinct]):
        _add_alike(found, [distinct[index] for index in group])
    return found


def _add_equal(found: Duplicates, same: _Twins) -> None:
    if same.ours and len(same.ours) + len(same.theirs) > 1:
        found.equal.append([*same.ours, *same.theirs])
    if same.theirs:
        found.rows += [
            Finding("leak", name_of(one), _say_leak(name_of(one), name_of(same.theirs[0])))
            for one in same.ours
        ]
    found.rows += [
        Finding("duplicate", name_of(one), f"the same pixels as {name_of(same.ours[0])}")
        for one in same.ours[1:]
    ]


def _say_leak(ours: str, theirs: str) -> str:
    return f"{'stands in both' if ours == theirs else f'the same pixels as {theirs}'}; leave it out of one"


def _add_alike(found: Duplicates, group: list[_Twins]) -> None:
    ours = [same.ours[0] for same in group if same.ours]
    theirs = [same.theirs[0] for same in group if same.theirs]
    if not ours:
        return
    found.alike.append([*ours, *theirs])
    if theirs:
        new = [same.ours[0] for same in group if same.ours and not same.theirs]
        found.rows += [
            Finding("near_leak", name_of(one), f"looks like {name_of(theirs[0])}") for one in new
        ]
    found.rows += [
        Finding("near_duplicate", name_of(one), f"looks like {name_of(ours[0])}")
        for one in ours[1:]
    ]
