"""How well texts match images that are encoded already."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.config import MAX_TEXT_TOKENS
from cutline.model import MatchModel, match_probability
from cutline.tokenizer import Tokenizer

MAX_ROWS = 64
"""texts that read an image at once; more are no faster on a CPU, and need more memory"""


def encode_texts(
    texts: Sequence[str], model: MatchModel, tokenizer: Tokenizer, start_id: int
) -> list[list[int]]:
    """Encode texts as they are, cut at 35 tokens; [SEP] is always included."""
    max_tokens = min(MAX_TEXT_TOKENS, model.config.text.max_positions)
    return [[start_id, *tokenizer.encode_text(text, max_tokens)[1:]] for text in texts]


def pad_texts(
    encoded: Sequence[Sequence[int]], model: MatchModel, length: int = 0
) -> tuple[Tensor, Tensor]:
    """Return input_ids and attention_mask, (R, T) each, on the model's device.

    Args:
        encoded: Token ids of each text.
        model: The matcher.
        length: T (default: that of the longest text).
    """
    rows = [torch.tensor(ids) for ids in encoded]
    missing = torch.zeros(max(0, length - len(rows[0])), dtype=torch.long)
    rows[0] = torch.cat([rows[0], missing - 1])
    ids = pad_sequence(rows, batch_first=True, padding_value=-1)
    ids = ids.to(model.text.token_embed.weight.device)
    mask = (ids >= 0).long()
    return ids * mask, mask


def embed_texts(
    encoded: Sequence[Sequence[int]], model: MatchModel, batch_size: int = MAX_ROWS
) -> Tensor:
    """Return the ITC embeddings of texts that start with [CLS]: (R, P), float32, on the CPU."""
    embeds = torch.empty(len(encoded), model.config.projection_dim)
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))  # for little padding
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = pad_texts([encoded[row] for row in rows], model)
        embeds[rows] = model.project_texts(model.read_texts(ids, mask)).cpu()
    return embeds


def match_texts(
    image_embeds: Tensor, encoded: Sequence[Sequence[list[int]]], model: MatchModel
) -> list[list[float]]:
    """Compute the match probabilities of texts and their images; see `classify_texts`."""
    logits = classify_texts(image_embeds, encoded, model)
    return [match_probability(row).tolist() for row in logits]


def classify_texts(
    image_embeds: Tensor, encoded: Sequence[Sequence[list[int]]], model: MatchModel
) -> list[Tensor]:
    """Compute the ITM logits of texts that read their images.

    Args:
        image_embeds: (B, N, D).
        encoded: The texts of each image, any number of them; equal ones are read once.
        model: The matcher.

    Returns:
        For each image, those of its K texts: (K, 2), "no match" and "match", on the CPU.
    """
    distinct = [list(dict.fromkeys(map(tuple, texts))) for texts in encoded]
    found = [torch.empty(0, 2) for _ in encoded]
    order = sorted(range(len(encoded)), key=lambda image: len(distinct[image]))
    for count, group in groupby(order, key=lambda image: len(distinct[image])):
        images = list(group)
        if count:
            texts = [sorted(distinct[image], key=len) for image in images]  # for little padding
            logits = _classify_equally_many(image_embeds[images], texts, model)
            for image, row, row_logits in zip(images, texts, logits, strict=True):
                rows = {text: number for number, text in enumerate(row)}
                found[image] = row_logits[[rows[tuple(text)] for text in encoded[image]]]
    return found


def _classify_equally_many(
    image_embeds: Tensor, encoded: Sequence[Sequence[tuple[int, ...]]], model: MatchModel
) -> Tensor:
    """Return the ITM logits (B, K, 2) of the K texts of each of B images."""
    num_images, num_texts = len(encoded), len(encoded[0])
    columns = max(1, MAX_ROWS // num_images)
    image_kv = list(model.text.project_image(image_embeds))
    parts = []
    for start in range(0, num_texts, columns):
        texts = [text for row in encoded for text in row[start : start + columns]]
        ids, mask = pad_texts(texts, model)
        logits = model.classify(model.read_pairs(ids, mask, image_kv=image_kv))
        parts.append(logits.view(num_images, -1, 2).cpu())
    return torch.cat(parts, 1)
