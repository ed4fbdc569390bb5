"""`ProcessorChain`: all that changes the scores of a search, in order.

Shapes: B images, K beams, R rows, W = max_length tokens (NO_TOKEN after the last), V vocabulary.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.device import is_out_of_memory
from cutline.errors import GenerationError
from cutline.generation.interfaces import NO_TOKEN
from cutline.generation.logits_processors import (
    EncodeWords,
    LogitsProcessor,
    MinLength,
    make_logits_processors,
)


class ProcessorChain:
    """The processors of the settings, then those of the user.

    Attributes:
        custom: Those of the user, which are called with rows of one length, without padding.
        is_empty: Whether there are none.
        limits_length_only: Whether nothing but the score of the end token of captions shorter than
            the `min_length` of the settings changes.
    """

    def __init__(
        self,
        config: GenerationConfig,
        end_id: int,
        device: torch.device,
        encode_words: EncodeWords | None = None,
        custom: Sequence[LogitsProcessor] = (),
    ) -> None:
        """Make the processors.

        Args:
            config: The settings.
            end_id: The end token.
            device: The device of the search.
            encode_words: Encodes their `bad_words`, if there are any.
            custom: The processors of the user.
        """
        self._own = make_logits_processors(config, end_id, encode_words, device)
        self.custom = tuple(custom)
        self.is_empty = not (self._own or self.custom)
        self.limits_length_only = not self.custom and all(
            isinstance(each, MinLength) for each in self._own
        )

    def process(
        self, scores: Tensor, ids: Tensor, lengths: Tensor, is_active: Tensor | None = None
    ) -> Tensor:
        """Return the scores, changed in place.

        Args:
            scores: (B, K, V), contiguous.
            ids: (B, K, W), the tokens so far, prompt included.
            lengths: (B,), their number.
            is_active: (B, K), which rows the user's processors see (None: all).

        Raises:
            GenerationError: A processor of the user failed.
        """
        if self.is_empty:
            return scores
        rows, input_ids = scores.flatten(0, 1), right_align(ids, lengths)
        for processor in self._own:
            rows = call_directly(processor, input_ids, rows)
        if self.custom:
            is_used = torch.ones_like(rows[:, 0], dtype=torch.bool)
            if is_active is not None:
                is_used = is_active.flatten()
            rows = self._process_custom(rows, input_ids, is_used)
        return rows.view(scores.shape)

    def _process_custom(self, scores: Tensor, input_ids: Tensor, is_used: Tensor) -> Tensor:
        """Call the user's processors, once per length, with rows that are used and not NaN."""
        is_used = is_used & ~scores.amax(-1).isnan()
        lengths = torch.where(is_used, (input_ids != NO_TOKEN).sum(-1), 0)
        for length in sorted(set(lengths.tolist()) - {0}):
            rows = (lengths == length).nonzero()[:, 0]
            chosen, tokens = scores[rows], input_ids[rows, -length:]
            for processor in self.custom:
                chosen = call_processor(processor, tokens, chosen)
            scores[rows] = chosen
        return scores


def right_align(ids: Tensor, lengths: Tensor) -> Tensor:
    """Return rows of ids (B, K, W) with NO_TOKEN before their `lengths` (B,) tokens: (B * K, W)."""
    width = ids.shape[2]
    column = torch.arange(-width, 0, device=ids.device) + lengths[:, None]  # (B, W)
    index = column.clamp_min(0)[:, None].expand(ids.shape)
    aligned = ids.gather(2, index).masked_fill((column < 0)[:, None], NO_TOKEN)
    return aligned.flatten(0, 1)


def call_directly(processor: LogitsProcessor, input_ids: Tensor, scores: Tensor) -> Tensor:
    """Return what a processor returns."""
    return processor(cast(torch.LongTensor, input_ids), cast(torch.FloatTensor, scores))


def call_processor(processor: LogitsProcessor, input_ids: Tensor, scores: Tensor) -> Tensor:
    """Return the scores (R, V) of a user's processor, given input_ids (R, T) and scores (R, V).

    Raises:
        GenerationError: It failed, or what it returned are no scores.
    """
    name, shape = name_processor(processor), tuple(scores.shape)
    try:
        result = call_directly(processor, input_ids, scores)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise GenerationError(f"the logits processor {name} failed ({reason}); fix it") from error
    problem = ""
    if not isinstance(result, Tensor):
        problem = f"returned {type(result).__name__}, not a tensor"
    elif tuple(result.shape) != shape:
        problem = f"returned scores of shape {tuple(result.shape)}, not {shape}"
    elif not result.is_floating_point():
        problem = f"returned {result.dtype}, not scores"
    elif result.amax(-1).isnan().any():
        problem = "returned NaN"
    if problem:
        raise GenerationError(f"the logits processor {name} {problem}; fix it")
    return result.to(scores)


def name_processor(processor: LogitsProcessor) -> str:
    """Return the name of a function, or of the class of an object."""
    return str(getattr(processor, "__qualname__", type(processor).__qualname__))
