"""The captioner's network: the Vision Transformer, the text decoder, and BLIP's LM loss."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cutline.config import CaptionConfig
from cutline.model.cache import TextCache
from cutline.model.vision_text import VisionTextModel

IGNORE_INDEX = -100  # the label of a token that is not scored


class CaptionLoss(NamedTuple):
    """The result of `CaptionModel.forward`."""

    loss: Tensor
    """() for the reductions sum and mean, (R,) for none"""
    token_count: Tensor
    """(), the number of scored tokens"""
    logits: Tensor | None = None
    """(R, T - 1, V) with `return_logits`"""


def make_lm_labels(input_ids: Tensor, attention_mask: Tensor, prompt_lengths: Tensor) -> Tensor:
    """Make the labels of the LM loss.

    Args:
        input_ids: (R, T), padded on the right.
        attention_mask: (R, T), 1 at tokens and 0 at padding.
        prompt_lengths: (R,), the number of tokens at the start of each row that are not scored.

    Returns:
        (R, T): the input ids, with -100 at padding and at the prompt.
    """
    position = torch.arange(input_ids.shape[1], device=input_ids.device)
    scored = attention_mask.bool() & (position >= prompt_lengths[:, None])
    return input_ids.where(scored, IGNORE_INDEX)


class CaptionModel(VisionTextModel):
    """Encodes images, scores captions given as token ids, and predicts their next tokens."""

    config: CaptionConfig

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__(config, has_lm_head=True, merge_tokens=config.merge_tokens)
        self.cache_dtype: torch.dtype | None = None  # of keys and values; None: that of the weights

    def forward(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        reduction: Literal["sum", "mean", "none"] = "sum",
        return_logits: bool = False,
        image_embeds: Tensor | None = None,
        label_smoothing: float | None = None,
    ) -> CaptionLoss:
        """Compute BLIP's LM loss, the cross-entropy of each scored token given image and prefix.

        The sum and the count of several batches add up, so that their quotient is the mean over
        all of them.

        Args:
            pixel_values: (B, 3, S, S), normalized; None if image_embeds are given.
            input_ids: (R, T), padded on the right; R = B * K, the K captions of an image adjacent.
            attention_mask: (R, T), 1 at tokens and 0 at padding.
            labels: (R, T), -100 where not scored; see `make_lm_labels`.
            reduction: "sum" or "mean" over the scored tokens of the batch, or "none" for the sum of
                each caption.
            return_logits: Whether to return the logits of all positions but the last. Otherwise
                only those of scored tokens are computed.
            image_embeds: Earlier output of the vision encoder, which is then skipped.
            label_smoothing: In place of that of the settings; 0 gives negative log-likelihoods.

        Returns:
            The loss, the number of scored tokens and the logits.
        """
        if image_embeds is None:
            image_embeds = self.vision(pixel_values)
        x = self.text(input_ids, attention_mask, image_embeds)[:, :-1]  # (R, T - 1, D)
        targets = labels[:, 1:]  # the token after each position
        scored = targets != IGNORE_INDEX
        if return_logits:
            logits = self.text.compute_logits(x)
            scored_logits = logits[scored]
        else:
            logits = None
            scored_logits = self.text.compute_logits(x[scored])  # (M, V)
        smoothing = self.config.label_smoothing if label_smoothing is None else label_smoothing
        losses = F.cross_entropy(
            scored_logits.float(),
            targets[scored],
            label_smoothing=smoothing,
            reduction="none",
        )
        count = scored.sum()
        if reduction == "none":
            rows = torch.nonzero(scored)[:, 0]
            loss = losses.new_zeros(len(targets)).index_add(0, rows, losses)
        else:
            loss = losses.sum() if reduction == "sum" else losses.sum() / count
        return CaptionLoss(loss, count, logits)

    def new_cache(self, slots: int, max_tokens: int) -> TextCache:
        """Make an empty cache.

        Args:
            slots: Number of images that fit into it.
            max_tokens: The longest caption, prompt included.
        """
        text = self.config.text
        num_tokens, head_dim = self.embeds_shape[0], text.embed_dim // text.num_heads
        dtype, device = self.cache_dtype or self.text.dtype, self.text.device
        shape = (text.depth, 2, slots, text.num_heads, num_tokens, head_dim)
        image_kv = torch.empty(shape, dtype=dtype, device=device)
        bias = torch.empty((slots, 1, 1, num_tokens), device=device)
        return TextCache(image_kv, max_tokens, image_bias=bias if self.merge_tokens else None)

    def prefill_images(
        self,
        image_embeds: Tensor,
        max_tokens: int,
        prompt_mask: Tensor | None = None,
        target_cache: TextCache | None = None,
    ) -> TextCache:
        """Make a cache that holds keys and values of images and is ready for their prompts.

        Args:
            image_embeds: What the vision encoder returns.
            max_tokens: The longest caption, prompt included.
            prompt_mask: (B, T), false at padding on the left of prompts; None without padding.
            target_cache: A cache that the images are appended to later, with `extend`. Their keys
                and values are written to its free slots at once, which saves a copy.
        """
        num_images = len(image_embeds)
        # Only `image_kv` of a new cache is used, so it needs no room for tokens.
        owner = self.new_cache(num_images, 1) if target_cache is None else target_cache
        image_kv, image_bias = owner.reserve(num_images)
        for layer, (keys, values, bias) in enumerate(self.text.project_image(image_embeds)):
            image_kv[layer, 0], image_kv[layer, 1] = keys, values
            if image_bias is not None and bias is not None:
                image_bias.copy_(bias)
        return TextCache(image_kv, max_tokens, num_images, prompt_mask, image_bias)

    def step(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """Run one decoding step, and predict the next token of each beam.

        Args:
            input_ids: (B, K, T).
            cache: Made by `prefill_images`, and updated.

        Returns:
            Logits, (B, K, V).
        """
        return self.text.compute_logits(self.text.step(input_ids, cache))
