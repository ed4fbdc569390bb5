"""Multi-head attention: self-attention, and cross-attention from text to an image.

Shapes: B images, R text rows (R = B * K, K rows per image), T text tokens, N visual tokens,
D width, H heads, d = D / H dimensions per head, S keys.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import scaled_dot_product_attention

from cutline.model.cache import CacheLayer, KeysValues
from cutline.model.token_merging import split_sizes

MAX_SAVED_KEYS = 320
"""keys up to which training may save the attention weights"""

Attend = Callable[[Tensor, Tensor, Tensor, float, Tensor | None, bool], Tensor]
"""`attend`, or a function that an engine puts in its place"""


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Split the width into heads: (R, T, D) -> (R, H, T, d)."""
    heads: Tensor = x.unflatten(-1, (num_heads, -1))
    return heads.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Concatenate the heads: (R, H, T, d) -> (R, T, D)."""
    return x.transpose(1, 2).flatten(2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout: float = 0.0,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Compute scaled dot-product attention in the dtype of the keys.

    Args:
        q: (R, H, T, d).
        k: (R, H, S, d), possibly of lower precision than `q`.
        v: (R, H, S, d), in the dtype of `k`.
        dropout: Probability of dropping an attention weight.
        mask: Broadcast to (R, H, T, S): boolean, true where a query may attend, or what is added
            to the scores.
        causal: Whether a query attends only to keys up to its own position.

    Returns:
        (R, H, T, d), in the dtype of `q`.
    """
    if _trains_faster_unfused(k):
        return attend_unfused(q, k, v, dropout, mask, causal)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(k.dtype)
    out = scaled_dot_product_attention(
        q.to(k.dtype), k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal
    )
    return out.to(q.dtype)


def attend_unfused(
    q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None, causal: bool
) -> Tensor:
    """Compute `attend` by unfused attention: matrix multiplications and a softmax."""
    scores = (q.to(k.dtype) * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (R, H, T, S)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        is_bool = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, -torch.inf) if is_bool else scores + mask.to(k.dtype)
    weights = scores.softmax(-1).to(v.dtype)
    out = (F.dropout(weights, dropout) if dropout else weights) @ v
    return out.to(q.dtype)


def _trains_faster_unfused(k: Tensor) -> bool:
    """Return whether training with keys `k` is faster by unfused attention.

    In bf16 on a CPU, fused attention takes 1.8 to 5.7 times as long, forward and backward; see
    benchmarks/LOG.md. Many keys are an exception, because unfused attention saves the attention
    weights, which would take too much memory.
    """
    is_bf16_on_cpu = k.dtype == torch.bfloat16 and k.device.type == "cpu"
    return is_bf16_on_cpu and torch.is_grad_enabled() and k.shape[2] <= MAX_SAVED_KEYS


def attend_to_tokens(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Compute `attend` for keys and values of tokens, so that no row depends on the others.

    In bf16 on a CPU, a fused kernel rounds partial sums, and where these end depends on padding and
    on unused positions of a cache, which depend on the other rows. In float64 the order of a sum
    does not change the result once it is rounded to bf16; keys are few, so that this costs little.
    """
    if k.dtype != torch.bfloat16 or k.device.type != "cpu":
        return attend(q, k, v, mask=mask)
    scores = (q.double() * q.shape[-1] ** -0.5) @ k.double().transpose(-1, -2)  # (R, H, T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    out: Tensor = scores.softmax(-1) @ v.double()
    return out.to(q.dtype)


class SelfAttention(nn.Module):
    """Self-attention with one fused projection for queries, keys and values."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.attend: Attend = attend
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: CacheLayer | None = None,
    ) -> Tensor:
        """Attend from each token of `x` to the tokens of the same row.

        Args:
            x: (R, T, D).
            mask: (R, 1, T, S), true where a query may attend.
            causal: Whether a token attends only to itself and earlier tokens.
            cache: Stores the new keys and values; the S keys are then all its entries.

        Returns:
            (R, T, D).
        """
        q, k, v = self._project(x)
        if cache is not None:
            k, v = cache.append(k, v)  # (R, H, S, d)
        if self.training or (mask is None and cache is None):
            attended = self.attend(q, k, v, self.dropout if self.training else 0.0, mask, causal)
        else:
            attended = attend_to_tokens(q, k, v, mask)
        out: Tensor = self.proj(merge_heads(attended))
        return out

    def forward_with_keys(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attend from each token of `x` to all of the same row, and return their keys too.

        Args:
            x: (R, T, D).
            bias: (R, 1, 1, T), added to the scores.

        Returns:
            (R, T, D), and the keys (R, H, T, d).
        """
        q, k, v = self._project(x)
        attended = self.attend(q, k, v, self.dropout if self.training else 0.0, bias, False)
        return self.proj(merge_heads(attended)), k

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of x (R, T, D), (R, H, T, d) each."""
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        return q, k, v


class CrossAttention(nn.Module):
    """Attention from text to an image.

    All rows of an image are queries against one set of keys and values, so that nothing of the
    image is copied per row.
    """

    def __init__(self, dim: int, image_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.image_dim = image_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.attend: Attend = attend
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(image_dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def project_image(self, image_embeds: Tensor) -> KeysValues:
        """Project image_embeds (B, N, D_vision) into keys and values, (B, H, N, d) each.

        A last channel of sizes becomes their bias; see `token_merging`.
        """
        image_embeds, bias = split_sizes(image_embeds, self.image_dim)
        k, v = self.kv(image_embeds).chunk(2, dim=-1)
        return KeysValues(split_heads(k, self.num_heads), split_heads(v, self.num_heads), bias)

    def forward(self, x: Tensor, image_kv: KeysValues) -> Tensor:
        """Attend from x (R, T, D) to image_kv (B, H, N, d); row r belongs to image r // K."""
        k, v, bias = image_kv
        rows = x.flatten(0, 1).unflatten(0, (k.shape[0], -1))  # (B, K * T, D)
        q = split_heads(self.q(rows), self.num_heads)  # (B, H, K * T, d)
        attended = self.attend(q, k, v, self.dropout if self.training else 0.0, bias, False)
        out: Tensor = self.proj(merge_heads(attended))  # (B, K * T, D)
        return out.view(x.shape)

    def weigh(self, x: Tensor, image_kv: KeysValues) -> Tensor:
        """Return the attention weights that `forward` uses, in fp32 and summing to 1 over N.

        Args:
            x: (B, T, D), one row per image.
            image_kv: As for `forward`.

        Returns:
            (B, H, T, N).
        """
        q, k = split_heads(self.q(x), self.num_heads), image_kv.keys
        scores = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)
        if image_kv.bias is not None:
            scores = scores + image_kv.bias
        weights: Tensor = scores.softmax(-1)
        return weights

    def mix(self, weights: Tensor, image_kv: KeysValues, dtype: torch.dtype) -> Tensor:
        """Return what `forward` does, (B, T, D), given the attention weights (B, H, T, N)."""
        attended = (weights @ image_kv.values.float()).to(dtype)
        out: Tensor = self.proj(merge_heads(attended))
        return out


def make_text_mask(valid: Tensor, causal: bool) -> Tensor:
    """Make the attention mask of texts padded on the right.

    Args:
        valid: (R, T), true at tokens, false at padding.
        causal: Whether a token attends only to itself and earlier tokens.

    Returns:
        (R, 1, T, T) if causal, else (R, 1, 1, T); true where a token may attend.
    """
    mask = valid[:, None]  # (R, 1, T)
    if causal:
        position = torch.arange(valid.shape[1], device=valid.device)
        mask = mask & (position <= position[:, None])  # (R, T, T)
    return mask[:, None]
