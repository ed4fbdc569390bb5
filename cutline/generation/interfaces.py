"""Inputs, results and protocols of a search, independent of the model and the tokenizer.

Shapes: B images, K beams, T new tokens of a step (first the padded prompts, then 1), V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

NO_TOKEN = -1  # fills rows of token ids after their last token
NO_LOG_PROB = math.nan  # fills rows of log-probabilities


class Cache(Protocol):
    """The state of the model between steps, such as keys and values."""

    def resize(self, max_tokens: int, num_beams: int, exact: bool = False) -> None:
        """Make room for captions of `max_tokens` tokens, prompt included, with `num_beams` beams.

        Unless `exact`, a cache that has a little more room may stay as it is.
        """

    def extend(self, other: Any) -> None:
        """Append the images of `other`, a cache of the same kind."""

    def reorder(self, beams: Tensor) -> None:
        """Let beam k of image b continue its previous beam `beams[b, k]`; beams: (B, K)."""

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order."""


CacheT = TypeVar("CacheT", bound=Cache)
Step = Callable[[Tensor, CacheT], Tensor]
"""step(input_ids (B, K, T), cache) -> logits of the next token (B, K, V)"""


@dataclass(frozen=True)
class Prompts:
    """The prompts of B images, padded on the left."""

    input_ids: Tensor
    """(B, T); each prompt begins with the start token"""
    attention_mask: Tensor
    """(B, T), false at padding"""
    end_id: int
    """the token that ends a caption"""

    @property
    def lengths(self) -> Tensor:
        """Return the number of tokens of each prompt, (B,)."""
        return self.attention_mask.sum(1)

    def select(self, images: Sequence[int]) -> "Prompts":
        """Return the prompts of the images `images`, in that order."""
        rows = list(images)
        return Prompts(self.input_ids[rows], self.attention_mask[rows], self.end_id)

    def left_align(self, max_length: int) -> Tensor:
        """Return the prompts without padding on the left: (B, max_length), NO_TOKEN after each."""
        padded_length = self.input_ids.shape[1]
        start = self.attention_mask.int().argmax(1)  # (B,)
        # the column of each token, beyond the end after the last one
        column = torch.arange(max_length, device=start.device) + start[:, None]  # (B, max_length)
        ids = self.input_ids.gather(1, column.clamp_max(padded_length - 1))
        return ids.masked_fill(column >= padded_length, NO_TOKEN)


@dataclass(frozen=True)
class Hypothesis:
    """A generated caption."""

    token_ids: tuple[int, ...]
    """the new tokens, without prompt and end token"""
    score: float
    """sum of log-probabilities / length ** length_penalty"""
    candidate: int = 0
    """its number in `Progress`"""
    token_log_probs: tuple[float, ...] = ()
    """the model's log-probabilities of the tokens, and of the end token if there is one, before
    penalties, limits and temperature"""

    @property
    def is_finished(self) -> bool:
        """Return whether there is an end token, which only the log-probabilities include."""
        return len(self.token_log_probs) > len(self.token_ids)


@dataclass(frozen=True)
class Progress:
    """What is known of the captions of an image before they are done, without prompt."""

    settled: Sequence[tuple[int, ...]]
    """for each candidate, the first tokens of its caption, which later steps do not change"""
    draft: tuple[int, ...]
    """beam search: the rest of the best caption so far, which later steps may change"""


class Search(Protocol):
    """A strategy for choosing tokens, and its state for the images that are being captioned."""

    next_tokens: Tensor
    """(B, K), the tokens chosen last"""
    beam_indices: Tensor
    """(B, K), the previous beam that each of them continues"""

    def advance(self, logits: Tensor) -> Tensor:
        """Choose the next tokens, given logits (B, K, V); return which images are done, (B,)."""

    def finalize(self, images: Tensor) -> list[list[Hypothesis]]:
        """Return the captions of the images `images`, (B',), best first."""

    def progress(self, image: int) -> Progress:
        """Return what is known of the captions of an image."""

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order."""

    def extend(self, other: Self) -> None:
        """Append the images of `other`."""
