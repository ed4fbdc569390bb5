"""Settings of filtering: which texts of an image are kept, by which score of which model."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.generation import GenerationConfig
from cutline.config.inference import MergingOptions, ModelOptions
from cutline.config.validation import Settings, reject, require, require_at_least, require_between

MatchScore = Literal["itm", "itc", "ratio"]
DEFAULT_THRESHOLDS: dict[MatchScore, float] = {"itm": 0.5, "ratio": 0.0}
MAX_BACKGROUND = 1000
NUCLEUS = GenerationConfig(sample=True, top_p=0.9, top_k=0)
"""how BLIP's authors sample synthetic texts"""


@dataclass(frozen=True)
class FilterConfig(Settings):
    """Filter: which texts are kept."""

    score: MatchScore = "itm"
    """score that decides: itm, the match probability, or itc, the cosine of the embeddings, both of
    a matcher and always written; or ratio, which needs no matcher: how much likelier a captioner
    finds a text given its image than given other images, as a logarithm"""
    threshold: float | None = None
    """lowest score of a text that is kept (default: 0.5 for itm, 0 for ratio; itc has none, because
    cosines differ from matcher to matcher)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is None:
            require(
                self.score in DEFAULT_THRESHOLDS,
                "itc needs a threshold: look at the cosines of some texts in the columns itc of a "
                "filtered file or in its report, and name one, such as --threshold 0.3",
            )
        elif self.score != "ratio":
            require_between(self, 0 if self.score == "itm" else -1, 1, "threshold")

    @property
    def minimum(self) -> float:
        """Return the lowest score of a text that is kept."""
        return DEFAULT_THRESHOLDS[self.score] if self.threshold is None else self.threshold


@dataclass(frozen=True)
class MatchFilterConfig(FilterConfig):
    """Filter: which texts are kept, by the score of a matcher."""

    score: Literal["itm", "itc"] = "itm"
    """score that decides: itm, the match probability, or itc, the cosine of the embeddings; both
    are always computed and written"""
    threshold: float | None = None
    """lowest score of a text that is kept (default: 0.5 for itm; itc has none, because cosines
    differ from matcher to matcher)"""


@dataclass(frozen=True)
class CaptionerOptions(ModelOptions):
    """Captioner: which checkpoint to load, and `MergingOptions` of its own."""

    kind = "captioner"
    options_class = MergingOptions
    captioner: str = ""
    """captioner: hub id, .pth, Hugging Face folder, cutline folder or training run"""
    captioner_config: str = ""
    """sizes of a captioner's .pth: base, large, tiny or a JSON file (default: inferred from the
    weights)"""
    captioner_tokenizer: str = ""
    """vocabulary of a captioner's .pth: vocab.txt, tokenizer.json or a folder with one of them"""
    captioner_image_size: int = 0
    """another image size of the captioner in pixels; position embeddings are interpolated (0: its
    own)"""
    captioner_merge_tokens: int | None = None
    """token merging (ToMe): number of similar visual tokens that each block of the captioner's
    vision encoder merges, at most half: faster; scores may change (default: its own, usually 0)"""


@dataclass(frozen=True)
class RatioOptions(CaptionerOptions):
    """Captioner whose likelihoods tell which texts match, and images to compare with."""

    background: str = ""
    """images like those of the data, such as the captioner's training data: a text is compared with
    some of them, chosen at random. A folder, a table of images on this machine in a column of a
    default name, or a tar shard"""
    num_background: int = 12
    """number of those images; each takes 42 MB of memory with BLIP base in fp32, and each text is
    scored once for each"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "num_background", maximum=MAX_BACKGROUND)
        for name in ("background", "num_background"):
            if getattr(self, name) != getattr(type(self), name) and not self.captioner:
                reject(self, name, "has no effect without a captioner: name one")
