"""The result of a check: findings and statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutline.check.kinds import ERRORS
from cutline.config import CaptionText
from cutline.data import Sample
from cutline.metrics import Histogram


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a dataset."""

    kind: str
    """one of KINDS"""
    image: str
    """display name of the image; empty if the finding is about the entire dataset"""
    detail: str
    """what is wrong, and how to fix it if that is not obvious"""
    images: tuple[str, ...] = ()
    """display names of images that have the problem, if it is not that of one image"""

    @property
    def all_images(self) -> tuple[str, ...]:
        """Return the display names of the images that the finding is about."""
        return self.images or ((self.image,) if self.image else ())

    @property
    def own_detail(self) -> str:
        """Return the detail without the image's name, with which messages of errors begin."""
        return self.detail.removeprefix(f"{self.image}: ")


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Size of an image in pixels, after the EXIF rotation is applied."""

    image: str
    """display name of the image"""
    width: int
    height: int


@dataclass(frozen=True)
class CheckResult:
    """The result of `check_data`."""

    samples: Sequence[Sample]
    """the dataset: each image once, with all of its captions"""
    findings: Sequence[Finding]
    """errors and warnings, in the order of KINDS"""
    num_readable: int
    """number of readable images"""
    smallest: ImageSize | None
    """the image with the fewest pixels; None if no image is readable"""
    largest: ImageSize | None
    """the image with the most pixels; None if no image is readable"""
    sizes: Mapping[str, ImageSize]
    """sizes of the readable images of both datasets, by display name"""
    attributes: Mapping[str, int]
    """unusual attribute, such as grayscale or CMYK → number of images, most frequent first"""
    captions: Histogram
    """captions per image"""
    words: Histogram
    """words per cleaned caption, before truncation"""
    tokens: Histogram | None
    """tokens per caption of at most `max_words` words, including prompt, [DEC] and [SEP]; None
    without a tokenizer"""
    text: CaptionText
    """how training cleans and truncates captions"""
    scripts: Mapping[str, int]
    """script, digits, punctuation or symbols → number of characters, most frequent first"""
    unknown_words: Mapping[str, int]
    """word that is encoded as [UNK] → number of occurrences, most frequent first"""
    unknown_characters: Mapping[str, int]
    """character missing from the vocabulary → number of its occurrences in unknown words, most
    frequent first"""
    duplicates: Sequence[Sequence[Sample]]
    """groups of images with equal pixels; images of the other dataset come last"""
    near_duplicates: Sequence[Sequence[Sample]]
    """groups of near-duplicate images; of several with equal pixels, only one is listed; images of
    the other dataset come last"""
    num_other_images: int = 0
    """number of images of the other dataset"""
    num_other_readable: int = 0
    """number of readable images of the other dataset"""
    num_held_out: int = 0
    """number of images that training holds out for validation; 0 with another dataset"""

    @property
    def has_errors(self) -> bool:
        """Return whether any finding is an error."""
        return any(finding.kind in ERRORS for finding in self.findings)
