"""What a decoding step remembers: keys and values of the images, once each, and of the tokens so far, written once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NONE = -1  # in a path: nothing at this slot


@dataclass
class CacheLayer:
    """One layer's view of a TextCache, for the duration of a step of B images."""

    image_kv: tuple[Tensor, Tensor]  # (B, H, N, d) each
    token_kv: tuple[Tensor, Tensor]  # (B, H, S * K, d) each
    places: Tensor  # (Q,) of the S * K places, where this step's tokens go

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' k and v, (B, H, Q, d), and return those of all places, (B, H, S * K, d)."""
        for kept, new in zip(self.token_kv, (k, v), strict=True):
            kept.index_copy_(2, self.places, new.to(kept.dtype))
        return self.token_kv


class TextCache:
    """Keys and values of images, shared by their K beams, and of each beam's tokens. Nothing moves when beams do.

    A token's keys and values stay where they were written: the slot of their step, at the beam that wrote them. `path`
    says where each beam finds its ancestors, so reordering beams changes this small table alone, and all beams of a
    image are queries against one set of keys. Slots are a ring: images that join later share its turn, whatever
    their length. Everything that changes is a tensor of a fixed size, so that a GPU can record a step once.

    Shapes: L layers, C places for images, of which the first `count` are taken, S slots, K beams at most.

    image_kv: keys and values of the images, (L, 2, C, H, N, d)
    token_kv: keys and values of the tokens, (L, 2, C, H, S, K, d)
    path:     which beam wrote the ancestor at a slot, (C, K, S), or NONE
    lengths:  tokens so far, (C,), padding left out
    turn:     the slot of the next step, ()
    """

    def __init__(
        self, image_kv: Tensor, max_tokens: int, count: int = 0, valid: Tensor | None = None
    ) -> None:
        """image_kv: (L, 2, C, H, N, d), of which `count` images are there; max_tokens: S; valid: (B, T) of the prompts to come."""
        depth, _, places, heads, _, width = image_kv.shape
        self.image_kv, self.count, self.valid = image_kv, count, valid
        self.token_kv = image_kv.new_zeros(depth, 2, places, heads, max_tokens, 1, width)
        self.path = torch.full((places, 1, max_tokens), NONE, device=image_kv.device)
        self.lengths = torch.zeros(places, dtype=torch.long, device=image_kv.device)
        self.turn = torch.zeros((), dtype=torch.long, device=image_kv.device)

    def room(self, images: int) -> Tensor:
        """Where the next `images` images go, (L, 2, images, H, N, d). Raises ValueError without room."""
        if self.count + images > self.places:
            raise ValueError(f"{self.count + images} images do not fit into {self.places} places")
        return self.image_kv[:, :, self.count : self.count + images]

    @property
    def places(self) -> int:
        """C, how many images there is room for."""
        return self.image_kv.shape[2]

    def advance(
        self, images: int, beams: int, tokens: int
    ) -> tuple[list[CacheLayer], Tensor, Tensor]:
        """Make room for the next `tokens` T of `beams` K beams of the first `images` B images.

        Returns a view per layer, the new tokens' positions (B, K, T), and the mask of what they see, (B, 1, K * T, S * K'),
        K' the beams that there is room for. Padding sees itself alone: a row that sees nothing would turn into NaN.
        """
        slots, width, device = self.path.shape[2], self.path.shape[1], self.path.device
        new = torch.arange(tokens, device=device)
        at = (self.turn + new) % slots  # (T,)
        beam = torch.arange(width, device=device)
        valid = (
            torch.ones(images, tokens, dtype=torch.bool, device=device)
            if self.valid is None
            else self.valid
        )
        self.valid = None
        self.path[:images].index_copy_(2, at, beam[:, None].where(valid[:, None], NONE))
        order = torch.full((slots,), NONE, device=device).index_copy_(
            0, at, new
        )  # among the new tokens; NONE: an older one
        seen = self.path[:images, :beams, None, :, None] == beam  # (B, K, 1, S, K')
        seen = seen & (order <= new[:, None])[..., None]  # (B, K, T, S, K')
        own = (order == new[:, None])[..., None] & (
            beam[:beams, None, None, None] == beam
        )  # (K, T, S, K')
        places = (at * width + beam[:beams, None]).flatten()  # (K * T,)
        positions = self.lengths[:images, None] + valid.cumsum(1) - 1  # (B, T)
        self.turn.copy_((self.turn + tokens) % slots)
        self.lengths[:images] += valid.sum(1)
        views = self.token_kv[:, :, :images].flatten(4, 5)  # (L, 2, B, H, S * K', d)
        layers = [
            CacheLayer((i[0], i[1]), (t[0], t[1]), places)
            for i, t in zip(self.image_kv[:, :, :images], views, strict=True)
        ]
        return (
            layers,
            positions.clamp(0, slots - 1)[:, None].expand(-1, beams, -1),
            (seen | own).flatten(3, 4).flatten(1, 2)[:, None],
        )

    def reorder(self, beams: Tensor) -> None:
        """Let beam k of image b go on from its former beam `beams[b, k]`; beams: (B, K), any K."""
        images, count = beams.shape
        path = self.path[:images].gather(
            1, beams[..., None].expand(-1, -1, self.path.shape[2])
        )  # (B, K, S)
        self._widen(count)
        self.path[:images, :count] = path

    def _widen(self, beams: int) -> None:
        """Make room for more beams."""
        more = beams - self.path.shape[1]
        if more > 0:
            self.token_kv = torch.nn.functional.pad(self.token_kv, (0, 0, 0, more))
            self.path = torch.nn.functional.pad(self.path, (0, 0, 0, more), value=NONE)

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order. An image that keeps its place is not moved."""
        keep = len(images)
        moved = torch.nonzero(images != torch.arange(keep, device=images.device))[:, 0]
        if len(moved):
            source = images[moved]
            self.path[moved], self.lengths[moved] = self.path[source], self.lengths[source]
            self.token_kv[:, :, moved] = self.token_kv[:, :, source]
            self.image_kv[:, :, moved] = self.image_kv[:, :, source]
        self.count = keep

    def join(self, other: TextCache) -> None:
        """Take the images of `other`, of as many slots and not more beams, in after one's own. Raises ValueError without room."""
        room = self.room(other.count)
        if room.data_ptr() != other.image_kv.data_ptr():  # they may be there already
            room.copy_(other.image_kv[:, :, : other.count])
        slots, beams, new = (
            self.path.shape[2],
            other.path.shape[1],
            slice(self.count, self.count + other.count),
        )
        self._widen(beams)
        past = (
            torch.arange(slots, device=self.path.device) - slots
        )  # the whole ring, oldest slot first
        here, there = (self.turn + past) % slots, (other.turn + past) % slots
        self.lengths[new] = other.lengths[: other.count]
        self.path[new] = NONE
        self.path[new, :beams, here] = other.path[: other.count, :, there]
        self.token_kv[:, :, new, :, here, :beams] = other.token_kv[:, :, : other.count, :, there]
        self.count += other.count
