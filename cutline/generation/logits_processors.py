"""Changes to the scores of the next token before one is chosen.

Order and arithmetic are those of transformers 4.15, the version that BLIP pins: repetition penalty,
n-grams, bad words, min_length.

Shapes: R rows, T tokens so far (NO_TOKEN before the first), V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from cutline.config import GenerationConfig
from cutline.generation.interfaces import NO_TOKEN


class LogitsProcessor(Protocol):
    """Changes the scores of the next token, as a `LogitsProcessor` of transformers does.

    Any function of these arguments is one, and so are the classes of transformers.
    """

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, /) -> Tensor:
        """Return the new scores.

        Args:
            input_ids: (R, T), the tokens so far of R captions that are equally long: the start
                token, the prompt, and what was generated.
            scores: (R, V), float32: log-probabilities in beam search, raw logits in greedy search
                and sampling. They may be changed in place.

        Returns:
            (R, V); -inf forbids a token.
        """


class RepetitionPenalty:
    """Penalizes tokens that are already present (Keskar et al., 2019, arXiv 1909.05858).

    Negative scores are multiplied by `penalty`, others divided by it, as in transformers.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, changed in place."""
        # the last token is always present
        present = input_ids.where(input_ids != NO_TOKEN, input_ids[:, -1:])
        old = scores.gather(1, present)
        new = torch.where(old < 0, old * self.penalty, old / self.penalty)
        return scores.scatter_(1, present, new)


class NoRepeatNgrams:
    """Forbids tokens that would complete an n-gram for the second time."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, changed in place."""
        if input_ids.shape[1] < self.size:
            return scores
        # A token is forbidden if it ends a window of `size` tokens whose other tokens are the last
        # size - 1 tokens of the row. Rows shorter than that have no window without NO_TOKEN.
        windows = input_ids.unfold(1, self.size, 1)  # (R, T - size + 1, size)
        prefix = take_last(input_ids, self.size - 1)
        complete = (windows != NO_TOKEN).all(-1)  # (R, T - size + 1)
        repeats = (windows[..., :-1] == prefix[:, None]).all(-1) & complete
        return forbid_tokens(scores, windows[..., -1].clamp_min(0), repeats)


class NoBadWords:
    """Forbids tokens that would complete a bad word.

    As in transformers, its other tokens may be those of the prompt.

    Attributes:
        prefixes: (S, L - 1), the tokens of each bad word but the last, NO_TOKEN before them.
        last: (S,), the last token of each.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], device: torch.device) -> None:
        size = max(map(len, sequences), default=1)
        rows = [[NO_TOKEN] * (size - len(tokens)) + list(tokens) for tokens in sequences]
        padded = torch.tensor(rows, dtype=torch.long, device=device).view(-1, size)  # (S, L)
        self.prefixes, self.last = padded[:, :-1], padded[:, -1]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, changed in place."""
        previous = take_last(input_ids, self.prefixes.shape[1])  # (R, L - 1)
        # The NO_TOKEN before a short prefix matches anything; all of a single token's are such.
        matches = (self.prefixes == previous[:, None]) | (self.prefixes == NO_TOKEN)
        return forbid_tokens(scores, self.last.expand(len(scores), -1), matches.all(-1))


class MinLength:
    """Forbids the end token in captions of fewer than `min_length` tokens."""

    def __init__(self, min_length: int, end_id: int) -> None:
        self.min_length, self.end_id = min_length, end_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores, changed in place."""
        too_short = (input_ids != NO_TOKEN).sum(-1) < self.min_length
        scores[:, self.end_id].masked_fill_(too_short, -torch.inf)
        return scores


EncodeWords = Callable[[Sequence[str]], Sequence[Sequence[int]]]
"""encode_words(words) -> the tokens of each word"""


def make_logits_processors(
    config: GenerationConfig, end_id: int, encode_words: EncodeWords | None, device: torch.device
) -> list[LogitsProcessor]:
    """Make the processors that settings ask for.

    They change scores in place. Rows of different lengths may have NO_TOKEN before their first
    token.

    Args:
        config: The settings.
        end_id: The end token.
        encode_words: Encodes their `bad_words`, if there are any.
        device: The device of the search.
    """
    processors: list[LogitsProcessor] = []
    if config.repetition_penalty != 1:
        processors.append(RepetitionPenalty(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        processors.append(NoRepeatNgrams(config.no_repeat_ngram_size))
    if config.bad_words:
        assert encode_words is not None, "bad_words need `encode_words`"
        encoded = encode_words(config.bad_words)
        processors.append(
            NoBadWords([tokens for tokens in encoded if len(tokens) <= config.max_length], device)
        )
    if config.min_length:
        processors.append(MinLength(config.min_length, end_id))
    return processors


def forbid_tokens(scores: Tensor, tokens: Tensor, is_forbidden: Tensor) -> Tensor:
    """Set scores (R, V) of tokens (R, M) to -inf in place where `is_forbidden`, (R, M)."""
    # A token may occur several times; "amin" makes it -inf if it is forbidden in any place, and inf
    # changes nothing.
    limit = torch.where(is_forbidden, -torch.inf, torch.inf).to(scores.dtype)
    return scores.scatter_reduce_(1, tokens, limit, "amin")


def take_last(input_ids: Tensor, count: int) -> Tensor:
    """Return the last `count` tokens of input_ids (R, T); NO_TOKEN before them."""
    return pad(input_ids, (count, 0), value=NO_TOKEN)[:, input_ids.shape[1] :]
