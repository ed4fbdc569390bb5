"""Which images a report shows: those with findings, and a random sample of the others."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from cutline.check.findings import CheckResult, Finding
from cutline.check.summary import group_by_kind
from cutline.data import Sample

COPIES = frozenset({"leak", "near_leak", "duplicate", "near_duplicate"})
"""kinds of findings about groups of images"""
MAX_GROUP = 12
"""images of a group that are shown; up to half of them are of the other dataset"""
_MIN_SHARE_OF_CLEAN = 0.2  # of the images that are shown, if there are as many without findings


@dataclass(frozen=True, eq=False)
class Group:
    """Images with equal pixels, or that look alike."""

    number: int
    """counts from 1"""
    samples: Sequence[Sample]
    """images of the dataset"""
    others: Sequence[Sample]
    """images of the other dataset"""
    kinds: frozenset[str]
    """kinds of findings about the group"""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.samples) + len(self.others)

    @property
    def shown(self) -> list[Sample]:
        """Return the images that a report shows."""
        others = self.others[: max(MAX_GROUP // 2, MAX_GROUP - len(self.samples))]
        return [*self.samples[: MAX_GROUP - len(others)], *others]


class ImageFindings:
    """The findings of a check by image, and the groups of copies that it found."""

    def __init__(self, result: CheckResult) -> None:
        self.result = result
        self._own = {sample.name: sample for sample in result.samples}
        self._own_ids = set(map(id, result.samples))
        self._findings: dict[str, list[Finding]] = defaultdict(list)
        for finding in result.findings:
            for name in finding.all_images:
                self._findings[name].append(finding)
        members = enumerate(_join_groups(result), 1)
        groups = [self._make_group(number, samples) for number, samples in members]
        self._groups: Mapping[int, Group] = {
            id(sample): group for group in groups for sample in (*group.samples, *group.others)
        }

    def _make_group(self, number: int, members: Sequence[Sample]) -> Group:
        samples = [sample for sample in members if not self.is_other(sample)]
        others = [sample for sample in members if self.is_other(sample)]
        kinds = {finding.kind for sample in samples for finding in self.find(sample)}
        return Group(number, samples, others, COPIES & kinds)

    def is_other(self, sample: Sample) -> bool:
        """Return whether an image is of the other dataset."""
        return id(sample) not in self._own_ids

    def find(self, sample: Sample) -> Sequence[Finding]:
        """Return the findings about an image."""
        return [] if self.is_other(sample) else self._findings.get(sample.name, [])

    def find_group(self, sample: Sample) -> Group | None:
        """Return the group of copies that an image is in."""
        return self._groups.get(id(sample))

    def list_kinds(self, sample: Sample) -> frozenset[str]:
        """Return the kinds of findings about an image and about its group."""
        kinds = frozenset(finding.kind for finding in self.find(sample))
        group = self.find_group(sample)
        return kinds | group.kinds if group else kinds

    def choose(self, num_images: int, seed: int = 0) -> list[Sample]:
        """Return at most so many images: those with findings first, groups next to each other.

        If there are too many, each kind of finding gets the same number of images, and a fifth of
        all is a random sample of the images without findings, in the order of the data.
        """
        clean = [sample for sample in self.result.samples if not self.list_kinds(sample)]
        reserved = min(len(clean), round(_MIN_SHARE_OF_CLEAN * num_images))
        chosen = self._choose_with_findings(num_images - reserved)
        count = min(len(clean), num_images - len(chosen))
        indices = sorted(random.Random(seed).sample(range(len(clean)), count))
        return [*chosen, *(clean[index] for index in indices)]

    def _choose_with_findings(self, num_images: int) -> list[Sample]:
        kinds = group_by_kind(self.result.findings)
        chosen: list[list[Sample]] = [[] for _ in kinds]
        seen: set[int] = set()
        for units in zip_longest(*(self._iter_units(findings) for _, findings in kinds)):
            for samples, unit in zip(chosen, units, strict=True):
                new = [sample for sample in unit or () if id(sample) not in seen]
                if len(seen) + len(new) <= num_images:
                    samples += new
                    seen.update(map(id, new))
            if len(seen) >= num_images:
                break
        return [sample for samples in chosen for sample in samples]

    def _iter_units(self, findings: Sequence[Finding]) -> Iterator[Sequence[Sample]]:
        """Yield the images that findings are about; those of a group together."""
        for finding in findings:
            for name in finding.all_images:
                if sample := self._own.get(name):
                    group = self.find_group(sample)
                    shown = group.shown if group else [sample]
                    is_among = finding.kind in COPIES or sample in shown
                    yield shown if is_among else [sample]


def _join_groups(result: CheckResult) -> list[list[Sample]]:
    """Return the groups of copies; no image is in two of them.

    Of images with equal pixels, only one is in a group of those that look alike; the others join it
    there.
    """
    equal = {id(sample): group for group in result.duplicates for sample in group}
    near = [
        [copy for sample in group for copy in equal.get(id(sample), (sample,))]
        for group in result.near_duplicates
    ]
    joined = {id(sample) for group in near for sample in group}
    exact = [group for group in result.duplicates if id(group[0]) not in joined]
    unique = ({id(sample): sample for sample in group} for group in (*exact, *near))
    return [list(group.values()) for group in unique]
