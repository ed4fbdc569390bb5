"""The likelihood of given captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.errors import ConfigError
from cutline.messages import format_value
from cutline.model import CaptionModel, KeysValues
from cutline.tokenizer import EncodedText, Tokenizer


@dataclass(frozen=True)
class CaptionScore:
    """The likelihood of a given caption."""

    log_prob: float
    """log-likelihood of the caption, [SEP] included, given image and prompt"""
    token_log_probs: tuple[float, ...]
    """log-likelihood of each token given those before it; their sum is `log_prob`"""
    token_ids: tuple[int, ...]
    """the tokens: no prompt, [SEP] included"""


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
    encoded: Sequence[EncodedText], image: Tensor | Sequence[KeysValues], model: CaptionModel
) -> list[CaptionScore]:
    """Score R captions of one image.

    Args:
        encoded: The captions, with their prompt.
        image: Its image_embeds (1, N, D), or what `project_image` yields for these.
        model: The captioner's model.
    """
    rows = [torch.tensor(token_ids) for token_ids, _ in encoded]
    device = model.text.token_embed.weight.device
    ids = pad_sequence(rows, batch_first=True).to(device)  # (R, T)
    # Attention is causal, so padding on the right needs no mask.
    if isinstance(image, Tensor):
        hidden = model.text(ids, None, image)
    else:
        hidden = model.text(ids, None, image_kv=image)
    logits = model.text.compute_logits(hidden).float()[:, :-1]  # (R, T - 1, V)
    log_probs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    scores = []
    for row, (tokens, prompt_length) in zip(log_probs.tolist(), encoded, strict=True):
        # row[i] scores token i + 1, so the first token after the prompt is scored by
        # row[prompt_length - 1].
        token_log_probs = tuple(row[prompt_length - 1 : len(tokens) - 1])
        scores.append(
            CaptionScore(sum(token_log_probs), token_log_probs, tuple(tokens[prompt_length:]))
        )
    return scores
