"""Settings of a captioner: sizes, regularization and prompt; they are saved in its checkpoint."""

from dataclasses import dataclass, field, replace
from typing import Any

from cutline.config.limits import (
    MAX_DEPTH,
    MAX_IMAGE_SIZE,
    MAX_MERGED_TOKENS,
    MAX_VOCAB_SIZE,
    MAX_WIDTH,
)
from cutline.config.validation import (
    Settings,
    reject,
    require_at_least,
    require_between,
    require_fractions,
    require_positive,
)
from cutline.errors import ConfigError
from cutline.messages import format_value

# Bounds far above every published model, so that absurd sizes fail at once.
MAX_MLP_WIDTH = 8 * MAX_WIDTH
"""width of an MLP"""
MAX_POSITIONS = 131_072
"""length of a text, in tokens"""
MAX_LAYER_NORM_EPS = 1.0
"""epsilon of a LayerNorm"""
MIN_PIXEL_SCALE, MAX_PIXEL_SCALE = 1e-6, 1e6
"""normalization of pixels: fp32 represents all results"""


def _require_multiple(config: Settings, name: str, divisor: str) -> None:
    value, number = getattr(config, name), getattr(config, divisor)
    if value % number:
        reject(config, name, f"{value} is not a multiple of {divisor} {number}: change one of them")


@dataclass(frozen=True)
class VisionConfig(Settings):
    """Sizes of the Vision Transformer."""

    image_size: int = 384
    """side of the square image, in pixels"""
    patch_size: int = 16
    """side of a patch, in pixels"""
    embed_dim: int = 768
    """width D"""
    depth: int = 12
    """number of blocks"""
    num_heads: int = 12
    """attention heads"""
    mlp_ratio: float = 4.0
    """width of the MLP, as a multiple of embed_dim"""
    drop_path: float = 0.0
    """stochastic depth of the last block, rising linearly from 0 in the first (training only)"""
    layer_norm_eps: float = 1e-6
    """epsilon of every LayerNorm"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "image_size", "patch_size", maximum=MAX_IMAGE_SIZE)
        require_at_least(self, 1, "embed_dim", "num_heads", maximum=MAX_WIDTH)
        require_at_least(self, 1, "depth", maximum=MAX_DEPTH)
        require_positive(self, "mlp_ratio", maximum=MAX_MLP_WIDTH)
        require_positive(self, "layer_norm_eps", maximum=MAX_LAYER_NORM_EPS)
        if not 1 <= self.mlp_dim <= MAX_MLP_WIDTH:
            width = f"{self.mlp_ratio} times embed_dim {self.embed_dim}"
            reject(self, "mlp_ratio", f"{width} must be between 1 and {MAX_MLP_WIDTH}")
        _require_multiple(self, "image_size", "patch_size")
        _require_multiple(self, "embed_dim", "num_heads")
        require_fractions(self, "drop_path")

    @property
    def mlp_dim(self) -> int:
        """Return the width of the MLP."""
        return int(self.embed_dim * self.mlp_ratio)

    @property
    def num_tokens(self) -> int:
        """Return N, the number of visual tokens: the patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    def list_merges_per_block(self, merge_tokens: int) -> list[int]:
        """Return how many tokens each block merges: `merge_tokens`, at most half of its tokens.

        The class token never merges.
        """
        merges: list[int] = []
        for _ in range(self.depth):
            remaining = self.num_tokens - sum(merges)
            merges.append(min(merge_tokens, (remaining - 1) // 2))
        return merges


@dataclass(frozen=True)
class TextConfig(Settings):
    """Sizes of the BERT text decoder."""

    vocab_size: int = 30524
    """size V of the vocabulary, [DEC] and [ENC] included; training takes it from the tokenizer"""
    embed_dim: int = 768
    """width"""
    depth: int = 12
    """number of layers"""
    num_heads: int = 12
    """attention heads"""
    mlp_dim: int = 3072
    """width of the MLP"""
    max_positions: int = 512
    """maximum text length, in tokens"""
    dropout: float = 0.1
    """dropout of embeddings and sub-layer outputs (training only)"""
    attn_dropout: float = 0.1
    """dropout of attention weights (training only)"""
    layer_norm_eps: float = 1e-12
    """epsilon of every LayerNorm"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "vocab_size", maximum=MAX_VOCAB_SIZE)
        require_at_least(self, 1, "embed_dim", "num_heads", maximum=MAX_WIDTH)
        require_at_least(self, 1, "depth", maximum=MAX_DEPTH)
        require_at_least(self, 1, "mlp_dim", maximum=MAX_MLP_WIDTH)
        require_at_least(self, 1, "max_positions", maximum=MAX_POSITIONS)
        require_positive(self, "layer_norm_eps", maximum=MAX_LAYER_NORM_EPS)
        _require_multiple(self, "embed_dim", "num_heads")
        require_fractions(self, "dropout", "attn_dropout")


@dataclass(frozen=True)
class ImageConfig(Settings):
    """Normalization of pixels: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """mean of red, green, blue"""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """standard deviation of red, green, blue"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("mean", -MAX_PIXEL_SCALE), ("std", MIN_PIXEL_SCALE)):
            values = getattr(self, name)
            if not low <= min(values) <= max(values) <= MAX_PIXEL_SCALE:
                bounds = f"between {low:g} and {MAX_PIXEL_SCALE:g}"
                reject(self, name, f"must be {bounds} for each channel, not {values}")


@dataclass(frozen=True)
class CaptionConfig(Settings):
    """Everything that defines a captioner besides its weights and its vocabulary."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    prompt: str = "a picture of "
    """prompt of every caption, unless the caller passes another one"""
    label_smoothing: float = 0.1
    """label smoothing of the LM loss"""
    merge_tokens: int = field(default=0, repr=False)  # not in fingerprints of earlier versions
    """token merging: number of similar visual tokens that each block of the vision encoder merges,
    at most half of them (0: none)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fractions(self, "label_smoothing")
        require_between(self, 0, MAX_MERGED_TOKENS, "merge_tokens")

    @classmethod
    def preset(cls, name: str) -> "CaptionConfig":
        """Return a preset: `base` or `large` (published sizes), or `tiny` (the demo's).

        Raises:
            ConfigError: No preset has this name.
        """
        if name not in PRESETS:
            choices = ", ".join(PRESETS)
            raise ConfigError(f"unknown preset {format_value(name)}; use one of {choices}")
        return PRESETS[name]


PRESETS = {
    "tiny": CaptionConfig(
        vision=VisionConfig(image_size=64, patch_size=16, embed_dim=128, depth=4, num_heads=4),
        text=TextConfig(
            vocab_size=256, embed_dim=128, depth=3, num_heads=4, mlp_dim=512, max_positions=64
        ),
    ),
    "base": CaptionConfig(),
    "large": CaptionConfig(
        vision=VisionConfig(embed_dim=1024, depth=24, num_heads=16, drop_path=0.1)
    ),
}


_OVERRIDES = ("prompt", "label_smoothing", "merge_tokens")
"""settings of a captioner that training may change, besides those of `vision` and `text`"""


@dataclass(frozen=True)
class VisionSettings(VisionConfig):
    """Sizes of the Vision Transformer; `drop_path` may be left to the captioner to fine-tune."""

    drop_path: float | None = None  # type: ignore[assignment]
    """stochastic depth of the last block, rising linearly from 0 in the first (default: that of the
    captioner to fine-tune, else 0)"""


@dataclass(frozen=True)
class TextSettings(TextConfig):
    """Sizes of the BERT text decoder; dropout may be left to the captioner to fine-tune."""

    dropout: float | None = None  # type: ignore[assignment]
    """dropout of embeddings and sub-layer outputs (default: that of the captioner to fine-tune,
    else 0.1)"""
    attn_dropout: float | None = None  # type: ignore[assignment]
    """dropout of attention weights (default: that of the captioner to fine-tune, else 0.1)"""


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Model settings of a recipe: a `CaptionConfig` in which some values may be None.

    None leaves prompt, label smoothing, merged tokens, dropout and stochastic depth to the
    captioner that training starts from. Sizes are for models that start from random or pretrained
    encoder weights.
    """

    vision: VisionSettings = field(default_factory=VisionSettings)
    text: TextSettings = field(default_factory=TextSettings)
    image: ImageConfig = field(default_factory=ImageConfig)
    prompt: str | None = None
    """prompt of every caption, not scored by the loss (default: that of the captioner to fine-tune,
    else "a picture of ")"""
    label_smoothing: float | None = None
    """label smoothing of the LM loss (default: that of the captioner to fine-tune, else 0.1)"""
    merge_tokens: int | None = None
    """token merging: number of similar visual tokens that each block of the vision encoder merges,
    at most half, in training and in the captioner (default: that of the captioner to fine-tune,
    else 0)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fractions(self, "label_smoothing")
        require_between(self, 0, MAX_MERGED_TOKENS, "merge_tokens")

    @classmethod
    def from_config(cls, config: CaptionConfig) -> "ModelSettings":
        """Return `config` as settings in which every value is set."""
        vision, text = VisionSettings(**vars(config.vision)), TextSettings(**vars(config.text))
        rest = {name: getattr(config, name) for name in _OVERRIDES}
        return cls(vision, text, config.image, **rest)

    def override(self, config: CaptionConfig) -> CaptionConfig:
        """Return `config` with those of its settings that are set here, but for sizes."""
        return replace(
            config,
            vision=self.override_vision(config.vision),
            text=self.override_text(config.text),
            **_set_values(self, *_OVERRIDES),
        )

    def override_vision(self, config: VisionConfig) -> VisionConfig:
        """Return `config` with the drop path that is set here."""
        return replace(config, **_set_values(self.vision, "drop_path"))

    def override_text(self, config: TextConfig) -> TextConfig:
        """Return `config` with the dropout that is set here."""
        return replace(config, **_set_values(self.text, "dropout", "attn_dropout"))

    def to_config(self) -> CaptionConfig:
        """Return the configuration of a new model, with defaults of `CaptionConfig` for None."""
        config = CaptionConfig(
            vision=VisionConfig(**_set_values(self.vision, *vars(self.vision))),
            text=TextConfig(**_set_values(self.text, *vars(self.text))),
            image=self.image,
        )
        return self.override(config)

    @property
    def sets_sizes(self) -> bool:
        """Return whether settings are given that only a new model can have, such as sizes."""
        sizes = replace(
            self,
            vision=replace(self.vision, drop_path=None),
            text=replace(self.text, dropout=None, attn_dropout=None),
            prompt=None,
            label_smoothing=None,
            merge_tokens=None,
        )
        return sizes != ModelSettings()


def _set_values(settings: Any, *names: str) -> dict[str, Any]:
    """Return the fields `names` that are not None."""
    return {name: value for name in names if (value := getattr(settings, name)) is not None}
