"""Which texts are compared with which images."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cutline.batching.inputs import to_image_list
from cutline.errors import ConfigError
from cutline.image import ImageSource
from cutline.messages import format_value


@dataclass(frozen=True)
class Pairing:
    """Distinct images, each with the texts that it is compared with."""

    images: list[ImageSource]
    texts: list[list[str]]
    """the texts of each image"""
    numbers: list[int]
    """of each image that was given, its number in `images`"""
    shape: tuple[int, ...]
    """of the result: (R,) for pairs, else (B, R)"""

    def arrange(self, values: Sequence[Sequence[float]]) -> Tensor:
        """Return the values of the texts of each image in the order in which they were given."""
        if len(self.shape) == 2:
            rows = [values[number] for number in self.numbers]
            return torch.tensor(rows, dtype=torch.float32).view(self.shape)
        following = [iter(row) for row in values]
        return torch.tensor([next(following[number]) for number in self.numbers])


def make_pairing(
    images: ImageSource | Sequence[ImageSource], texts: str | Sequence[str], pairs: bool
) -> Pairing:
    """Return which texts are compared with which images.

    Args:
        images: One or several.
        texts: One or several.
        pairs: Whether text i is compared with image i; one image may be given for all texts, or one
            text for all images. Otherwise every text is compared with every image.

    Raises:
        ConfigError: The numbers of images and texts differ, or a text is not a string.
    """
    image_list, text_list = to_image_list(images), to_text_list(texts)
    if pairs:
        image_list, text_list = make_equally_long(image_list, text_list)
    distinct, numbers = number_distinct(image_list)
    if not pairs:
        return Pairing(
            distinct, [text_list] * len(distinct), numbers, (len(image_list), len(text_list))
        )
    texts_by_image: list[list[str]] = [[] for _ in distinct]
    for number, text in zip(numbers, text_list, strict=True):
        texts_by_image[number].append(text)
    return Pairing(distinct, texts_by_image, numbers, (len(text_list),))


def make_equally_long(
    images: list[ImageSource], texts: list[str]
) -> tuple[list[ImageSource], list[str]]:
    """Return as many images as texts; one image, or one text, is repeated.

    Raises:
        ConfigError: The numbers differ, and neither is 1.
    """
    if len(images) != len(texts) and 1 not in (len(images), len(texts)):
        raise ConfigError(
            f"there are {len(images)} images and {len(texts)} texts: give one image per text, one "
            "image for all texts, or one text for all images; pairs=False matches all with all"
        )
    count = 0 if 0 in (len(images), len(texts)) else max(len(images), len(texts))
    return images * (count if len(images) == 1 else 1), texts * (count if len(texts) == 1 else 1)


def to_text_list(texts: str | Sequence[str]) -> list[str]:
    """Return a list of texts, given one or several.

    Raises:
        ConfigError: A text is not a string.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        texts = [texts]
    text_list = list(texts)
    for text in text_list:
        if not isinstance(text, str):
            raise ConfigError(f"a text must be a string, not {format_value(text)}")
    return text_list


def number_distinct(images: Sequence[ImageSource]) -> tuple[list[ImageSource], list[int]]:
    """Return the distinct images, and the number of each image among them.

    Paths and bytes are compared; other images are the same if they are one object.
    """
    numbers: dict[Hashable, int] = {}
    distinct: list[ImageSource] = []
    found = []
    for image in images:
        key: Hashable = image if isinstance(image, str | bytes | Path) else id(image)
        if key not in numbers:
            numbers[key] = len(distinct)
            distinct.append(image)
        found.append(numbers[key])
    return distinct, found
