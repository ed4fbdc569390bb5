"""Changes to the scores of the next token before one is chosen.

Order and arithmetic are those of transformers 4.15, the version that BLIP pins: repetition penalty,
n-grams, min_length.

Shapes: R rows, W tokens at most (NO_TOKEN after the last), V vocabulary.
"""

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NO_TOKEN


def changes_scores(config: GenerationConfig) -> bool:
    """Return whether `config` changes the scores of tokens other than the end token."""
    return config.repetition_penalty != 1 or config.no_repeat_ngram_size > 0


def process_logits(
    scores: Tensor, ids: Tensor, lengths: Tensor, end_id: int, config: GenerationConfig
) -> Tensor:
    """Apply repetition penalty, no_repeat_ngram_size and min_length to a copy of the scores.

    Args:
        scores: (B, K, V), logits or log-probabilities.
        ids: (B, K, W), the tokens so far, prompt included.
        lengths: (B,), their number.
        end_id: The end token.
        config: The penalty and the limits.

    Returns:
        (B, K, V).
    """
    shape = scores.shape
    scores, ids = scores.flatten(0, 1).clone(), ids.flatten(0, 1)
    if config.repetition_penalty != 1:
        penalize_repetition(scores, ids, config.repetition_penalty)
    if config.no_repeat_ngram_size:
        forbid_ngrams(scores, ids, lengths.repeat_interleave(shape[1]), config.no_repeat_ngram_size)
    scores = scores.view(shape)
    too_short = lengths < config.min_length
    scores[..., end_id].masked_fill_(too_short[:, None], -torch.inf)
    return scores


def penalize_repetition(scores: Tensor, ids: Tensor, penalty: float) -> None:
    """Penalize tokens that are already present (Keskar et al., 2019, arXiv 1909.05858).

    Negative scores are multiplied by `penalty`, others divided by it, as in transformers. Changes
    scores (R, V) in place, given ids (R, W).
    """
    present = ids.where(ids != NO_TOKEN, ids[:, :1])  # the first token is always present
    old = scores.gather(1, present)
    scores.scatter_(1, present, torch.where(old < 0, old * penalty, old / penalty))


def forbid_ngrams(scores: Tensor, ids: Tensor, lengths: Tensor, size: int) -> None:
    """Set the scores of tokens that would complete an n-gram for the second time to -inf.

    Changes scores (R, V) in place, given ids (R, W), of which the first `lengths` (R,) are tokens.
    """
    if ids.shape[1] < size:
        return
    # A token is forbidden if it ends a window of `size` tokens whose other tokens are the last
    # size - 1 tokens of the row. Rows shorter than that have no window without NO_TOKEN.
    windows = ids.unfold(1, size, 1)  # (R, W - size + 1, size)
    last = lengths[:, None] + torch.arange(1 - size, 0, device=ids.device)  # (R, size - 1)
    prefix = ids.gather(1, last.clamp_min(0))
    complete = (windows != NO_TOKEN).all(-1)  # (R, W - size + 1)
    repeats = (windows[..., :-1] == prefix[:, None]).all(-1) & complete
    # A token may end several windows; "amin" makes it -inf if any of them repeats, and inf changes
    # nothing.
    limit = torch.where(repeats, -torch.inf, torch.inf).to(scores.dtype)
    scores.scatter_reduce_(1, windows[..., -1].clamp_min(0), limit, "amin")
