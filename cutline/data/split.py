"""Split a dataset into training and validation data, by image, group or block."""

import hashlib
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from cutline.config import DataConfig
from cutline.data.names import natural_sort_key
from cutline.data.sample import Sample
from cutline.errors import ConfigError, DataError, SettingName
from cutline.messages import format_value

logger = logging.getLogger(__name__)

GROUP_PATTERN = SettingName("group_pattern", "`--group-pattern`")
MAX_NAME_LENGTH = 255
"""characters at the end of a name in which a pattern is searched"""
MAX_SECONDS = 60
"""seconds after which a pattern is refused; millions of names take less"""


def split_samples(
    samples: Sequence[Sample], data: DataConfig, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Hold out images for validation.

    All samples with the same id go to the same side, and so do the images of a group unless blocks
    are held out. The choice does not depend on the order of the samples.

    Args:
        samples: Samples to split.
        data: Settings: the fraction to hold out, how to choose it, and what a group is. If the
            fraction is above 0 and there are two images or more, neither side is empty.
        seed: Seed of a random choice.

    Returns:
        The remaining and the held-out samples, both in the order given.

    Raises:
        DataError: The settings do not divide the images into groups.
    """
    if not data.val_fraction or len({sample.id for sample in samples}) < 2:
        return list(samples), []
    groups = group_ids(samples, data)
    if data.val_selection == "blocks":
        held_out = _select_blocks(groups, samples, data.val_fraction)
    else:
        held_out = _select_groups(groups, data, seed)
    return [s for s in samples if s.id not in held_out], [s for s in samples if s.id in held_out]


def relative_names(samples: Sequence[Sample]) -> list[str]:
    """Return each image's path below the folder that holds all images, with slashes.

    Unlike the whole path, it is the same on every machine. Images without a path have their id.
    """
    paths = [s.image.replace(os.sep, "/") if isinstance(s.image, str) else "" for s in samples]
    # Not commonpath(), which rejects URLs among paths.
    start = os.path.commonprefix([path for path in paths if path]).rfind("/") + 1  # noqa: RUF071
    return [path[start:] or s.id for path, s in zip(paths, samples, strict=True)]


def group_ids(samples: Sequence[Sample], data: DataConfig) -> dict[str, list[str]]:
    """Return the ids of the images in each group; those in no group are in the group "".

    Raises:
        DataError: No image is in a group although groups are set, or an image is in two.
    """
    names = relative_names(samples) if data.group_pattern else []
    matches = _match_groups(data, names)
    groups: dict[str, str] = {}
    for sample, group in zip(samples, matches or [s.group for s in samples], strict=True):
        if groups.setdefault(sample.id, group) != group:
            raise DataError(
                f"{data.train}: the image {sample.id} is in two groups, `{groups[sample.id]}` and "
                f"`{group}`; correct its group, or give different images different ids"
            )
    ids: dict[str, list[str]] = defaultdict(list)
    for id, group in groups.items():
        ids[group].append(id)
    if data.group_pattern or data.group_column:
        _check_groups(ids, data, min(names, default=""))
    return ids


def _match_groups(data: DataConfig, names: Sequence[str]) -> list[str]:
    """Return the group of each name: the capture groups of the first match of the pattern.

    It is the match itself if the pattern has no capture groups, and "" for no match.

    Raises:
        ConfigError: The pattern takes too long.
    """
    groups = []
    deadline = time.monotonic() + MAX_SECONDS
    for name in names:
        match = re.search(data.group_pattern, name[-MAX_NAME_LENGTH:])
        groups.append("/".join(match.groups("") or (match[0],)) if match else "")
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{data.train}: ",
                GROUP_PATTERN,
                f" {format_value(data.group_pattern)} takes too long; use fewer of * + ? {{}}",
            )
    return groups


def _check_groups(ids: Mapping[str, Sequence[str]], data: DataConfig, example: str) -> None:
    """Raise DataError unless some images are in a group, and log how many are in none."""
    if any(ids):
        num_images = sum(map(len, ids.values()))
        if ungrouped := len(ids.get("", ())):
            logger.info("%s: %d of %d images are in no group", data.train, ungrouped, num_images)
    elif data.group_pattern:
        raise DataError(
            f"{data.train}: ",
            GROUP_PATTERN,
            f" {format_value(data.group_pattern)} matches no image, for example not {example}; "
            "correct it",
        )
    else:
        raise DataError(f"{data.train}: the column `{data.group_column}` is empty; fill it in")


def _select_groups(ids: Mapping[str, Sequence[str]], data: DataConfig, seed: int) -> set[str]:
    """Return the ids of random groups, in which an image without a group is one of its own.

    A group is taken if that brings the number of images nearer to the fraction.
    """
    groups = [(id, [id]) for id in ids.get("", ())]
    groups += [(group, [*members]) for group, members in ids.items() if group]
    if len(groups) == 1:
        raise DataError(
            f"{data.train}: all images are in the group `{groups[0][0]}`, so none can be held out; "
            "make smaller groups, or set `data.val_selection` to blocks"
        )
    groups.sort(key=lambda group: _random_rank(group[0], seed))
    num_images = sum(len(members) for _, members in groups)
    target = min(max(1, round(data.val_fraction * num_images)), num_images - 1)
    held_out: set[str] = set()
    for _, members in groups:
        num_held_out = len(held_out) + len(members)
        if num_held_out < num_images and len(members) < 2 * (target - len(held_out)):
            held_out.update(members)
    return held_out or set(min(groups, key=lambda group: len(group[1]))[1])


def _random_rank(id: str, seed: int) -> bytes:
    """Return a sort key that shuffles ids in the same way in every run, as `hash()` would not."""
    return hashlib.sha256(f"{seed}:{id}".encode("utf-8", "surrogatepass")).digest()


def _select_blocks(
    ids: Mapping[str, Sequence[str]], samples: Sequence[Sample], fraction: float
) -> set[str]:
    """Return the ids of the last images of each group in natural order of their names.

    The sizes of the blocks are rounded such that they add up to the fraction of all images.
    """
    keys: dict[str, tuple[object, ...]] = {}
    for sample, name in zip(samples, relative_names(samples), strict=True):
        key = natural_sort_key(name)
        keys[sample.id] = min(key, keys.get(sample.id, key))
    held_out: set[str] = set()
    num_seen = 0
    for group in sorted(ids, key=natural_sort_key):
        members = sorted(ids[group], key=lambda id: (keys[id], id))
        num_seen += len(members)
        target = min(round(fraction * num_seen), len(keys) - 1)
        if num_seen == len(keys):
            target = max(target, 1)
        held_out.update(members[len(members) - (target - len(held_out)) :])
    return held_out
