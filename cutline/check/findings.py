"""What a check finds: plain data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutline.data import Sample

KINDS = {
    "missing": ("image is not where the data say", "images are not where the data say"),
    "unreadable": ("image cannot be read", "images cannot be read"),
    "blind": (
        "other data set has no image that can be read",
        "other data sets have no image that can be read",
    ),
    "uncaptioned": ("image has no usable caption", "images have no usable caption"),
    "leak": ("image is in the other data, too", "images are in the other data, too"),
    "near_leak": (
        "image looks like one of the other data",
        "images look like one of the other data",
    ),
    "duplicate": (
        "image repeats another, pixel for pixel",
        "images repeat another, pixel for pixel",
    ),
    "near_duplicate": ("image looks like another", "images look like another"),
    "tiny": ("image is tiny", "images are tiny"),
    "narrow": (
        "image is too long or tall to be made a square",
        "images are too long or tall to be made squares",
    ),
    "empty_caption": ("caption is empty once cleaned", "captions are empty once cleaned"),
    "long_caption": ("caption is cut for its many words", "captions are cut for their many words"),
    "cut_caption": ("caption is cut for its many tokens", "captions are cut for their many tokens"),
    "repeated_caption": (
        "caption is said twice of one image",
        "captions are said twice of one image",
    ),
    "common_caption": ("caption is said of many images", "captions are said of many images"),
    "broken_text": ("caption holds broken characters", "captions hold broken characters"),
    "unknown_word": ("word is not in the vocabulary", "words are not in the vocabulary"),
}
"""each kind of finding, in the order of reports: what follows the number one, and what follows other numbers"""

HARMFUL = frozenset({"missing", "unreadable", "blind", "uncaptioned", "leak"})
"""what training would skip, or what makes its results wrong; the other kinds are worth a look"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at."""

    kind: str
    """one of KINDS"""
    image: str
    """the image's path; its id, where it has no path"""
    detail: str
    """what was found, and where there is one, the way out"""


@dataclass(frozen=True)
class Histogram:
    """How often each of some whole numbers occurs."""

    counts: Mapping[int, int]
    """number -> how often, in rising order"""

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Histogram":
        """Count `numbers`."""
        return cls(dict(sorted(Counter(numbers).items())))

    @property
    def low(self) -> int:
        """The smallest; 0 of none."""
        return min(self.counts, default=0)

    @property
    def high(self) -> int:
        """The largest; 0 of none."""
        return max(self.counts, default=0)

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def sum(self) -> int:
        """All of them together."""
        return sum(number * count for number, count in self.counts.items())

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return self.sum / max(1, self.total)


@dataclass(frozen=True, slots=True)
class Size:
    """An image's size in pixels, upright."""

    image: str
    width: int
    height: int


@dataclass(frozen=True)
class Findings:
    """What `check` found."""

    samples: Sequence[Sample]
    """the data, each image once, its captions together"""
    rows: Sequence[Finding]
    """what is to be mended or worth a look, in the order of KINDS"""
    num_readable: int
    """images that can be read"""
    smallest: Size | None
    """the image of the fewest pixels; None where none can be read"""
    largest: Size | None
    """the one of the most"""
    traits: Mapping[str, int]
    """how many images are grey, animated, turned by EXIF …"""
    captions: Histogram
    """captions per image"""
    words: Histogram
    """words per cleaned caption, before any is cut"""
    tokens: Histogram | None
    """tokens per caption of at most `max_words` words, with prompt, [DEC] and [SEP]; None without a vocabulary"""
    max_words: int
    max_tokens: int
    scripts: Mapping[str, int]
    """letters of each script, and other kinds of characters, most frequent first"""
    unknown_words: Mapping[str, int]
    """words that become [UNK], and how often, most frequent first"""
    unknown_characters: Mapping[str, int]
    """characters the vocabulary lacks, and how often they stand in unknown words, most frequent first"""
    duplicates: Sequence[Sequence[Sample]]
    """groups of images whose pixels are equal; those of the other data, if any, last"""
    near_duplicates: Sequence[Sequence[Sample]]
    """groups of images that look alike, likewise; one of each that repeat exactly"""
    num_against: int = 0
    """readable images of the other data"""
    num_others: int = 0
    """images of the other data, readable or not"""

    @property
    def harmful(self) -> bool:
        """Whether something must be mended."""
        return any(row.kind in HARMFUL for row in self.rows)


def name_of(sample: Sample) -> str:
    """What to call a sample's image."""
    return sample.id if isinstance(sample.image, bytes) else str(sample.image)
