"""State of a search: tensors with one row per image, and operations on them.

Shapes: B images, K beams, W = max_length tokens (NO_TOKEN after the last).
"""

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import Self

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NO_LOG_PROB, NO_TOKEN, Hypothesis


class BatchState:
    """Base class of a state whose tensors all have the image as their first dimension."""

    def select(self, images: Tensor) -> None:
        """Keep only the images `images`, (B',), in that order."""
        for name, value in self._tensors():
            setattr(self, name, value[images])

    def extend(self, other: Self) -> None:
        """Append the images of `other`."""
        for name, value in self._tensors():
            setattr(self, name, torch.cat([value, getattr(other, name)]))

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Tensor)]


class BeamHypotheses(BatchState):
    """The N best finished captions of each image, best first; free entries have score -inf.

    Attributes:
        scores: (B, N).
        tokens: (B, N, W), prompt included.
        log_probs: (B, N, W), of the tokens and the end token.
    """

    def __init__(self, num_images: int, config: GenerationConfig, device: torch.device) -> None:
        shape = (num_images, config.num_beams)
        self.scores = torch.full(shape, -torch.inf, device=device)
        self.tokens = torch.full((*shape, config.max_length), NO_TOKEN, device=device)
        self.log_probs = new_log_probs(self.tokens)

    def add(self, scores: Tensor, tokens: Tensor, log_probs: Tensor) -> None:
        """Add captions with scores (B, M), tokens and log_probs (B, M, W), and keep the N best.

        The sort is stable: as in transformers, a caption is only displaced by a better one.
        """
        num_kept = self.scores.shape[1]
        scores = torch.cat([self.scores, scores], 1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        self.scores, best = scores[:, :num_kept], order[:, :num_kept]
        self.tokens = gather_beams(torch.cat([self.tokens, tokens], 1), best)
        self.log_probs = gather_beams(torch.cat([self.log_probs, log_probs], 1), best)


def new_log_probs(ids: Tensor) -> Tensor:
    """Return empty rows of log-probabilities for rows of ids."""
    return torch.full(ids.shape, NO_LOG_PROB, device=ids.device)


def to_hypotheses(
    scores: Tensor,
    tokens: Tensor,
    log_probs: Tensor,
    starts: Tensor,
    candidates: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Return the captions of each image, without prompts; scores of -inf and NaN are no captions.

    Args:
        scores: (B, N), best first.
        tokens: (B, N, W), prompt included.
        log_probs: (B, N, W), of the tokens and the end token.
        starts: (B,), the number of tokens of each prompt.
        candidates: (B, N), the number of each candidate (None: 0, 1, …).
    """
    if candidates is None:
        candidates = torch.arange(scores.shape[1]).expand(scores.shape)
    values = [scores, tokens, log_probs, candidates]
    images = zip(*(tensor.tolist() for tensor in values), strict=True)
    return [
        [
            _to_hypothesis(start, *caption)
            for caption in zip(*image, strict=True)
            if caption[0] > -torch.inf
        ]
        for start, image in zip(starts.tolist(), images, strict=True)
    ]


def _to_hypothesis(
    start: int, score: float, tokens: list[int], log_probs: list[float], candidate: int
) -> Hypothesis:
    token_log_probs = tuple(value for value in log_probs[start:] if not math.isnan(value))
    return Hypothesis(trim(tokens[start:]), score, candidate, token_log_probs)


def trim(tokens: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens of a row."""
    return tuple(token for token in tokens if token != NO_TOKEN)


def common_prefix(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the first tokens that all rows share."""
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))
    return tuple(tokens[0] for tokens in same)


def length_normalizer(
    prompt_lengths: Tensor, new_tokens: Tensor, ended: Tensor | bool, config: GenerationConfig
) -> Tensor:
    """Return length ** length_penalty, by which a sum of log-probabilities is divided.

    The scoring "blip" counts the prompt and not the end token, "huggingface" counts new tokens and
    the end token.

    Args:
        prompt_lengths: Tokens of the prompt.
        new_tokens: New tokens without the end token, in the shape of `prompt_lengths`.
        ended: Whether there is an end token.
        config: Length penalty and scoring.
    """
    length = prompt_lengths + new_tokens if config.beam_scoring == "blip" else new_tokens + ended
    return length.float() ** config.length_penalty


def gather_beams(values: Tensor, beams: Tensor) -> Tensor:
    """Select values (B, K, ...) at beams (B, M) -> (B, M, ...)."""
    return values[torch.arange(len(beams), device=beams.device)[:, None], beams]


def append_tokens(ids: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
    """Return a copy of ids (B, K, W) with tokens (B, K) after the first `lengths` (B,) of a row.

    Either may be log-probabilities instead, those of the tokens.
    """
    return ids.scatter(2, lengths[:, None, None].expand(-1, ids.shape[1], 1), tokens[..., None])
