"""What a run trains, and the settings of captioning and matching."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.limits import MAX_QUEUE_SIZE
from cutline.config.validation import Settings, require, require_at_least, require_fractions

TaskName = Literal["caption", "scst", "match", "pretrain"]

MAX_TEXT_TOKENS = 35
"""tokens of a text that a matcher reads, [SEP] included, as in BLIP's code; longer texts are cut"""
MAX_PRETRAIN_TOKENS = 30
"""tokens of a text in pre-training, [SEP] included, as in BLIP's code; longer texts are cut"""


@dataclass(frozen=True)
class CaptionTaskConfig(Settings):
    """Training a captioner by cross-entropy: losses beside BLIP's LM loss."""

    bag_of_words_weight: float = 0.0
    """weight of the bag-of-words loss, for training from scratch: the mean of the visual tokens
    predicts which words the captions of an image have; summed over the vocabulary (0: none;
    recipes/aerial.yaml: 0.05)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "bag_of_words_weight")


@dataclass(frozen=True)
class MatchTaskConfig(Settings):
    """Training a matcher: negatives, and momentum distillation."""

    negatives: Literal["text", "image"] = "text"
    """which texts are negatives of an image: those that differ, after cleaning, from all of its own
    captions (text), or those of other images, even if they are equal (image, as in BLIP's code)"""
    negative_all_rank: bool = False
    """take positives and negatives from the batches of all processes, not only of this one"""
    k_test: int = 256
    """in validation: number of candidates that ITM re-ranks"""
    momentum: float = 0.0
    """decay of the momentum encoders in each step; they give soft targets for the contrastive loss
    (0: no momentum encoders; 0.995 in BLIP's code)"""
    queue_size: int = 0
    """number of earlier images, and of texts, whose momentum embeddings the contrastive loss also
    compares with (0: none; 57600 in BLIP's code)"""
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
