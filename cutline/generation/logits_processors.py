"""What is changed in the scores of the next token before one is chosen.

Shapes: R rows, W tokens at most (NONE after the last), V vocabulary. Order and arithmetic as in transformers 4.15, which the
reference pins: repetition penalty, n-grams, min_length.
"""

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NONE


def changes_scores(config: GenerationConfig) -> bool:
    """Whether `config` changes the scores of more tokens than the end token."""
    return config.repetition_penalty != 1 or config.no_repeat_ngram_size > 0


def constrain(
    scores: Tensor, ids: Tensor, lengths: Tensor, end_id: int, config: GenerationConfig
) -> Tensor:
    """Apply the penalties and prohibitions of `config` to scores (B, K, V), given the tokens so far, ids (B, K, W).

    lengths: (B,) tokens so far, prompt included; NONE after them. The input is left as it is.
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
    """Make tokens that are already present less likely, in place: negative scores times, positive ones over `penalty`.

    Keskar et al., 2019 (arXiv 1909.05858), with the sign rule of transformers. scores (R, V), ids (R, W).
    """
    present = ids.where(ids != NONE, ids[:, :1])  # the first token is always there
    old = scores.gather(1, present)
    scores.scatter_(1, present, torch.where(old < 0, old * penalty, old / penalty))


def forbid_ngrams(scores: Tensor, ids: Tensor, lengths: Tensor, size: int) -> None:
    """Forbid tokens that would complete a run of `size` tokens that is already there, in place.

    scores (R, V), ids (R, W), of which the first `lengths` (R,) are tokens.
    """
    if ids.shape[1] < size:
        return
    windows = ids.unfold(1, size, 1)  # (R, W - size + 1, size)
    last = lengths[:, None] + torch.arange(
        1 - size, 0, device=ids.device
    )  # (R, size - 1); of a shorter row no window is whole
    prefix = ids.gather(1, last.clamp_min(0))
    repeats = (windows[..., :-1] == prefix[:, None]).all(-1) & (windows != NONE).all(
        -1
    )  # (R, W - size + 1)
    verdict = torch.where(repeats, -torch.inf, torch.inf).to(scores.dtype)
    scores.scatter_reduce_(1, windows[..., -1].clamp_min(0), verdict, "amin")
