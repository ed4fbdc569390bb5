"""Batches of pairs: images with one text each, and which texts belong to which images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.config import VisionConfig
from cutline.tokenizer import EncodedText, Tokenizer
from cutline.training.data.batch import Batch, collate_images, gray_image, pad_token_ids
from cutline.training.data.dataset import Example, ExampleOrError


@dataclass(kw_only=True)
class MatchBatch(Batch):
    """R images with one text each; input_ids start with [CLS]."""

    image_keys: Tensor
    """(R, K), the keys of all texts that belong to an image, padded with 0"""
    text_keys: Tensor
    """(R,), the key of each text; 0 in a batch that stands in for an empty one"""

    @property
    def num_targets(self) -> int:
        """Return the number of pairs."""
        return int((self.text_keys > 0).sum())


def collate_pairs(
    results: Sequence[ExampleOrError], tokenizer: Tokenizer, by_image: bool
) -> MatchBatch:
    """Collate examples with one caption each into a padded batch.

    Args:
        results: Examples, messages about unreadable images, and errors. If none is an example, the
            batch has no images.
        tokenizer: Vocabulary of the model.
        by_image: Whether a text belongs to its image alone. Otherwise, it belongs to each image
            that has a caption with the same tokens.
    """
    examples, images = collate_images(results)
    texts = [example.captions[0] for example in examples]
    tokens = [[tokenizer.cls_id, *text.token_ids[1:]] for text in texts if text]
    ids, mask = pad_token_ids(tokens, tokenizer.pad_id)
    if by_image:
        text_keys = [hash_key(example.id) for example in examples]
        image_keys = [{key} for key in text_keys]
    else:
        text_keys = [hash_text(text) for text in texts if text]
        image_keys = [_list_text_keys(example) for example in examples]
    return MatchBatch(
        input_ids=ids,
        attention_mask=mask,
        image_keys=_pad_keys(image_keys),
        text_keys=torch.tensor(text_keys, dtype=torch.long),
        **images,
    )


def _list_text_keys(example: Example) -> set[int]:
    return {hash_text(text) for text in example.all_captions}


def _pad_keys(keys: Sequence[set[int]]) -> Tensor:
    if not keys:
        return torch.zeros(0, 1, dtype=torch.long)
    return pad_sequence([torch.tensor(sorted(row)) for row in keys], batch_first=True)


def hash_text(text: EncodedText) -> int:
    """Return the key of a text; texts with the same tokens have the same."""
    return hash_key(str(text.token_ids[1:]))  # the first token is that of a caption


def hash_key(name: str) -> int:
    """Return a number above 0, of 63 bits, that is the same in every process."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return max(1, int.from_bytes(digest) >> 1)


def make_dummy_pair(config: VisionConfig, has_embeddings: bool, scored: bool) -> MatchBatch:
    """Return a batch of one gray image, as for `gray_image`, with two tokens, scored or not."""
    ids, key = torch.zeros(1, 2, dtype=torch.long), torch.tensor([int(scored)])
    return MatchBatch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        image_keys=key[None],
        text_keys=key,
        **gray_image(config, has_embeddings),
    )
