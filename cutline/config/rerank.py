"""Settings of re-ranking: which captions of an image a matcher keeps."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.inference import MatcherOptions
from cutline.config.validation import require, require_at_least, require_count

RerankScore = Literal["", "itm"]


@dataclass(frozen=True)
class RerankConfig(MatcherOptions):
    """Re-ranking: which matcher ranks the captions of an image, and how many it keeps."""

    rerank: RerankScore = ""
    """sort the captions of an image by a score of a matcher: itm, the match probability (default:
    by the captioner's score)"""
    keep: int = 0
    """with `rerank`, captions to keep of each image, best first (0: all)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "keep")
        require(
            bool(self.matcher) or not self.rerank,
            "rerank needs a matcher: name one with --matcher, or remove --rerank",
        )
        require(
            bool(self.rerank) or not self.matcher,
            "the matcher has nothing to do: add --rerank itm, or remove --matcher",
        )
        require(
            bool(self.rerank) or not self.keep,
            "keep is for captions that a matcher ranks: add --rerank itm, or remove --keep",
        )


def check_keep(keep: int | None, num_captions: int) -> None:
    """Raise ConfigError unless `keep` of `num_captions` captions can be kept; None is all."""
    if keep is None:
        return
    require_count("keep", keep, 1)
    require(
        keep <= num_captions,
        f"keep {keep} is above num_captions {num_captions}: lower keep, or raise num_captions",
    )
