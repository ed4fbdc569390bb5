"""Batches of self-critical sequence training: captions, and what sampling and reward need."""

from collections.abc import Sequence
from dataclasses import dataclass

from cutline.training.data.batch import collate_images
from cutline.training.data.caption_batch import CaptionBatch, collate_captions
from cutline.training.data.dataset import ExampleOrError


@dataclass(kw_only=True)
class ScstBatch(CaptionBatch):
    """B images with K captions each, of which n captions will be sampled."""

    prompts: list[list[int]]
    """token ids that the samples of each image start with"""
    references: list[Sequence[str]]
    """all captions of each image"""
    seeds: list[int]
    """seed of the samples of each image"""
    num_samples: int
    """n"""

    @property
    def num_targets(self) -> int:
        """Return the number of sampled captions."""
        return len(self.references) * self.num_samples


def collate_scst(results: Sequence[ExampleOrError], pad_id: int, num_samples: int) -> ScstBatch:
    """Collate examples into a padded batch.

    Args:
        results: Examples, messages about unreadable images, and errors. If none is an example, the
            batch has no images.
        pad_id: Token id of padding.
        num_samples: Captions to sample of each image.
    """
    examples, _ = collate_images(results)
    texts = [example.all_captions[0] for example in examples]  # all have the same prompt
    return ScstBatch(
        **vars(collate_captions(results, pad_id)),
        prompts=[text.token_ids[: text.prompt_length] for text in texts],
        references=[example.references for example in examples],
        seeds=[example.seed for example in examples],
        num_samples=num_samples,
    )
