"""Multi-head attention: of a sequence to itself, and of text to an image.

Shapes: B images, R rows of text (R = B * K, K rows per image), T text tokens, N visual tokens, D width,
H heads, d = D / H head width, S keys.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cutline.model.cache import CacheLayer

KeysValues = tuple[Tensor, Tensor]  # keys and values, (B, H, S, d) each


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(R, T, D) -> (R, H, T, d)."""
    heads: Tensor = x.unflatten(-1, (num_heads, -1))
    return heads.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(R, H, T, d) -> (R, T, D)."""
    return x.transpose(1, 2).flatten(2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout: float = 0.0,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """q (R, H, T, d), k and v (R, H, S, d), which may be kept in fewer bits -> (R, H, T, d)."""
    out = scaled_dot_product_attention(
        q.to(k.dtype), k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal
    )
    return out.to(q.dtype)


class SelfAttention(nn.Module):
    """Attention of a sequence to itself; queries, keys and values come from one product."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: CacheLayer | None = None,
    ) -> Tensor:
        """x (R, T, D); mask (R, 1, T, S), true where a query may look; with a cache, S are all its places."""
        q, k, v = (
            split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1)
        )  # (R, H, T, d)
        if cache is not None:
            k, v = cache.append(k, v)  # (R, H, S, d)
        dropout = self.dropout if self.training else 0.0
        return self.proj(merge_heads(attend(q, k, v, dropout, mask, causal)))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Attention of text to an image.

    All rows of an image are queries against one set of keys and values, so nothing of the image is copied per row.
    """

    def __init__(self, dim: int, image_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(image_dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def keys_values(self, image_embeds: Tensor) -> KeysValues:
        """Project an image, (B, N, D_vision), into keys and values (B, H, N, d)."""
        k, v = self.kv(image_embeds).chunk(2, dim=-1)
        return split_heads(k, self.num_heads), split_heads(v, self.num_heads)

    def forward(self, x: Tensor, image_kv: KeysValues) -> Tensor:
        """x (R, T, D) against image_kv (B, H, N, d); row r belongs to image r // K."""
        k, v = image_kv
        rows = x.flatten(0, 1).unflatten(0, (len(k), -1))  # (B, K * T, D)
        q = split_heads(self.q(rows), self.num_heads)  # (B, H, K * T, d)
        out = attend(q, k, v, self.dropout if self.training else 0.0)
        return self.proj(merge_heads(out)).view(x.shape)  # type: ignore[no-any-return]


def text_mask(valid: Tensor, causal: bool) -> Tensor:
    """Which tokens each token may look at, (R, 1, T or 1, T); valid: (R, T), true at tokens, false at the padding after them."""
    seen = valid[:, None]  # (R, 1, T)
    if causal:
        position = torch.arange(valid.shape[1], device=valid.device)
        seen = seen & (position <= position[:, None])  # (R, T, T)
    return seen[:, None]
