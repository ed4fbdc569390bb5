"""What a search needs to be told, and what it tells: it knows no model and no tokenizer.

Shapes: B pictures, K beams, T tokens so far (prompt and its padding included), V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from cutline.config import GenerationConfig

NONE = -1  # in a row of token ids: no token here


class Cache(Protocol):
    """What the model remembers between steps."""

    def reorder(self, beams: Tensor) -> None:
        """Let beam k of picture b go on from its former beam `beams[b, k]`, (B, K)."""

    def select(self, images: Tensor) -> None:
        """Keep only the pictures `images`, (B',)."""


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


@dataclass(frozen=True)
class Hypothesis:
    """A caption found: its new tokens, without prompt and end token, and its score."""

    token_ids: tuple[int, ...]
    score: float


class Finished:
    """The N best captions of each picture so far, best first; unused places have a score of -inf.

    scores (B, N); tokens (B, N, max_new), NONE after the last
    """

    def __init__(self, images: int, count: int, max_new: int, device: torch.device) -> None:
        self.scores = torch.full((images, count), -torch.inf, device=device)
        self.tokens = torch.full((images, count, max_new), NONE, device=device)

    def add(self, scores: Tensor, tokens: Tensor) -> None:
        """Offer scores (B, M) with tokens (B, M, t); only a better score displaces, as in the reference."""
        tokens = torch.nn.functional.pad(tokens, (0, self.tokens.shape[2] - tokens.shape[2]), value=NONE)
        scores, order = torch.cat([self.scores, scores], 1).sort(dim=1, descending=True, stable=True)
        order = order[:, : self.scores.shape[1]]
        self.scores = scores[:, : self.scores.shape[1]]
        self.tokens = take_beams(torch.cat([self.tokens, tokens], 1), order)

    def select(self, images: Tensor) -> None:
        """Keep only the pictures `images`, (B',)."""
        self.scores, self.tokens = self.scores[images], self.tokens[images]


def collect(results: list[list[Hypothesis]], finished: Finished, waiting: Tensor, over: Tensor, count: int) -> None:
    """Write the best `count` captions of the pictures that are `over`, (B,), to their places, `waiting` (B,), in `results`."""
    scores, tokens = finished.scores[over, :count].tolist(), finished.tokens[over, :count].tolist()
    for image, image_scores, image_tokens in zip(waiting[over].tolist(), scores, tokens, strict=True):
        results[image] = [
            Hypothesis(tuple(token for token in row if token != NONE), score)
            for score, row in zip(image_scores, image_tokens, strict=True)
            if score > -torch.inf
        ]


def length_term(prompt_lengths: Tensor, new_tokens: Tensor, ended: Tensor | bool, config: GenerationConfig) -> Tensor:
    """What a sum of log-probabilities is divided by: length ** length_penalty, in the shape of the arguments.

    "blip" counts the prompt and not the end token; "huggingface" counts new tokens and the end token.
    new_tokens: without the end token; ended: whether there is one.
    """
    length = prompt_lengths + new_tokens if config.beam_scoring == "blip" else new_tokens + ended
    return length.float() ** config.length_penalty


def take_beams(values: Tensor, beams: Tensor) -> Tensor:
    """values (B, K, ...) at beams (B, M) -> (B, M, ...)."""
    return values[torch.arange(len(beams), device=beams.device)[:, None], beams]
