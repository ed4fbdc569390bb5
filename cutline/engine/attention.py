"""Unfused attention, for CPUs that multiply bf16 with AVX-512 but not with AMX.

It consists of matrix multiplications and a softmax. PyTorch's fused kernel takes 1.6 times as long
there for images, and twice as long for a few beams.
"""

import torch
from torch import Tensor, nn

from cutline.model.attention import CrossAttention, SelfAttention, attend_unfused

MAX_SCORES = 2**21
"""attention scores that are computed at once, so that they stay in the cache of the CPU"""


def replace_attention(module: nn.Module) -> None:
    """Make the attention layers of `module` compute unfused attention, in place."""
    for layer in module.modules():
        if isinstance(layer, SelfAttention | CrossAttention):
            layer.attend = attend_in_groups


def attend_in_groups(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout: float,
    mask: Tensor | None,
    causal: bool,
) -> Tensor:
    """Compute `attend`; where there are many scores, a few heads of one row at a time.

    Each row is computed alone then, so that it does not depend on the others.
    """
    rows, heads, queries, width = q.shape
    scores_per_head = queries * k.shape[2]
    if heads * scores_per_head <= MAX_SCORES:
        return attend_unfused(q, k, v, dropout, mask, causal)
    group = max(MAX_SCORES // scores_per_head, torch.get_num_threads())
    out = q.new_empty(rows, queries, heads, width).transpose(1, 2)
    for row in range(rows):
        row_mask = None if mask is None else mask[row : row + 1]
        for head in range(0, heads, group):
            part = (slice(row, row + 1), slice(head, head + group))
            out[part] = attend_unfused(q[part], k[part], v[part], dropout, row_mask, causal)
    return out
