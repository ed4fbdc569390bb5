"""The likelihood of given captions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.errors import ConfigError
from cutline.messages import format_value
from cutline.model import CaptionModel, KeysValues
from cutline.tokenizer import EncodedText, Tokenizer

MAX_ROWS = 64
"""captions that are read at once; more are no faster on a CPU, and need more memory"""
MAX_LOGITS = 512
"""tokens whose logits are computed at once: 63 MB with BLIP's vocabulary"""

RankBy = Literal["log_prob", "perplexity"]
"""what captions are ranked by"""


@dataclass(frozen=True)
class CaptionScore:
    """The likelihood of a given caption."""

    log_prob: float
    """log-likelihood of the caption, [SEP] included, given image and prompt"""
    token_log_probs: tuple[float, ...]
    """log-likelihood of each token given those before it; their sum is `log_prob`"""
    token_ids: tuple[int, ...]
    """the tokens: no prompt, [SEP] included"""

    @property
    def perplexity(self) -> float:
        """Return exp(-log_prob / number of tokens), [SEP] included; at least 1, lower is better."""
        try:
            return math.exp(-self.log_prob / len(self.token_ids))
        except OverflowError:
            return math.inf


@dataclass(frozen=True)
class RankedCaption:
    """A given caption of an image, among others."""

    text: str
    """the caption"""
    score: CaptionScore
    """its likelihood"""
    index: int
    """its number in the input"""


def rank_captions(
    texts: Sequence[str], scores: Sequence[CaptionScore], by: RankBy
) -> list[RankedCaption]:
    """Return captions, best first; equal ones in the order of the input."""
    ranked = [
        RankedCaption(text, score, index)
        for index, (text, score) in enumerate(zip(texts, scores, strict=True))
    ]
    if by == "perplexity":
        return sorted(ranked, key=lambda caption: caption.score.perplexity)
    return sorted(ranked, key=lambda caption: -caption.score.log_prob)


def encode_for_scoring(
    texts: Sequence[str], prompt: str, tokenizer: Tokenizer, max_positions: int
) -> list[EncodedText]:
    """Encode captions with their prompt.

    Raises:
        ConfigError: A caption is too long.
    """
    # One token more than fits, so that a caption that is too long is noticed.
    encoded = [tokenizer.encode(text, prompt, max_positions + 1) for text in texts]
    for text, (token_ids, _) in zip(texts, encoded, strict=True):
        if len(token_ids) > max_positions:
            raise ConfigError(
                f"the caption {format_value(text)} with its prompt is longer than the model's "
                f"{max_positions} positions: shorten it"
            )
    return encoded


def score_captions(
    encoded: Sequence[Sequence[EncodedText]], image_embeds: Tensor, model: CaptionModel
) -> list[list[CaptionScore]]:
    """Score the captions of B images, any number of each.

    Args:
        encoded: The captions of each image, with their prompt.
        image_embeds: (B, N, D).
        model: The captioner's model.
    """
    found: list[list[CaptionScore]] = [[] for _ in encoded]
    order = sorted(range(len(encoded)), key=lambda image: len(encoded[image]))
    for count, group in groupby(order, key=lambda image: len(encoded[image])):
        images = list(group)
        if count:
            image_kv = list(model.text.project_image(image_embeds[images]))
            rows = [encoded[image] for image in images]
            for image, scores in zip(
                images, score_equally_many(rows, image_kv, model), strict=True
            ):
                found[image] = scores
    return found


def score_equally_many(
    encoded: Sequence[Sequence[EncodedText]], image_kv: Sequence[KeysValues], model: CaptionModel
) -> list[list[CaptionScore]]:
    """Score the K captions of each of B images.

    Args:
        encoded: The captions of each image, with their prompt.
        image_kv: What `project_image` yields for the images.
        model: The captioner's model.
    """
    num_columns = max(1, MAX_ROWS // len(encoded))
    # Captions of similar lengths are read together, for little padding.
    orders = [_order_by_length(row) for row in encoded]
    found: list[dict[int, CaptionScore]] = [{} for _ in encoded]
    for start in range(0, len(encoded[0]), num_columns):
        chosen = [
            (image, k)
            for image, order in enumerate(orders)
            for k in order[start : start + num_columns]
        ]
        scores = _score_rows([encoded[image][k] for image, k in chosen], image_kv, model)
        for (image, k), score in zip(chosen, scores, strict=True):
            found[image][k] = score
    return [[scores[k] for k in range(len(scores))] for scores in found]


def _order_by_length(encoded: Sequence[EncodedText]) -> list[int]:
    return sorted(range(len(encoded)), key=lambda row: len(encoded[row].token_ids))


def _score_rows(
    encoded: Sequence[EncodedText], image_kv: Sequence[KeysValues], model: CaptionModel
) -> list[CaptionScore]:
    """Score R captions of B images, those of an image adjacent."""
    rows = [torch.tensor(token_ids) for token_ids, _ in encoded]
    device = model.text.device
    ids = pad_sequence(rows, batch_first=True, padding_value=-1).to(device)  # (R, T)
    is_token = ids >= 0
    # Attention is causal, so padding on the right needs no mask; but with one, bf16 scores do not
    # depend on it, see `attend_to_tokens`.
    hidden = model.text(ids.clamp_min(0), is_token, image_kv=image_kv)  # (R, T, D)
    # The hidden state of a token predicts the next one.
    starts = torch.tensor([prompt_length for _, prompt_length in encoded], device=device)
    positions = torch.arange(1, ids.shape[1], device=device)
    is_scored = is_token[:, 1:] & (positions >= starts[:, None])  # (R, T - 1)
    log_probs = compute_log_probs(hidden[:, :-1][is_scored], ids[:, 1:][is_scored], model)
    counts = [len(token_ids) - prompt_length for token_ids, prompt_length in encoded]
    return [
        CaptionScore(sum(row), tuple(row), tuple(token_ids[prompt_length:]))
        for row, (token_ids, prompt_length) in zip(
            map(Tensor.tolist, log_probs.split(counts)), encoded, strict=True
        )
    ]


def compute_log_probs(hidden: Tensor, tokens: Tensor, model: CaptionModel) -> Tensor:
    """Return the log-probabilities (M,), on the CPU, of tokens (M,), given hidden states (M, D)."""
    parts = []
    for x, targets in zip(hidden.split(MAX_LOGITS), tokens.split(MAX_LOGITS), strict=True):
        logits = model.text.compute_logits(x).float()  # (M', V)
        parts.append(logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(parts).cpu()
