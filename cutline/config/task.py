"""What a run trains, and the settings of matching."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.validation import Settings, require_at_least

TaskName = Literal["caption", "match"]

MAX_TEXT_TOKENS = 35
"""tokens of a text that a matcher reads, [SEP] included, as in BLIP's code; longer texts are cut"""


@dataclass(frozen=True)
class MatchTaskConfig(Settings):
    """Training a matcher: which texts and images of a batch do not belong together."""

    negatives: Literal["text", "image"] = "text"
    """what is a wrong text of an image: one that differs, after cleaning, from all of its own
    captions (text), or one of another image, even if it reads the same (image, as in BLIP's
    code)"""
    negative_all_rank: bool = False
    """compare with the texts and images of all processes, not only of this one"""
    k_test: int = 256
    """in validation: number of candidates that image-text matching re-ranks"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "k_test")
