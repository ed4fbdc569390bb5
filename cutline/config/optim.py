"""Settings of training: optimizer and schedule, LoRA, activation checkpointing, FSDP."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.limits import MAX_BATCH_SIZE, MAX_DEPTH, MAX_WIDTH
from cutline.config.validation import (
    Settings,
    reject,
    require,
    require_at_least,
    require_fractions,
    require_positive,
)

MAX_GRAD_ACCUM_STEPS = 10_000
"""batches of one optimizer step, which are in memory together"""


@dataclass(frozen=True)
class OptimConfig(Settings):
    """Optimizer, its schedule, and the weights it trains."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """adamw, or muon: Muon (Jordan et al., 2024) for the matrices of the layers, AdamW for the
    other weights. For training from scratch"""
    batch_size: int = 32
    """examples per batch and process; an example is a caption with its image, or an image with
    `data.captions_per_image` captions"""
    grad_accum_steps: int = 1
    """batches per optimizer step; the loss is the mean over all of their scored tokens, or pairs. A
    matcher compares the images and texts of one batch only, so that this is no substitute for a
    larger `batch_size`"""
    epochs: int = 5
    """passes over the training data"""
    max_steps: int = 0
    """number of optimizer steps, in place of `epochs` (0: set by `epochs`)"""
    lr: float = 1e-5
    """peak learning rate"""
    muon_lr: float = 0.02
    """peak learning rate of Muon; warm-up and schedule are those of `lr`: in each step, both rates
    are the same fraction of their peaks"""
    min_lr: float = 0.0
    """final learning rate"""
    warmup_steps: int = 0
    """steps of linear warm-up"""
    schedule: Literal["cosine", "cosine_epoch", "constant"] = "cosine"
    """cosine per step, cosine per epoch (as in BLIP's code), or constant"""
    weight_decay: float = 0.05
    """weight decay: each step multiplies the weights by 1 - learning rate x this"""
    decay_biases_and_norms: bool = True
    """apply weight decay to all weights, as BLIP's code does; off: to matrices only"""
    layer_decay: float = 1.0
    """learning rate of each layer, as a fraction of that of the layer above it (1: the same)"""
    freeze: tuple[str, ...] = ()
    """patterns of weights to freeze: `vision.*` for the whole vision encoder"""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW betas"""
    clip_norm: float = 0.0
    """maximum gradient norm (0: no clipping)"""
    ema_decay: float = 0.0
    """evaluate and save an exponential moving average of the weights (0: off)"""

    @property
    def lr_names(self) -> str:
        """Return the names of the learning rates, as messages have them."""
        return "`optim.lr` and `optim.muon_lr`" if self.optimizer == "muon" else "`optim.lr`"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "batch_size", maximum=MAX_BATCH_SIZE)
        require_at_least(self, 1, "grad_accum_steps", maximum=MAX_GRAD_ACCUM_STEPS)
        require_at_least(self, 1, "epochs")
        require_at_least(self, 0, "max_steps", "warmup_steps")
        require_at_least(self, 0, "min_lr", "weight_decay", "clip_norm")
        require_fractions(self, "ema_decay")
        require_positive(self, "layer_decay", maximum=1)
        require_positive(self, "lr", "muon_lr")
        require(
            self.optimizer == "muon" or self.muon_lr == type(self).muon_lr,
            "`optim.muon_lr` needs `optim.optimizer: muon`: set it, or remove `optim.muon_lr`",
        )
        if not 0 <= min(self.betas) <= max(self.betas) < 1:
            reject(self, "betas", f"must both be in [0, 1), not {self.betas}")


@dataclass(frozen=True)
class LoraConfig(Settings):
    """LoRA (Hu et al., 2021): train only a low-rank update of chosen projections."""

    rank: int = 0
    """rank of the update (0: no LoRA)"""
    alpha: float = 0.0
    """scaling numerator: the update is multiplied by alpha / rank (0: by 1)"""
    dropout: float = 0.0
    """dropout on the LoRA input"""
    targets: tuple[str, ...] = ("*.qkv", "*.q", "*.kv", "*.proj")
    """patterns of projections: `*.qkv *.q *.kv *.proj` for all attentions, `*.fc1 *.fc2` for the
    MLPs, `text.*` for the text decoder"""

    @property
    def scale(self) -> float:
        """Return the scale of the update: alpha / rank, or 1 if alpha is 0."""
        return self.alpha / self.rank if self.alpha else 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "rank", maximum=MAX_WIDTH)
        require_at_least(self, 0, "alpha")
        require_fractions(self, "dropout")
        if not self.targets:
            reject(self, "targets", "is empty: name at least one projection")


@dataclass(frozen=True)
class MemoryConfig(Settings):
    """Activation checkpointing: recompute activations in the backward pass to save memory."""

    vit_grad_ckpt: bool = False
    """recompute the activations of the last `vit_ckpt_layer` vision blocks"""
    vit_ckpt_layer: int = 0
    """number of vision blocks to recompute, counted from the last"""
    text_grad_ckpt: bool = False
    """recompute the activations of the text layers"""
    selective_checkpointing: bool = True
    """in all other layers, recompute norms, activation functions and additions: about a tenth less
    memory, no measurable time"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "vit_ckpt_layer", maximum=MAX_DEPTH)
        require(
            not self.vit_grad_ckpt or self.vit_ckpt_layer > 0,
            "`memory.vit_grad_ckpt` is on but `memory.vit_ckpt_layer` is 0: "
            "set the number of vision blocks to recompute",
        )


@dataclass(frozen=True)
class DistributedConfig(Settings):
    """Distributed training: how the processes of `torchrun` share a model."""

    fsdp: bool = False
    """shard weights, gradients and optimizer state (FSDP2) instead of replicating them (DDP)"""
