"""Activation checkpointing: recompute activations in the backward pass to save memory.

Chen et al., 2016, arXiv 1604.06174. Policies: "none" saves all activations; "selective" saves the
results of matrix products, convolutions and attention, and recomputes norms, GELUs and additions,
which cost little; "full" saves only the inputs of a layer.
"""

from typing import Any, Literal

import torch
from torch import nn
from torch.utils import checkpoint as torch_checkpoint

CheckpointPolicy = Literal["none", "selective", "full"]

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
"""operations whose results are saved by "selective": they take nearly all the time"""


def run_layer(layer: nn.Module, policy: CheckpointPolicy, *args: Any) -> Any:
    """Call `layer` on `args` and save the activations that `policy` selects for the backward pass.

    Without gradients, or outside training, no policy applies.
    """
    if policy == "none" or not (layer.training and torch.is_grad_enabled()):
        return layer(*args)
    context = _selective_context if policy == "selective" else torch_checkpoint.noop_context_fn
    return torch_checkpoint.checkpoint(layer, *args, use_reentrant=False, context_fn=context)


def _selective_context() -> Any:
    return torch_checkpoint.create_selective_checkpoint_contexts(_choose_policy)


def _choose_policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
    policy = torch_checkpoint.CheckpointPolicy
    return policy.MUST_SAVE if operation in SAVED_OPS else policy.PREFER_RECOMPUTE
