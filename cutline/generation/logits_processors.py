"""Changes to the scores of the next token before one is chosen.

Order and arithmetic are those of transformers 4.15, the version that BLIP pins: repetition penalty,
n-grams, bad words, min_length.

Shapes: R rows, W tokens at most (NO_TOKEN after the last), V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NO_TOKEN


def changes_scores(config: GenerationConfig) -> bool:
    """Return whether `config` changes the scores of tokens other than the end token."""
    penalizes = config.repetition_penalty != 1
    return penalizes or config.no_repeat_ngram_size > 0 or bool(config.bad_words)


class BadWords:
    """Token sequences that are never generated.

    Attributes:
        prefixes: (S, L - 1), the tokens of each but the last, NO_TOKEN before them.
        last: (S,), the last token of each.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], device: torch.device) -> None:
        size = max(map(len, sequences), default=1)
        rows = [[NO_TOKEN] * (size - len(tokens)) + list(tokens) for tokens in sequences]
        padded = torch.tensor(rows, dtype=torch.long, device=device).view(-1, size)  # (S, L)
        self.prefixes, self.last = padded[:, :-1], padded[:, -1]


EncodeWords = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""encode_words(words) -> the tokens of each word"""


def make_bad_words(
    config: GenerationConfig, encode_words: EncodeWords | None, device: torch.device
) -> BadWords | None:
    """Return the tokens of the `bad_words` of `config`, which need an encoder, if it has any."""
    if not config.bad_words:
        return None
    assert encode_words is not None, "bad_words need `encode_words`"
    encoded = encode_words(config.bad_words)
    return BadWords([tokens for tokens in encoded if len(tokens) <= config.max_length], device)


def process_logits(
    scores: Tensor,
    ids: Tensor,
    lengths: Tensor,
    end_id: int,
    config: GenerationConfig,
    bad_words: BadWords | None = None,
) -> Tensor:
    """Apply all penalties and limits to a copy of the scores.

    Args:
        scores: (B, K, V), logits or log-probabilities.
        ids: (B, K, W), the tokens so far, prompt included.
        lengths: (B,), their number.
        end_id: The end token.
        config: The penalty and the limits.
        bad_words: The tokens of its `bad_words`.

    Returns:
        (B, K, V).
    """
    shape = scores.shape
    scores, ids = scores.flatten(0, 1).clone(), ids.flatten(0, 1)
    if config.repetition_penalty != 1:
        penalize_repetition(scores, ids, config.repetition_penalty)
    if config.no_repeat_ngram_size:
        forbid_ngrams(scores, ids, lengths.repeat_interleave(shape[1]), config.no_repeat_ngram_size)
    if bad_words is not None:
        forbid_bad_words(scores, ids, lengths.repeat_interleave(shape[1]), bad_words)
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
    prefix = take_last(ids, lengths, size - 1)
    complete = (windows != NO_TOKEN).all(-1)  # (R, W - size + 1)
    repeats = (windows[..., :-1] == prefix[:, None]).all(-1) & complete
    # A token may end several windows; "amin" makes it -inf if any of them repeats, and inf changes
    # nothing.
    limit = torch.where(repeats, -torch.inf, torch.inf).to(scores.dtype)
    scores.scatter_reduce_(1, windows[..., -1].clamp_min(0), limit, "amin")


def forbid_bad_words(scores: Tensor, ids: Tensor, lengths: Tensor, bad_words: BadWords) -> None:
    """Set the scores of tokens that would complete a bad word to -inf.

    As in transformers, its other tokens may be those of the prompt. Changes scores (R, V) in place,
    given ids (R, W), of which the first `lengths` (R,) are tokens.
    """
    prefixes, last = bad_words.prefixes, bad_words.last
    previous = take_last(ids, lengths, prefixes.shape[1])  # (R, L - 1)
    # The NO_TOKEN before a short prefix matches anything; all of a single token's are such.
    matches = (prefixes == previous[:, None]) | (prefixes == NO_TOKEN)
    limit = torch.where(matches.all(-1), -torch.inf, torch.inf).to(scores.dtype)  # (R, S)
    scores.scatter_reduce_(1, last.expand(len(scores), -1), limit, "amin")


def take_last(ids: Tensor, lengths: Tensor, count: int) -> Tensor:
    """Return the last `count` of the first `lengths` (R,) of ids (R, W); NO_TOKEN before them."""
    column = lengths[:, None] + torch.arange(-count, 0, device=ids.device)  # (R, count)
    return ids.gather(1, column.clamp_min(0)).masked_fill(column < 0, NO_TOKEN)
