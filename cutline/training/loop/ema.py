"""Exponential moving average (EMA) of the trained weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cutline.training.loop.parallel import to_local


def init_ema(model: nn.Module) -> dict[str, Tensor]:
    """Return the average before the first step: a copy of each trained weight, by name."""
    return {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@torch.no_grad()
def update_ema(ema: Mapping[str, Tensor], model: nn.Module, step: int, decay: float) -> None:
    """Move the average towards the weights of the model (Polyak & Juditsky, 1992).

    During the first steps the decay is (1 + step) / (10 + step), as in TensorFlow's
    ExponentialMovingAverage, so that the random initial weights are forgotten.

    Args:
        ema: The average, changed in place.
        model: The model after its optimizer step.
        step: Number of that step, from 0.
        decay: Maximum decay.
    """
    rate = 1 - min(decay, (1 + step) / (10 + step))
    weights = dict(model.named_parameters())
    torch._foreach_lerp_(
        [to_local(average) for average in ema.values()],
        [to_local(weights[name]) for name in ema],
        rate,
    )
