"""The sizes of a captioner; they travel inside its checkpoint."""

from dataclasses import dataclass, field

from cutline.config.validation import require
from cutline.errors import ConfigError


@dataclass(frozen=True)
class VisionConfig:
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
    """width of the MLP, in embed_dim"""
    drop_path: float = 0.0
    """stochastic depth, growing linearly from 0 in the first block to this in the last (training only)"""
    layer_norm_eps: float = 1e-6
    """epsilon of every LayerNorm"""

    def __post_init__(self) -> None:
        require(
            min(self.image_size, self.patch_size, self.embed_dim, self.depth, self.num_heads) > 0,
            "vision sizes must be positive",
        )
        require(
            self.image_size % self.patch_size == 0,
            f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )
        require(
            self.embed_dim % self.num_heads == 0,
            f"vision embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}",
        )
        require(0 <= self.drop_path < 1, f"drop_path {self.drop_path} is not in [0, 1)")

    @property
    def num_tokens(self) -> int:
        """Visual tokens N: the patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the BERT text side."""

    vocab_size: int = 30524
    """pieces V, [DEC] and [ENC] included; training takes it from the vocabulary"""
    embed_dim: int = 768
    """width"""
    depth: int = 12
    """number of layers"""
    num_heads: int = 12
    """attention heads"""
    mlp_dim: int = 3072
    """width of the MLP"""
    max_positions: int = 512
    """longest text, in tokens"""
    dropout: float = 0.1
    """dropout of embeddings and sub-layer outputs (training only)"""
    attn_dropout: float = 0.1
    """dropout of attention weights (training only)"""
    layer_norm_eps: float = 1e-12
    """epsilon of every LayerNorm"""

    def __post_init__(self) -> None:
        require(
            min(
                self.vocab_size,
                self.embed_dim,
                self.depth,
                self.num_heads,
                self.mlp_dim,
                self.max_positions,
            )
            > 0,
            "text sizes must be positive",
        )
        require(
            self.embed_dim % self.num_heads == 0,
            f"text embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}",
        )
        for name in ("dropout", "attn_dropout"):
            require(0 <= getattr(self, name) < 1, f"{name} {getattr(self, name)} is not in [0, 1)")


@dataclass(frozen=True)
class ImageConfig:
    """How pixels become numbers: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """mean of red, green, blue"""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """standard deviation of red, green, blue"""

    def __post_init__(self) -> None:
        require(all(s > 0 for s in self.std), "image std must be positive")


@dataclass(frozen=True)
class CaptionConfig:
    """Everything that defines a captioner besides its weights and its vocabulary."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    prompt: str = "a picture of "
    """what every caption begins with, unless the caller says otherwise"""
    label_smoothing: float = 0.1
    """label smoothing of the LM loss"""

    def __post_init__(self) -> None:
        require(
            0 <= self.label_smoothing < 1,
            f"label_smoothing {self.label_smoothing} is not in [0, 1)",
        )

    @classmethod
    def preset(cls, name: str) -> "CaptionConfig":
        """The published sizes `base` and `large`, or `tiny`, the demonstration's. Raises ConfigError for another name."""
        if name not in PRESETS:
            raise ConfigError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
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
