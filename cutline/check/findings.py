"""The result of a check: findings and statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutline.data import Sample
from cutline.metrics import Histogram

KINDS = {
    "missing": ("image file does not exist", "image files do not exist"),
    "unreadable": ("image cannot be read", "images cannot be read"),
    "unreadable_other_set": (
        "other dataset has no readable image",
        "other datasets have no readable image",
    ),
    "uncaptioned": ("image has no usable caption", "images have no usable caption"),
    "leak": ("image is also in the other dataset", "images are also in the other dataset"),
    "near_leak": (
        "image looks like an image of the other dataset",
        "images look like images of the other dataset",
    ),
    "repeated_across_split": (
        "validation set repeats captions of the training data",
        "validation sets repeat captions of the training data",
    ),
    "neighbors_across_split": (
        "validation set consists of neighbors of training images",
        "validation sets consist of neighbors of training images",
    ),
    "duplicate": (
        "image has the same pixels as another one",
        "images have the same pixels as another one",
    ),
    "near_duplicate": ("image looks like another one", "images look like another one"),
    "tiny": ("image is very small", "images are very small"),
    "extreme_aspect": (
        "image has an extreme aspect ratio",
        "images have an extreme aspect ratio",
    ),
    "empty_caption": ("caption is empty after cleaning", "captions are empty after cleaning"),
    "long_caption": (
        "caption is truncated to max_words",
        "captions are truncated to max_words",
    ),
    "cut_caption": (
        "caption is truncated to max_tokens",
        "captions are truncated to max_tokens",
    ),
    "repeated_caption": (
        "caption is repeated for the same image",
        "captions are repeated for the same image",
    ),
    "common_caption": ("caption is shared by many images", "captions are shared by many images"),
    "broken_text": ("caption has invalid characters", "captions have invalid characters"),
    "unknown_word": ("word is not in the vocabulary", "words are not in the vocabulary"),
}
"""each kind of finding in singular and plural, in the order of reports"""

ERRORS = frozenset({"missing", "unreadable", "unreadable_other_set", "uncaptioned", "leak"})
"""kinds that training skips or that make its results wrong; the other kinds are warnings"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a dataset."""

    kind: str
    """one of KINDS"""
    image: str
    """display name of the image; empty if the finding is about the entire dataset"""
    detail: str
    """what is wrong, and how to fix it if that is not obvious"""


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
    attributes: Mapping[str, int]
    """unusual attribute, such as grayscale or CMYK → number of images, most frequent first"""
    captions: Histogram
    """captions per image"""
    words: Histogram
    """words per cleaned caption, before truncation"""
    tokens: Histogram | None
    """tokens per caption of at most `max_words` words, including prompt, [DEC] and [SEP]; None
    without a tokenizer"""
    max_words: int
    """maximum number of words that training keeps"""
    max_tokens: int
    """maximum number of tokens that training keeps, including prompt, [DEC] and [SEP]"""
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
