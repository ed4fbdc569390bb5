"""The captioner's network: the Vision Transformer, the text side, and BLIP's language-model loss."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import CaptionConfig
from cutline.model.activation_checkpointing import Recompute
from cutline.model.cache import TextCache
from cutline.model.text import TextTransformer
from cutline.model.vision import VisionTransformer

IGNORE = -100  # the label of a token that is not scored


class CaptionLoss(NamedTuple):
    """What the loss returns.

    loss: () for sum and mean, (R,) for none
    token_count: () number of scored tokens
    logits: (R, T - 1, V) if they were asked for
    """

    loss: Tensor
    token_count: Tensor
    logits: Tensor | None = None


def lm_labels(input_ids: Tensor, attention_mask: Tensor, prompt_lengths: Tensor) -> Tensor:
    """Labels (R, T): the input ids, with -100 at padding and at the first `prompt_lengths` (R,) positions of each row."""
    position = torch.arange(input_ids.shape[1], device=input_ids.device)
    scored = attention_mask.bool() & (position >= prompt_lengths[:, None])
    return input_ids.where(scored, IGNORE)


class CaptionModel(nn.Module):
    """Reads images, scores captions, and predicts the next token of one. Knows no tokenizer."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTransformer(config.vision)
        self.text = TextTransformer(config.text, config.vision.embed_dim)
        self.cache_dtype: torch.dtype | None = (
            None  # what keys and values are kept in (default: as they are computed)
        )

    def checkpoint_activations(
        self, vision_blocks: int = 0, text: bool = False, cheap: bool = False
    ) -> None:
        """Recompute, rather than keep, the activations of the last `vision_blocks` blocks and of all text layers.

        cheap: of the other layers, those that cost little to recompute.
        """
        rest: Recompute = "cheap" if cheap else "nothing"
        depth = len(self.vision.blocks)
        self.vision.recompute = [
            "all" if block >= depth - vision_blocks else rest for block in range(depth)
        ]
        self.text.recompute = "all" if text else rest

    def compile_layers(self) -> None:
        """Let torch compile every layer when it is first called: in place, so that names and weights stay as they are."""
        for layer in (*self.vision.blocks, *self.text.layers):
            layer.compile()

    def forward(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        reduction: Literal["sum", "mean", "none"] = "sum",
        return_logits: bool = False,
        image_embeds: Tensor | None = None,
    ) -> CaptionLoss:
        """BLIP's language-model loss: the cross-entropy of every scored token given the image and the tokens before it.

        Args:
            pixel_values: (B, 3, S, S), normalised; None where image_embeds are given.
            input_ids: (R, T), padded on the right; R = B * K, the K captions of an image one after another.
            attention_mask: (R, T), 1 at tokens and 0 at padding.
            labels: (R, T), -100 where not scored; see `lm_labels`.
            reduction: "sum" and "mean" over the scored tokens of the batch, "none" for the sum of each caption.
            return_logits: also return the logits of all positions but the last. Without it they are computed only
                where they are scored.
            image_embeds: (B, N, D), what the vision side made of the images earlier; it is not run again.

        The sum and the count of several batches add up, so that their quotient is the mean over all of them.
        """
        if image_embeds is None:
            image_embeds = self.vision(pixel_values)
        x = self.text(input_ids, attention_mask, image_embeds)[:, :-1]  # (R, T - 1, D)
        targets = labels[:, 1:]  # the token after each position
        scored = targets != IGNORE
        if return_logits:
            logits = self.text.logits(x)
            scored_logits = logits[scored]
        else:
            logits = None
            scored_logits = self.text.logits(x[scored])  # (M, V)
        losses = F.cross_entropy(
            scored_logits.float(),
            targets[scored],
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )
        count = scored.sum()
        if reduction == "none":
            rows = torch.nonzero(scored)[:, 0]
            loss = losses.new_zeros(len(targets)).index_add(0, rows, losses)
        else:
            loss = losses.sum() if reduction == "sum" else losses.sum() / count
        return CaptionLoss(loss, count, logits)

    def new_cache(self, places: int, max_tokens: int) -> TextCache:
        """An empty cache for `places` images and captions of up to `max_tokens` tokens, the prompt included."""
        text, weight = self.config.text, self.text.token_embed.weight
        shape = (
            text.depth,
            2,
            places,
            text.num_heads,
            self.config.vision.num_tokens,
            text.embed_dim // text.num_heads,
        )
        return TextCache(
            torch.empty(shape, dtype=self.cache_dtype or weight.dtype, device=weight.device),
            max_tokens,
        )

    def start(
        self,
        image_embeds: Tensor,
        max_tokens: int,
        prompt_mask: Tensor | None = None,
        host: TextCache | None = None,
    ) -> TextCache:
        """A cache for captions of image_embeds (B, N, D) of up to `max_tokens` tokens, the prompt included.

        prompt_mask: (B, T), false at the padding on the left of prompts of different lengths; None if there is none.
        host: the cache that will be joined: the images' keys and values are written to their place in it right away.
        """
        images = len(image_embeds)
        image_kv = (host or self.new_cache(images, 1)).room(images)
        for layer, (keys, values) in enumerate(self.text.image_keys_values(image_embeds)):
            image_kv[layer, 0], image_kv[layer, 1] = keys, values
        return TextCache(image_kv, max_tokens, images, prompt_mask)

    def step(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """Read the next tokens of every beam, (B, K, T), and predict the one after them: logits (B, K, V)."""
        return self.text.logits(self.text.step(input_ids, cache))
