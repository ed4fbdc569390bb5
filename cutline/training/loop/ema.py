"""An exponential moving average of the weights that learn."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cutline.training.loop.parallel import local


def init_ema(model: nn.Module) -> dict[str, Tensor]:
    """The average before the first step: copies of the weights that learn, by name."""
    return {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@torch.no_grad()
def update_ema(average: Mapping[str, Tensor], model: nn.Module, step: int, decay: float) -> None:
    """Move `average` towards the weights of `model` after step number `step`, with a decay that grows to `decay` over the first steps.

    Polyak & Juditsky, 1992; the growth, (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    weights = dict(model.named_parameters())
    torch._foreach_lerp_(
        [local(mean) for mean in average.values()],
        [local(weights[name]) for name in average],
        weight,
    )
