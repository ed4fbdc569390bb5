"""Batches of the LM loss: images with captions, and a label for each token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutline.config import VisionConfig
from cutline.model import make_lm_labels
from cutline.model.caption import IGNORE_INDEX
from cutline.tokenizer import EncodedText
from cutline.training.data.batch import Batch, collate_images, gray_image, pad_token_ids
from cutline.training.data.dataset import ExampleOrError


@dataclass(kw_only=True)
class CaptionBatch(Batch):
    """B images with K captions each: R = B * K captions of up to T tokens."""

    labels: Tensor
    """(R, T), -100 where not scored"""

    @property
    def num_targets(self) -> int:
        """Return the number of scored tokens."""
        return int(count_scored(self.labels).sum())


def count_scored(labels: Tensor) -> Tensor:
    """Count the scored tokens of each row of labels (R, T): (R,); the first has no prediction."""
    return (labels[:, 1:] != IGNORE_INDEX).sum(1)


def collate_captions(results: Sequence[ExampleOrError], pad_id: int) -> CaptionBatch:
    """Collate examples into a padded batch.

    Args:
        results: Examples, messages about unreadable images, and errors. If none is an example, the
            batch has no images.
        pad_id: Token id of padding.
    """
    examples, images = collate_images(results)
    # A missing caption becomes one pad token that counts as prompt, so that it is not scored.
    padding = EncodedText([pad_id], prompt_length=1)
    captions = [caption or padding for example in examples for caption in example.captions]
    ids, mask = pad_token_ids([caption.token_ids for caption in captions], pad_id)
    prompt_lengths = torch.tensor([caption.prompt_length for caption in captions])
    labels = make_lm_labels(ids, mask, prompt_lengths)
    return CaptionBatch(input_ids=ids, attention_mask=mask, labels=labels, **images)


def make_dummy_captions(config: VisionConfig, has_embeddings: bool, scored: bool) -> CaptionBatch:
    """Return a batch of one gray image, as for `gray_image`, with two tokens, scored or not."""
    ids = torch.zeros(1, 2, dtype=torch.long)  # 2 positions: labels are shifted by one
    labels = ids if scored else torch.full_like(ids, IGNORE_INDEX)
    images = gray_image(config, has_embeddings)
    return CaptionBatch(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, **images)
