"""Settings of filtering: which texts of an image are kept, and the captioner that adds some."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.generation import GenerationConfig
from cutline.config.inference import ModelOptions
from cutline.config.validation import Settings, require, require_between

MatchScore = Literal["itm", "itc"]
DEFAULT_ITM = 0.5
NUCLEUS = GenerationConfig(sample=True, top_p=0.9, top_k=0)
"""how BLIP's authors sample synthetic texts"""


@dataclass(frozen=True)
class FilterConfig(Settings):
    """Filter: which texts are kept."""

    score: MatchScore = "itm"
    """score that decides: itm, the match probability, or itc, the cosine of the embeddings; both
    are always computed and written"""
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
class CaptionerOptions(ModelOptions):
    """Captioner: which checkpoint to load, and `CheckpointOptions` of its own."""

    kind = "captioner"
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
