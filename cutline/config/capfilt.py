"""Settings of filtering: which texts of an image are kept, and the captioner that adds some."""

from dataclasses import dataclass, fields
from typing import Literal

from cutline.config.generation import GenerationConfig
from cutline.config.inference import CheckpointOptions
from cutline.config.limits import MAX_IMAGE_SIZE
from cutline.config.validation import (
    Settings,
    reject,
    require,
    require_at_least,
    require_between,
)

MatchScore = Literal["itm", "itc"]
DEFAULT_ITM = 0.5
NUCLEUS = GenerationConfig(sample=True, top_p=0.9, top_k=0)
"""how BLIP's authors sample synthetic texts"""


@dataclass(frozen=True)
class FilterConfig(Settings):
    """Filter: which texts are kept."""

    score: MatchScore = "itm"
    """what decides: itm, the probability that the text belongs to the image, or itc, the cosine of
    their embeddings; both are computed and written"""
    threshold: float | None = None
    """lowest score of a text that is kept (default: 0.5 for itm; itc has none, because cosines
    differ from matcher to matcher)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is None:
            require(
                self.score == "itm",
                "itc needs a threshold: look at the cosines of some texts in the columns itc of a "
                "filtered file or in its report, and name one, such as --threshold 0.3",
            )
        else:
            require_between(self, 0 if self.score == "itm" else -1, 1, "threshold")

    @property
    def minimum(self) -> float:
        """Return the lowest score of a text that is kept."""
        return DEFAULT_ITM if self.threshold is None else self.threshold


@dataclass(frozen=True)
class CaptionerOptions(Settings):
    """Captioner: which checkpoint to load, and `CheckpointOptions` of its own."""

    captioner: str = ""
    """captioner that writes synthetic texts: hub id, .pth, Hugging Face folder, cutline folder or
    training run"""
    captioner_config: str = ""
    """sizes of a captioner's .pth: base, large, tiny or a JSON file (default: inferred from the
    weights)"""
    captioner_tokenizer: str = ""
    """vocabulary of a captioner's .pth: vocab.txt, tokenizer.json or a folder with one of them"""
    captioner_image_size: int = 0
    """another image size of the captioner in pixels; position embeddings are interpolated (0: its
    own)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "captioner_image_size", maximum=MAX_IMAGE_SIZE)
        for setting in fields(self):
            if getattr(self, setting.name) and not self.captioner:
                reject(self, setting.name, "has no effect without a captioner: name one")

    @property
    def checkpoint_options(self) -> CheckpointOptions:
        """Return the options of the captioner's checkpoint."""
        return CheckpointOptions(
            self.captioner_config, self.captioner_tokenizer, self.captioner_image_size
        )
