"""Which weights learn, how fast, and which of them decay."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from cutline.config import CaptionConfig, LoraConfig, OptimConfig
from cutline.errors import ConfigError
from cutline.model import CaptionModel
from cutline.model.lora import add_lora


def choose_weights(model: CaptionModel, optim: OptimConfig, lora: LoraConfig) -> None:
    """Freeze what `optim` freezes, and add what it adapts with LoRA. Raises ConfigError for a pattern that matches nothing."""
    if lora.rank:
        add_lora(model, lora.targets, lora.rank, lora.scale, lora.dropout)
    freeze(model, optim.freeze)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ConfigError(f"`optim.freeze` {', '.join(optim.freeze)} leaves no weight to learn")


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the weights whose names match one of `patterns`, such as "vision.*". Raises ConfigError where none does."""
    for pattern in patterns:
        matching = [
            weight for name, weight in model.named_parameters() if fnmatchcase(name, pattern)
        ]
        if not matching:
            raise ConfigError(
                f"`optim.freeze`: no weight is called {pattern!r}; try 'vision.*', 'text.*' or 'text.layers.0.*'"
            )
        for weight in matching:
            weight.requires_grad_(False)


def make_optimizer(
    model: nn.Module, config: CaptionConfig, optim: OptimConfig
) -> torch.optim.AdamW:
    """AdamW over the weights that learn, in groups of equal `lr_scale` and weight decay."""
    groups = defaultdict(list)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            decays = optim.decay_biases_and_norms or weight.dim() > 1
            groups[
                lr_scale(name, config, optim.layer_decay), optim.weight_decay if decays else 0.0
            ].append(weight)
    settings = [
        {"params": weights, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), weights in groups.items()
    ]
    return torch.optim.AdamW(settings, lr=optim.lr, betas=optim.betas, fused=True)


def lr_scale(name: str, config: CaptionConfig, decay: float) -> float:
    """What the learning rate of a weight is multiplied by: `decay` once for each layer between it and its side's end.

    Layer-wise decay as in BEiT (Bao et al., 2021): embeddings are below the first layer; the vision side's last norm and the LM head
    are above the last. Vision and text side are counted each by itself.
    """
    depth = (config.vision if name.startswith("vision.") else config.text).depth
    if layer := re.search(r"\.(?:blocks|layers)\.(\d+)\.", name):
        return decay ** (depth - int(layer[1]))
    top = name.startswith(("vision.norm.", "text.lm_head."))
    return 1.0 if top else float(decay ** (depth + 1))


def lr_at(step: int, total_steps: int, steps_per_epoch: int, optim: OptimConfig) -> float:
    """The learning rate of optimiser step `step`, counted from 0, of `total_steps`.

    A linear warm-up, then a half cosine from `lr` to `min_lr` (Loshchilov & Hutter, 2017), stepped at every step or, as
    BLIP's `cosine_lr_schedule` does, once per epoch.
    """
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    if optim.schedule == "constant":
        return optim.lr
    if optim.schedule == "cosine_epoch":
        done = (step // steps_per_epoch) / math.ceil(total_steps / steps_per_epoch)
    else:
        done = (step - optim.warmup_steps) / max(1, total_steps - optim.warmup_steps)
    return optim.min_lr + (optim.lr - optim.min_lr) * 0.5 * (1 + math.cos(math.pi * done))
