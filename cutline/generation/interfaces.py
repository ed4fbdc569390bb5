"""What a search needs to be told, and what it tells: it knows no model and no tokenizer.

Shapes: B images, K beams, T tokens so far (prompt and its padding included), V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from cutline.config import GenerationConfig

NONE = -1  # in a row of token ids: no token here


class Cache(Protocol):
    """What the model remembers between steps."""

    def extend(self, other: Any) -> None:
        """Take the images of `other`, another cache of this kind, in after one's own."""

    def reorder(self, beams: Tensor) -> None:
        """Let beam k of image b go on from its former beam `beams[b, k]`, (B, K)."""

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',)."""


C = TypeVar("C", bound=Cache)
Step = Callable[[Tensor, C], Tensor]
"""step(input_ids (B, K, T), cache) -> logits of the next token (B, K, V)"""


@dataclass(frozen=True)
class Prompts:
    """Where captions begin.

    ids: (B, T), padded on the left; each row starts with the start token
    mask: (B, T), false at padding
    end_id: the token that ends a caption
    """

    ids: Tensor
    mask: Tensor
    end_id: int

    @property
    def lengths(self) -> Tensor:
        """(B,) tokens of each prompt."""
        return self.mask.sum(1)

    def rows(self, width: int) -> Tensor:
        """The prompts from the first column on, (B, width), NONE after them."""
        first = self.mask.int().argmax(1)  # (B,)
        source = torch.arange(width, device=first.device) + first[:, None]  # (B, width)
        there = source < self.ids.shape[1]
        return self.ids.gather(1, source.clamp_max(self.ids.shape[1] - 1)).masked_fill(~there, NONE)


@dataclass(frozen=True)
class Hypothesis:
    """A caption found: its new tokens, without prompt and end token, and its score."""

    token_ids: tuple[int, ...]
    score: float


class Search(Protocol):
    """Images in search of their captions: one way of choosing the next tokens."""

    tokens: Tensor  # (B, K) chosen last
    beams: Tensor  # (B, K) which beam each of them continues

    def advance(self, logits: Tensor) -> Tensor:
        """Choose the next tokens by logits (B, K, V); returns which images are done, (B,)."""

    def results(self, images: Tensor) -> list[list[Hypothesis]]:
        """The captions of the images `images`, (B',), best first."""

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order."""

    def extend(self, other: Self) -> None:
        """Take the images of `other` in after one's own."""


class Rows:
    """A search's state: tensors whose first dimension is the image."""

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order."""
        for name, value in self._tensors():
            setattr(self, name, value[images])

    def extend(self, other: Self) -> None:
        """Take the images of `other` in after one's own."""
        for name, value in self._tensors():
            setattr(self, name, torch.cat([value, getattr(other, name)]))

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Tensor)]


class Finished(Rows):
    """The N best captions of each image so far, best first; unused places have a score of -inf.

    scores (B, N); tokens (B, N, W), prompt included, NONE after the last
    """

    def __init__(self, images: int, count: int, width: int, device: torch.device) -> None:
        self.scores = torch.full((images, count), -torch.inf, device=device)
        self.tokens = torch.full((images, count, width), NONE, device=device)

    def add(self, scores: Tensor, tokens: Tensor) -> None:
        """Offer scores (B, M) with tokens (B, M, W); only a better score displaces, as in the reference."""
        scores, order = torch.cat([self.scores, scores], 1).sort(
            dim=1, descending=True, stable=True
        )
        order = order[:, : self.scores.shape[1]]
        self.scores = scores[:, : self.scores.shape[1]]
        self.tokens = gather_beams(torch.cat([self.tokens, tokens], 1), order)

    def best(self, images: Tensor, count: int, prompt_lengths: Tensor) -> list[list[Hypothesis]]:
        """The best `count` captions of the images `images`, (B',), without their prompts; prompt_lengths: (B,)."""
        scores, tokens = self.scores[images, :count].tolist(), self.tokens[images, :count].tolist()
        return [
            [
                Hypothesis(tuple(token for token in row[start:] if token != NONE), score)
                for score, row in zip(image_scores, rows, strict=True)
                if score > -torch.inf
            ]
            for image_scores, rows, start in zip(
                scores, tokens, prompt_lengths[images].tolist(), strict=True
            )
        ]


def length_normalizer(
    prompt_lengths: Tensor, new_tokens: Tensor, ended: Tensor | bool, config: GenerationConfig
) -> Tensor:
    """What a sum of log-probabilities is divided by: length ** length_penalty, in the shape of the arguments.

    "blip" counts the prompt and not the end token; "huggingface" counts new tokens and the end token.
    new_tokens: without the end token; ended: whether there is one.
    """
    length = prompt_lengths + new_tokens if config.beam_scoring == "blip" else new_tokens + ended
    return length.float() ** config.length_penalty


def gather_beams(values: Tensor, beams: Tensor) -> Tensor:
    """values (B, K, ...) at beams (B, M) -> (B, M, ...)."""
    return values[torch.arange(len(beams), device=beams.device)[:, None], beams]


def append_tokens(ids: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
    """ids (B, K, W) with tokens (B, K) after the first `lengths` (B,) of each row; a copy."""
    return ids.scatter(2, lengths[:, None, None].expand(-1, ids.shape[1], 1), tokens[..., None])
