"""What a run trains, and the settings of matching."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.limits import MAX_QUEUE_SIZE
from cutline.config.validation import Settings, require, require_at_least, require_fractions

TaskName = Literal["caption", "match", "pretrain"]

MAX_TEXT_TOKENS = 35
"""tokens of a text that a matcher reads, [SEP] included, as in BLIP's code; longer texts are cut"""
MAX_PRETRAIN_TOKENS = 30
"""tokens of a text in pre-training, [SEP] included, as in BLIP's code; longer texts are cut"""


@dataclass(frozen=True)
class MatchTaskConfig(Settings):
    """Training a matcher: which texts and images do not belong together, and momentum."""

    negatives: Literal["text", "image"] = "text"
    """what is a wrong text of an image: one that differs, after cleaning, from all of its own
    captions (text), or one of another image, even if it reads the same (image, as in BLIP's
    code)"""
    negative_all_rank: bool = False
    """compare with the texts and images of all processes, not only of this one"""
    k_test: int = 256
    """in validation: number of candidates that image-text matching re-ranks"""
    momentum: float = 0.0
    """share that momentum copies of the encoders keep of their weights in each step; the copies
    give soft targets for the contrastive loss (0: no copies; 0.995 in BLIP's code)"""
    queue_size: int = 0
    """number of earlier images, and of texts, as the momentum copies embedded them, that the
    contrastive loss compares with as well (0: none; 57600 in BLIP's code)"""
    alpha: float = 0.4
    """weight of the soft targets, reached after the first epoch, or in pre-training after the
    second"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "k_test")
        require_at_least(self, 0, "queue_size", maximum=MAX_QUEUE_SIZE)
        require_fractions(self, "momentum", "alpha")
        for name in ("queue_size", "alpha"):
            is_set = getattr(self, name) != getattr(type(self), name)
            require(
                self.momentum > 0 or not is_set,
                f"`match.{name}` needs `match.momentum`: set it, such as to 0.995, or remove "
                f"`match.{name}`",
            )
