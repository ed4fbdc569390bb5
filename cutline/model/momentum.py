"""`MomentumEncoders`: moving averages of a matcher's encoders, and queues of their embeddings.

Momentum distillation (Li et al., 2021, arXiv 2107.07651), as in BLIP models/blip_retrieval.py.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.model.match import MatchModel, project_first
from cutline.model.text import TextTransformer

PREFIX = "momentum."
"""of the names of these weights and queues in the state of a training network"""


class Embeddings(NamedTuple):
    """Embeddings of R images and of R texts, of unit length, with the keys that pair them."""

    images: Tensor
    """(R, P)"""
    texts: Tensor
    """(R, P)"""
    image_keys: Tensor
    """(R, K), the keys of all texts that belong to an image, padded with 0"""
    text_keys: Tensor
    """(R,)"""


class MomentumEncoders(nn.Module):
    """Moving averages of the encoders, and queues of their latest embeddings.

    They are not trained. Their weights have the names of those that they follow. A queue is
    full from the start: of random directions, which belong to nothing.
    """

    queued_images: Tensor
    """(Q, P)"""
    queued_texts: Tensor
    """(Q, P)"""
    queued_image_keys: Tensor
    """(Q, K), that of the text that the image was queued with first"""
    queued_text_keys: Tensor
    """(Q,), -1 in rows that have not been written"""
    next_row: Tensor
    """(1,), the row of the queues that is written next"""

    def __init__(self, model: MatchModel, decay: float, queue_size: int, num_keys: int) -> None:
        """Copy the encoders of `model`, and fill the queues.

        Args:
            model: The matcher to follow.
            decay: Decay of the moving averages in a step.
            queue_size: Number Q of images, and of texts, in the queues.
            num_keys: Number of texts that are remembered of a queued image, beside the one that it
                was queued with; further ones count as those of other images.
        """
        super().__init__()
        self.decay = decay
        self.alpha = 0.0
        """weight of the soft targets"""
        self.vision = deepcopy(model.vision)
        self.text = copy_text_encoder(model.text)
        self.vision_proj = deepcopy(model.vision_proj)
        self.text_proj = deepcopy(model.text_proj)
        self.requires_grad_(False)
        width = model.config.projection_dim
        for name in ("queued_images", "queued_texts"):
            self.register_buffer(name, F.normalize(torch.randn(queue_size, width), dim=1))
        keys = torch.zeros(queue_size, 1 + num_keys, dtype=torch.long)
        self.register_buffer("queued_image_keys", keys)
        self.register_buffer("queued_text_keys", torch.full((queue_size,), -1))
        self.register_buffer("next_row", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def follow(self, model: MatchModel) -> None:
        """Move the copies towards the weights of `model`."""
        weights = dict(model.named_parameters())
        copies: dict[str, Tensor] = dict(self.named_parameters())
        targets: list[Tensor] = [weights[name] for name in copies]
        torch._foreach_lerp_([*copies.values()], targets, 1 - self.decay)

    @torch.no_grad()
    def embed(
        self,
        pixel_values: Tensor | None,
        image_embeds: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the ITC embeddings of images and of texts, (R, P) each.

        Args:
            pixel_values: (R, 3, S, S); None if the vision encoder is frozen, and `image_embeds` are
                the output of its copy as well.
            image_embeds: (R, N, D), output of the matcher's vision encoder.
            input_ids: (R, T), starting with [CLS].
            attention_mask: (R, T).
        """
        if pixel_values is not None:
            image_embeds = self.vision(pixel_values)
        hidden = self.text(input_ids, attention_mask, causal=False)
        return project_first(self.vision_proj, image_embeds), project_first(self.text_proj, hidden)

    def append_queue(self, rows: Embeddings) -> Embeddings:
        """Return `rows` and, after them, copies of those in the queues."""
        width = max(rows.image_keys.shape[1], self.queued_image_keys.shape[1])
        keys = [fit_width(keys, width) for keys in (rows.image_keys, self.queued_image_keys)]
        return Embeddings(
            torch.cat([rows.images, self.queued_images]),
            torch.cat([rows.texts, self.queued_texts]),
            torch.cat(keys),
            torch.cat([rows.text_keys, self.queued_text_keys]),
        )

    @torch.no_grad()
    def enqueue(self, rows: Embeddings) -> None:
        """Write the embeddings of a step over the oldest ones in the queues."""
        size, num_keys = self.queued_image_keys.shape
        if not size:
            return
        images, texts, image_keys, text_keys = (tensor[-size:] for tensor in rows)
        image_keys = torch.cat([text_keys[:, None], image_keys], 1)
        positions = (self.next_row + torch.arange(len(text_keys), device=texts.device)) % size
        self.queued_images[positions] = images
        self.queued_texts[positions] = texts
        self.queued_image_keys[positions] = fit_width(image_keys, num_keys)
        self.queued_text_keys[positions] = text_keys
        self.next_row.add_(len(text_keys)).remainder_(size)


def copy_text_encoder(text: TextTransformer) -> TextTransformer:
    """Return a copy of what reads texts alone, without cross-attention and decoder."""
    copied = deepcopy(text)
    copied.lm_head = None
    for layer in copied.layers:
        for name in ("cross_attn", "norm2", "decoder"):
            setattr(layer, name, None)
    return copied


def fit_width(x: Tensor, width: int) -> Tensor:
    """Pad or cut x (R, K) to (R, width)."""
    return F.pad(x[:, :width], (0, max(0, width - x.shape[1])))
