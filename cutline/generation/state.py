"""State of a search: tensors with one row per image, and operations on them.

Shapes: B images, K beams, W = max_length tokens (NO_TOKEN after the last).
"""

from typing import Self

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NO_TOKEN, Hypothesis


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
    """

    def __init__(
        self, num_images: int, num_hypotheses: int, max_length: int, device: torch.device
    ) -> None:
        shape = (num_images, num_hypotheses)
        self.scores = torch.full(shape, -torch.inf, device=device)
        self.tokens = torch.full((*shape, max_length), NO_TOKEN, device=device)

    def add(self, scores: Tensor, tokens: Tensor) -> None:
        """Add captions with scores (B, M) and tokens (B, M, W), and keep the N best.

        The sort is stable: as in transformers, a caption is only displaced by a better one.
        """
        num_kept = self.scores.shape[1]
        scores = torch.cat([self.scores, scores], 1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        self.scores = scores[:, :num_kept]
        self.tokens = gather_beams(torch.cat([self.tokens, tokens], 1), order[:, :num_kept])

    def to_hypotheses(
        self, images: Tensor, count: int, prompt_lengths: Tensor
    ) -> list[list[Hypothesis]]:
        """Return the best `count` captions of the images `images`, (B',), without prompts.

        Args:
            images: (B',), which images.
            count: The number of captions per image.
            prompt_lengths: (B,), the number of tokens to leave out at the start.
        """
        scores = self.scores[images, :count].tolist()
        tokens = self.tokens[images, :count].tolist()
        starts = prompt_lengths[images].tolist()
        return [
            [
                Hypothesis(tuple(token for token in row[start:] if token != NO_TOKEN), score)
                for score, row in zip(image_scores, rows, strict=True)
                if score > -torch.inf
            ]
            for image_scores, rows, start in zip(scores, tokens, starts, strict=True)
        ]


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
    """Return a copy of ids (B, K, W) with tokens (B, K) after the first `lengths` (B,) of a row."""
    return ids.scatter(2, lengths[:, None, None].expand(-1, ids.shape[1], 1), tokens[..., None])
