"""The key/value cache of decoding: each image is stored once, each token is written once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

NO_BEAM = -1  # in `ancestry`: no token at this position


class KeysValues(NamedTuple):
    """Keys and values of images in one layer."""

    keys: Tensor
    """(B, H, N, d)"""
    values: Tensor
    """(B, H, N, d)"""
    bias: Tensor | None = None
    """(B, 1, 1, N), added to the scores of merged tokens for their sizes"""


@dataclass
class CacheLayer:
    """One layer's view of a `TextCache`, for a step of B images with Q = K * T new tokens each."""

    image_kv: KeysValues
    """keys and values of the images"""
    token_kv: tuple[Tensor, Tensor]
    """keys and values of the tokens, (B, H, P * K', d) each"""
    write_index: Tensor
    """(Q,) where the new tokens go among the P * K' entries"""

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v of the new tokens, (B, H, Q, d), and return all, (B, H, P * K', d) each."""
        for stored, new in zip(self.token_kv, (k, v), strict=True):
            stored.index_copy_(2, self.write_index, new.to(stored.dtype))
        return self.token_kv


class TextCache:
    """Keys and values of images, shared by their K beams, and of the tokens of each beam.

    Keys and values of a token are written once, at the ring position of their step and in the
    column of the beam that wrote them, and never move. The table `ancestry` (TensorRT-LLM calls
    it cache indirection) says in which column each beam finds its earlier tokens. Reordering beams
    therefore changes this small table only, and all beams of an image are queries against one set
    of keys.

    All images write at the same ring position, whatever the length of their captions, so that
    images can join while others are being captioned. A position is written again after P more
    tokens; by then it holds only padding, or tokens of captions that have ended, since no caption
    has more than P tokens. Everything that a step changes is a tensor of fixed size, so that a step
    can be recorded as a CUDA graph.

    Shapes: L layers, C slots for images, of which the first `num_images` are in use, P positions
    of the ring, K beams of a step, K' columns (the most beams so far).

    Attributes:
        image_kv: Keys and values of the images, (L, 2, C, H, N, d).
        image_bias: Their bias, (C, 1, 1, N), for all layers; None without merged tokens.
        token_kv: Keys and values of the tokens, (L, 2, C, H, P, K', d).
        ancestry: (C, K', P), the beam that wrote the token of each beam at each position, or
            NO_BEAM.
        lengths: (C,), tokens so far, without padding.
        write_position: (), the ring position of the next token.
    """

    def __init__(
        self,
        image_kv: Tensor,
        max_tokens: int,
        num_images: int = 0,
        prompt_mask: Tensor | None = None,
        image_bias: Tensor | None = None,
    ) -> None:
        """Make a cache without tokens.

        Args:
            image_kv: (L, 2, C, H, N, d); its first `num_images` slots are filled.
            max_tokens: P, the longest caption, prompt included.
            num_images: Number of images in `image_kv`.
            prompt_mask: (B, T), false at the padding of the prompts that the first step reads.
            image_bias: (C, 1, 1, N), filled as `image_kv` is; None without merged tokens.
        """
        num_layers, _, slots, num_heads, _, head_dim = image_kv.shape
        device = image_kv.device
        self.image_kv, self.num_images, self.prompt_mask = image_kv, num_images, prompt_mask
        self.image_bias = image_bias
        self.token_kv = image_kv.new_zeros(num_layers, 2, slots, num_heads, max_tokens, 1, head_dim)
        self.ancestry = torch.full((slots, 1, max_tokens), NO_BEAM, device=device)
        self.lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.write_position = torch.zeros((), dtype=torch.long, device=device)

    @property
    def slots(self) -> int:
        """Return C, the number of images that fit into the cache."""
        return self.image_kv.shape[2]

    def reserve(self, num_images: int) -> tuple[Tensor, Tensor | None]:
        """Return the slots of the next images, views of `image_kv` and `image_bias`.

        They count as in use only after `extend`.

        Raises:
            ValueError: The cache has fewer free slots.
        """
        end = self.num_images + num_images
        if end > self.slots:
            raise ValueError(f"{end} images do not fit into {self.slots} slots")
        slots = slice(self.num_images, end)
        bias = None if self.image_bias is None else self.image_bias[slots]
        return self.image_kv[:, :, slots], bias

    def advance(
        self, num_images: int, num_beams: int, num_tokens: int
    ) -> tuple[list[CacheLayer], Tensor, Tensor]:
        """Make room for T = `num_tokens` new tokens of K beams of the first B images.

        Returns:
            A view of each layer; the position ids of the new tokens, (B, K, T); and their attention
            mask, (B, 1, K * T, P * K'), where K' >= K is the number of columns.
        """
        max_beams, num_positions = self.ancestry.shape[1:]
        new_tokens = torch.arange(num_tokens, device=self.ancestry.device)
        beam = torch.arange(max_beams, device=self.ancestry.device)
        write_positions = (self.write_position + new_tokens) % num_positions  # (T,)
        valid = self.prompt_mask  # (B, T)
        if valid is None:
            shape = (num_images, num_tokens)
            valid = torch.ones(shape, dtype=torch.bool, device=self.ancestry.device)
        self.prompt_mask = None  # only the first step reads the prompts

        # Each beam is its own ancestor at the new positions; padding is no beam's ancestor.
        # Position p and beam k become entry p * K' + k where a layer's view joins both dimensions.
        own_column = beam[:, None].where(valid[:, None], NO_BEAM)  # (B, K', T)
        self.ancestry[:num_images].index_copy_(2, write_positions, own_column)
        write_index = (write_positions * max_beams + beam[:num_beams, None]).flatten()  # (K * T,)
        mask = self._attention_mask(num_images, num_beams, write_positions)

        position_ids = self.lengths[:num_images, None] + valid.cumsum(1) - 1  # (B, T)
        # Padding would come before position 0. Slots that are not in use, which a CUDA graph runs
        # too, may count past the last one. Both must still index an embedding.
        position_ids = position_ids.clamp(0, num_positions - 1)[:, None].expand(-1, num_beams, -1)
        self.write_position.copy_((self.write_position + num_tokens) % num_positions)
        self.lengths[:num_images] += valid.sum(1)
        return self._view_layers(num_images, write_index), position_ids, mask

    def _attention_mask(self, num_images: int, num_beams: int, write_positions: Tensor) -> Tensor:
        """Build the mask of the new tokens at these ring positions, (B, 1, K * T, P * K').

        New token t of beam b may attend to the entry at position p in column k where

        - k is the beam that wrote the token of b at p, that is ancestry[b, p] == k, and
        - the entry is old, or a new token that is not after t.

        Every new token also attends to itself. This matters for padding only, which has no
        ancestor: the softmax over an empty set of keys would be NaN.
        """
        device = self.ancestry.device
        max_beams, num_positions = self.ancestry.shape[1:]
        new_tokens = torch.arange(len(write_positions), device=device)
        beam = torch.arange(max_beams, device=device)
        # The index of the new token at each position, and -1 for an old one, so that "not after t"
        # is a single comparison.
        new_at = torch.full((num_positions,), -1, device=device).index_copy_(
            0, write_positions, new_tokens
        )  # (P,)
        is_ancestor = self.ancestry[:num_images, :num_beams, None, :, None] == beam
        not_after = (new_at <= new_tokens[:, None])[..., None]  # (T, P, 1)
        own_column = beam[:num_beams, None, None, None] == beam  # (K, 1, 1, K')
        itself = (new_at == new_tokens[:, None])[..., None] & own_column  # (K, T, P, K')
        mask = (is_ancestor & not_after) | itself  # (B, K, T, P, K')
        return mask.flatten(3, 4).flatten(1, 2)[:, None]

    def _view_layers(self, num_images: int, write_index: Tensor) -> list[CacheLayer]:
        image_kv = self.image_kv[:, :, :num_images]  # (L, 2, B, H, N, d)
        bias = None if self.image_bias is None else self.image_bias[:num_images]
        token_kv = self.token_kv[:, :, :num_images].flatten(4, 5)  # (L, 2, B, H, P * K', d)
        return [
            CacheLayer(KeysValues(image[0], image[1], bias), (token[0], token[1]), write_index)
            for image, token in zip(image_kv, token_kv, strict=True)
        ]

    def reorder(self, beams: Tensor) -> None:
        """Let beam k of image b continue its previous beam `beams[b, k]`; beams: (B, K), any K."""
        num_images, num_beams = beams.shape
        index = beams[..., None].expand(-1, -1, self.ancestry.shape[2])  # (B, K, P)
        ancestry = self.ancestry[:num_images].gather(1, index)
        self._widen(num_beams)
        self.ancestry[:num_images, :num_beams] = ancestry

    def resize(self, max_tokens: int, num_beams: int, exact: bool = False) -> None:
        """Make room for captions of `max_tokens` tokens, prompt included, with `num_beams` beams.

        Captions in the cache must fit. Attention reads all positions and columns, so a cache of
        more than four times the size needed shrinks.

        Args:
            max_tokens: The longest caption, prompt included.
            num_beams: The largest number of beams.
            exact: Whether a cache that is larger shrinks in any case; on a CPU only.
        """
        max_beams, num_positions = self.ancestry.shape[1:]
        # On a GPU, any other size makes the graph of a step be captured again.
        exact = exact and self.ancestry.device.type == "cpu"
        if exact or max_beams * num_positions > 4 * num_beams * max_tokens:
            size = num_beams, max_tokens
        else:
            size = max(num_beams, max_beams), max(max_tokens, num_positions)
        if size == (max_beams, num_positions):
            return
        # The newest tokens move to the end of the ring, so that the next one goes to its start.
        steps_ago = torch.arange(-min(size[1], num_positions), 0, device=self.ancestry.device)
        source = (self.write_position + steps_ago) % num_positions
        columns = min(size[0], max_beams)
        ancestry = self.ancestry.new_full((self.slots, *size), NO_BEAM)
        ancestry[:, :columns, steps_ago] = self.ancestry[:, :columns, source]
        layers, two, slots, heads, _, _, head_dim = self.token_kv.shape
        token_kv = self.token_kv.new_zeros(layers, two, slots, heads, size[1], size[0], head_dim)
        used = slice(0, self.num_images)
        token_kv[:, :, used, :, steps_ago, :columns] = self.token_kv[
            :, :, used, :, source, :columns
        ]
        self.ancestry, self.token_kv = ancestry, token_kv
        self.write_position.zero_()

    def _widen(self, num_beams: int) -> None:
        """Add columns until there are `num_beams`."""
        more = num_beams - self.ancestry.shape[1]
        if more > 0:  # pad() counts dimensions from the last one: none after d or P, then columns
            self.token_kv = torch.nn.functional.pad(self.token_kv, (0, 0, 0, more))
            self.ancestry = torch.nn.functional.pad(self.ancestry, (0, 0, 0, more), value=NO_BEAM)

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order; those that keep their slot stay."""
        num_images = len(images)
        slots = torch.arange(num_images, device=images.device)
        moved = torch.nonzero(images != slots)[:, 0]
        if len(moved):
            source = images[moved]
            self.ancestry[moved], self.lengths[moved] = self.ancestry[source], self.lengths[source]
            self.token_kv[:, :, moved] = self.token_kv[:, :, source]
            self.image_kv[:, :, moved] = self.image_kv[:, :, source]
            if self.image_bias is not None:
                self.image_bias[moved] = self.image_bias[source]
        self.num_images = num_images
        if not num_images:  # so that a cache that is used again gives bit-identical results
            self.write_position.zero_()

    def extend(self, other: TextCache) -> None:
        """Append the images of `other`; this cache must have room for their captions, see `resize`.

        Raises:
            ValueError: The cache has too few free slots.
        """
        image_kv, bias = self.reserve(other.num_images)
        if image_kv.data_ptr() != other.image_kv.data_ptr():  # else `other` was made in this cache
            image_kv.copy_(other.image_kv[:, :, : other.num_images])
            if bias is not None and other.image_bias is not None:
                bias.copy_(other.image_bias[: other.num_images])
        num_beams, num_positions = other.ancestry.shape[1:]
        self._widen(num_beams)

        # The rings and their write positions may differ: what `other` wrote n steps ago goes to the
        # position that this cache wrote n steps ago.
        new_images = slice(self.num_images, self.num_images + other.num_images)
        count = min(num_positions, self.ancestry.shape[2])
        steps_ago = torch.arange(-count, 0, device=self.ancestry.device)
        positions = (self.write_position + steps_ago) % self.ancestry.shape[2]  # (P,)
        other_positions = (other.write_position + steps_ago) % num_positions
        ancestry = other.ancestry[: other.num_images, :, other_positions]
        tokens = other.token_kv[:, :, : other.num_images, :, other_positions]
        self.lengths[new_images] = other.lengths[: other.num_images]
        self.ancestry[new_images] = NO_BEAM
        # A NaN that an earlier image left would pass the mask, since 0 * NaN is NaN.
        self.token_kv[:, :, new_images] = 0
        self.ancestry[new_images, :num_beams, positions] = ancestry
        self.token_kv[:, :, new_images, :, positions, :num_beams] = tokens
        self.num_images += other.num_images
