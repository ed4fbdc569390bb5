"""`Target`, an image with the caption to explain: its tokens, and which of them are words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.captioner import Captioner
from cutline.errors import ConfigError
from cutline.messages import format_value
from cutline.scoring import encode_for_scoring
from cutline.tokenizer import Tokenizer
from cutline.tokenizer.words import WordSpan


class Encoded(NamedTuple):
    """The tokens of a caption with its prompt."""

    token_ids: list[int]
    """[DEC], prompt and caption"""
    prompt_length: int
    """number of tokens before the caption"""


@dataclass(frozen=True)
class Target:
    """An image with the caption to explain."""

    pixels: Tensor
    """uint8, (3, S, S)"""
    token_ids: Sequence[int]
    """[DEC], prompt and caption"""
    text: str
    """the caption"""
    words: Sequence[WordSpan]
    """its words; positions of tokens count from [DEC]"""


def encode_given(captioner: Captioner, caption: str, prompt: str) -> Encoded:
    """Encode a caption that was given with its prompt, as `Captioner.score` does.

    Raises:
        ConfigError: The caption is too long, has no words, or has unknown ones.
    """
    positions = captioner.config.text.max_positions
    [(ids, prompt_length)] = encode_for_scoring([caption], prompt, captioner.tokenizer, positions)
    encoded = Encoded(ids[:-1], prompt_length)
    if word := find_unknown_word(captioner.tokenizer, caption):
        raise ConfigError(
            f"the caption {format_value(caption)} cannot be explained: the model's vocabulary "
            f"lacks {format_value(word)}; use other words"
        )
    if not captioner.tokenizer.decode_words(encoded.token_ids[prompt_length:])[1]:
        raise ConfigError(f"the caption {format_value(caption)} has no words to explain")
    return encoded


def find_unknown_word(tokenizer: Tokenizer, caption: str) -> str:
    """Return the first word that the vocabulary lacks; "" if it lacks punctuation at most."""
    unknown = (
        word
        for word in re.findall(r"\w+", caption)
        if tokenizer.unk_id in tokenizer.encode_prompt(word)
    )
    return next(unknown, "") if tokenizer.unk_id in tokenizer.encode_prompt(caption) else ""


def make_target(tokenizer: Tokenizer, pixels: Tensor, encoded: Encoded) -> Target:
    """Return the target of an image, given its pixels (3, S, S) and its caption."""
    token_ids, prompt_length = encoded
    text, words = tokenizer.decode_words(token_ids[prompt_length:])
    return Target(pixels, token_ids, text, [shift_tokens(word, prompt_length) for word in words])


def shift_tokens(word: WordSpan, count: int) -> WordSpan:
    """Return a word, given the number of tokens before the text."""
    return word._replace(tokens=tuple(token + count for token in word.tokens))


def pad_captions(targets: Sequence[Target], device: torch.device) -> Tensor:
    """Return the token ids of targets, (B, T), padded on the right."""
    rows = [torch.tensor(target.token_ids) for target in targets]
    return pad_sequence(rows, batch_first=True).to(device)


def sum_words(log_probs: Tensor, words: Sequence[WordSpan]) -> Tensor:
    """Return the log-probability of each word, the sum over its tokens.

    Args:
        log_probs: (..., T - 1), of each token after the first, given those before it.
        words: W words.

    Returns:
        (..., W).
    """
    return torch.stack([log_probs[..., list_predicting(word)].sum(-1) for word in words], -1)


def list_predicting(word: WordSpan) -> list[int]:
    """Return the positions that predict the tokens of a word: those before them."""
    return [token - 1 for token in word.tokens]
