"""What a decoding step remembers: keys and values of the pictures, once each, and of the tokens so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class CacheLayer:
    """One layer's view of a TextCache, for the duration of a step."""

    image_kv: tuple[Tensor, Tensor]  # (B, H, N, d) each
    slots: Tensor  # (2, B, K, H, S_max, d)
    start: int

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' k and v, (B * K, H, T, d), and return those of all tokens so far, (B * K, H, S, d)."""
        keys, values = self.slots.flatten(1, 2)  # views, (B * K, H, S_max, d)
        stop = self.start + k.shape[2]
        keys[:, :, self.start : stop] = k
        values[:, :, self.start : stop] = v
        return keys[:, :, :stop], values[:, :, :stop]


class TextCache:
    """Keys and values of B pictures, shared by their K beams, and of each beam's own tokens.

    Shapes: L layers, S_max tokens at most. Prompts of different lengths are padded on the left, so that all rows
    grow at the same slot.

    image_kv: per layer, keys and values of the pictures, (B, H, N, d) each
    slots:    keys and values of the tokens, (L, 2, B, K, H, S_max, d)
    valid:    (B, S_max), false at the padding on the left, or None without padding
    length:   tokens so far, padding included
    """

    def __init__(self, image_kv: list[tuple[Tensor, Tensor]], max_tokens: int, valid: Tensor | None = None) -> None:
        """valid: (B, T) of the prompts, or None when none is padded; max_tokens: S_max."""
        k = image_kv[0][0]  # (B, H, N, d)
        images, heads, _, width = k.shape
        self.image_kv = image_kv
        self.slots = k.new_zeros(len(image_kv), 2, images, 1, heads, max_tokens, width)
        self.length = 0
        self.valid = None
        if valid is not None:
            self.valid = torch.ones(images, max_tokens, dtype=torch.bool, device=k.device)
            self.valid[:, : valid.shape[1]] = valid

    def layers(self) -> list[CacheLayer]:
        """One view per layer for the coming step."""
        return [CacheLayer(kv, slots, self.length) for kv, slots in zip(self.image_kv, self.slots, strict=True)]

    def reorder(self, beams: Tensor) -> None:
        """Let beam k of picture b go on from its former beam `beams[b, k]`; beams: (B, K), any K."""
        rows = torch.arange(len(beams), device=beams.device)[:, None]
        moved = self.slots.new_empty(*self.slots.shape[:3], beams.shape[1], *self.slots.shape[4:])
        moved[..., : self.length, :] = self.slots[:, :, rows, beams, :, : self.length]
        self.slots = moved

    def select(self, images: Tensor) -> None:
        """Keep only the pictures `images`, (B',), in that order."""
        self.slots = self.slots[:, :, images]
        self.image_kv = [(k[images], v[images]) for k, v in self.image_kv]
        self.valid = None if self.valid is None else self.valid[images]
