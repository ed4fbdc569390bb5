"""Hidden states of images, of texts, and of texts that read images, as BLIP's feature extractor."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutline.image import ImageSource
from cutline.matching.predictor import MatchPredictor
from cutline.matching.texts import encode_texts, pad_texts


def read_images(
    predictor: MatchPredictor, images: Sequence[ImageSource], batch_size: int
) -> Tensor:
    """Return the output of the vision encoder, (B, N, D).

    Raises:
        ImageError: An image cannot be read.
    """
    vision = predictor.config.vision
    parts = [torch.empty(0, vision.num_tokens, vision.embed_dim)]
    for image_embeds, _ in predictor.encode_readable(((i, None) for i in images), batch_size):
        parts.append(image_embeds.float().cpu())
    return torch.cat(parts)


def read_texts(predictor: MatchPredictor, texts: Sequence[str], batch_size: int) -> Tensor:
    """Return the hidden states (R, 35, D) of texts alone."""
    parts = [_no_hidden(predictor)]
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        with predictor.inference():
            ids, mask = _encode(predictor, batch, predictor.tokenizer.cls_id)
            parts.append(predictor.model.read_texts(ids, mask).float().cpu())
    return torch.cat(parts)


def read_pairs(
    predictor: MatchPredictor,
    images: Sequence[ImageSource],
    texts: Sequence[str],
    start_id: int,
    batch_size: int,
) -> Tensor:
    """Return the hidden states (R, 35, D) of texts that read their images.

    Raises:
        ImageError: An image cannot be read.
    """
    parts = [_no_hidden(predictor)]
    inputs = zip(images, texts, strict=True)
    for image_embeds, batch in predictor.encode_readable(inputs, batch_size):
        with predictor.inference():
            ids, mask = _encode(predictor, batch, start_id)
            parts.append(predictor.model.read_pairs(ids, mask, image_embeds).float().cpu())
    return torch.cat(parts)


def _encode(
    predictor: MatchPredictor, texts: Sequence[str], start_id: int
) -> tuple[Tensor, Tensor]:
    """Return input_ids and attention_mask, (R, 35) each."""
    encoded = encode_texts(texts, predictor.model, predictor.tokenizer, start_id)
    return pad_texts(encoded, predictor.model, predictor.max_text_tokens)


def _no_hidden(predictor: MatchPredictor) -> Tensor:
    return torch.empty(0, predictor.max_text_tokens, predictor.config.text.embed_dim)
