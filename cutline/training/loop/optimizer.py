"""The optimizer: which weights are trained, at which learning rate, with which weight decay."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from cutline.config import CaptionConfig, LoraConfig, MatchConfig, OptimConfig
from cutline.errors import ConfigError
from cutline.messages import format_value
from cutline.model import VisionTextModel
from cutline.model.lora import add_lora
from cutline.training.loop.muon import Muon

_LAYER = re.compile(r"\.(?:blocks|layers)\.(\d+)\.")


def select_weights(model: VisionTextModel, optim: OptimConfig, lora: LoraConfig) -> None:
    """Add LoRA to `model`, and freeze what is not trained.

    Raises:
        ConfigError: A pattern matches nothing, or all weights are frozen.
    """
    if lora.rank:
        add_lora(model, lora.targets, lora.rank, lora.scale, lora.dropout)
        for name, weight in model.named_parameters():  # a matcher's heads: new, and small
            if not name.startswith(("vision.", "text.")):
                weight.requires_grad_(True)
    freeze(model, optim.freeze)
    if not any(weight.requires_grad for weight in model.parameters()):
        patterns = ", ".join(optim.freeze)
        raise ConfigError(f"`optim.freeze` {patterns} freezes all weights: leave some to train")


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the weights whose names match one of `patterns`, such as "vision.*".

    Raises:
        ConfigError: A pattern matches no weight.
    """
    for pattern in patterns:
        matches = [w for name, w in model.named_parameters() if fnmatchcase(name, pattern)]
        if not matches:
            raise ConfigError(
                f"`optim.freeze`: no weight matches {format_value(pattern)}; "
                "try 'vision.*', 'text.*' or 'text.layers.0.*'"
            )
        for weight in matches:
            weight.requires_grad_(False)


def make_optimizer(
    model: nn.Module, config: CaptionConfig | MatchConfig, optim: OptimConfig, bf16: bool = False
) -> torch.optim.AdamW:
    """Make the optimizer of the trained weights, in groups of equal `lr_scale` and weight decay.

    Args:
        model: The model.
        config: Its settings.
        optim: Settings of the optimizer.
        bf16: Whether Muon may multiply in bf16.
    """
    groups = defaultdict(list)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            muon = optim.optimizer == "muon" and is_layer_matrix(name, weight)
            scale = compute_lr_scale(name, config, optim.layer_decay)
            if muon:
                scale *= optim.muon_lr / optim.lr
            decays = optim.decay_biases_and_norms or weight.dim() > 1
            groups[scale, optim.weight_decay if decays else 0.0, muon].append(weight)
    settings = [
        {"params": weights, "lr_scale": scale, "weight_decay": decay, "muon": muon}
        for (scale, decay, muon), weights in groups.items()
    ]
    first, second = map(float, optim.betas)
    if optim.optimizer == "muon":
        return Muon(settings, optim.lr, (first, second), torch.bfloat16 if bf16 else torch.float32)
    return torch.optim.AdamW(settings, lr=optim.lr, betas=(first, second), fused=True)


def is_layer_matrix(name: str, weight: Tensor) -> bool:
    """Return whether a weight is a matrix of a block or a layer, which Muon trains."""
    return weight.dim() == 2 and _LAYER.search(name) is not None


def compute_lr_scale(name: str, config: CaptionConfig | MatchConfig, layer_decay: float) -> float:
    """Return the factor of a weight's learning rate, by layer-wise decay (BEiT, Bao et al., 2021).

    It is `layer_decay` raised to the number of layers above the weight. Vision encoder and text
    decoder are counted separately: embeddings are below the first layer, and the encoder's final
    norm, the LM head and the weights of neither are above the last.
    """
    depth = (config.vision if name.startswith("vision.") else config.text).depth
    if layer := _LAYER.search(name):
        return layer_decay ** (depth - int(layer[1]))
    is_top = name.startswith(("vision.norm.", "text.lm_head.")) or not name.startswith(
        ("vision.", "text.")
    )
    return 1.0 if is_top else float(layer_decay ** (depth + 1))


def compute_lr(step: int, total_steps: int, steps_per_epoch: int, optim: OptimConfig) -> float:
    """Return the learning rate of one optimizer step.

    After a linear warm-up it falls along a half cosine from `lr` to `min_lr` (Loshchilov & Hutter,
    2017), at every step or, as in BLIP's `cosine_lr_schedule`, once per epoch.

    Args:
        step: Number of the step, from 0.
        total_steps: Steps of the run.
        steps_per_epoch: Steps of an epoch.
        optim: Schedule and learning rates.
    """
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    if optim.schedule == "constant":
        return optim.lr
    if optim.schedule == "cosine_epoch":
        progress = (step // steps_per_epoch) / math.ceil(total_steps / steps_per_epoch)
    else:
        progress = (step - optim.warmup_steps) / max(1, total_steps - optim.warmup_steps)
    return optim.min_lr + (optim.lr - optim.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
