"""Activations that are computed again in the backward pass instead of being kept (Chen et al., 2016)."""

import functools
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

Recompute = Literal["nothing", "cheap", "all"]

_aten = torch.ops.aten
SAVED_OPS = {
    getattr(_aten, name).default
    for name in (
        "addmm",
        "mm",
        "bmm",
        "convolution",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
    )
}
"""operations whose results are kept: they take nearly all the time"""


def run_layer(layer: nn.Module, how: Recompute, *args: Any) -> Tensor:
    """Call `layer`, keeping what `how` says.

    cheap: the results of products and attention alone; norms, GELUs and sums cost little to compute again.
    all: nothing but what it is given.
    """
    if how == "nothing" or not (layer.training and torch.is_grad_enabled()):
        return layer(*args)  # type: ignore[no-any-return]
    context = (
        functools.partial(create_selective_checkpoint_contexts, _policy)
        if how == "cheap"
        else noop_context_fn
    )
    return checkpoint(layer, *args, use_reentrant=False, context_fn=context)  # type: ignore[no-any-return]


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return (
        CheckpointPolicy.MUST_SAVE if operation in SAVED_OPS else CheckpointPolicy.PREFER_RECOMPUTE
    )
