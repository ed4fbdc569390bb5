"""The learning rate."""

import math

from cutline.config import OptimConfig


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
