"""The optimiser of a run."""

from dataclasses import dataclass, field
from typing import Literal

from cutline.config.validation import require, require_choices


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation: chosen projections learn a small product beside their weights, and all other weights are frozen."""

    rank: int = 0
    """rank of the product (0: no LoRA, all weights learn)"""
    alpha: float = 0.0
    """the product counts alpha / rank times (0: once)"""
    dropout: float = 0.0
    """dropout on what the product reads"""
    targets: tuple[str, ...] = ("*.qkv", "*.q", "*.kv", "*.proj")
    """which projections, as patterns: `*.qkv *.q *.kv *.proj` are those of all attentions, `*.fc1 *.fc2` of the MLPs, `text.*` one side"""

    @property
    def scale(self) -> float:
        """How many times the product counts."""
        return self.alpha / self.rank if self.alpha else 1.0

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            require(getattr(self, name) >= 0, f"lora.{name} {getattr(self, name)} is negative")
        require(0 <= self.dropout < 1, f"lora.dropout {self.dropout} is not in [0, 1)")
        require(bool(self.targets), "lora.targets names no projection")


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser, its schedule, and what keeps it in memory."""

    batch_size: int = 32
    """images per step and process"""
    grad_accum_steps: int = 1
    """batches per optimiser step; losses are weighed by tokens"""
    epochs: int = 5
    """passes over the training data"""
    max_steps: int = 0
    """stop after this many optimiser steps (0: after `epochs`)"""
    lr: float = 1e-5
    """peak learning rate"""
    min_lr: float = 0.0
    """learning rate at the end"""
    warmup_steps: int = 0
    """steps of linear warm-up"""
    schedule: Literal["cosine", "cosine_epoch", "constant"] = "cosine"
    """cosine per step, cosine stepped once per epoch (the reference's), or constant"""
    weight_decay: float = 0.05
    """AdamW weight decay"""
    decay_biases_and_norms: bool = True
    """weight decay on all weights, as in the reference; off: on matrices alone"""
    layer_decay: float = 1.0
    """learning rate of each layer as a share of that of the layer above it (1: all the same)"""
    freeze: tuple[str, ...] = ()
    """weights that stay as they are, as patterns: `vision.*` for the whole vision side"""
    lora: LoraConfig = field(default_factory=LoraConfig)
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW averages"""
    clip_norm: float = 0.0
    """largest gradient norm (0: no clipping)"""
    ema_decay: float = 0.0
    """evaluate and keep an exponential moving average of the weights (0: off)"""
    label_smoothing: float | None = None
    """label smoothing (default: the model's own)"""
    dropout: float | None = None
    """text dropout (default: the model's own)"""
    drop_path: float | None = None
    """stochastic depth of the vision side (default: the model's own)"""
    vit_grad_ckpt: bool = False
    """recompute activations of the last `vit_ckpt_layer` vision blocks instead of keeping them"""
    vit_ckpt_layer: int = 0
    """how many of the last vision blocks to recompute"""
    text_grad_ckpt: bool = False
    """recompute activations of the text layers"""
    recompute_cheap: bool = True
    """recompute norms, activation functions and sums instead of keeping them: much less memory, hardly more time"""
    compile: bool = False
    """compile the layers (torch.compile): minutes at the start, faster steps"""
    shard: bool = False
    """with several processes, cut weights, gradients and moments in pieces (FSDP2) instead of copying them to each"""

    def __post_init__(self) -> None:
        require_choices(self)
        for name in ("batch_size", "grad_accum_steps", "epochs"):
            require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is below 1")
        for name in (
            "max_steps",
            "warmup_steps",
            "weight_decay",
            "clip_norm",
            "min_lr",
            "vit_ckpt_layer",
        ):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")
        require(0 < self.layer_decay <= 1, f"layer_decay {self.layer_decay} is not in (0, 1]")
        require(self.lr > 0, f"lr {self.lr} is not positive")
        require(0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay} is not in [0, 1)")
        require(
            not self.vit_grad_ckpt or self.vit_ckpt_layer > 0,
            "vit_grad_ckpt is on but vit_ckpt_layer is 0: say how many of the last blocks to recompute",
        )
