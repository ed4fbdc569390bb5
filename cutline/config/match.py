"""Settings of a matcher: sizes and the temperature; they are saved in its checkpoint."""

from dataclasses import dataclass, field

from cutline.config.limits import MAX_WIDTH
from cutline.config.model import CaptionConfig, ImageConfig, TextConfig, VisionConfig
from cutline.config.validation import Settings, require_at_least, require_positive

TEMPERATURE_LIMIT = 1e6
"""temperature of the contrastive loss"""


@dataclass(frozen=True)
class MatchConfig(Settings):
    """Everything that defines a matcher besides its weights and its vocabulary."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    projection_dim: int = 256
    """width P of the embeddings of whole images and texts, which are compared by their cosine"""
    temperature: float = 0.07
    """learned temperature of the contrastive loss (ITC); inference does not need it"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "projection_dim", maximum=MAX_WIDTH)
        require_positive(self, "temperature", maximum=TEMPERATURE_LIMIT)

    @classmethod
    def from_caption_config(cls, config: CaptionConfig, projection_dim: int = 256) -> "MatchConfig":
        """Return the settings of a matcher with the sizes of a captioner."""
        return cls(config.vision, config.text, config.image, projection_dim)
