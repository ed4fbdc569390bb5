"""Batches: examples collated to padded tensors, and data loaders that prefetch them."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from cutline.config import VisionConfig
from cutline.errors import CutlineError
from cutline.interrupt import STOP_SIGNALS
from cutline.model import make_lm_labels
from cutline.model.caption import IGNORE_INDEX
from cutline.tokenizer import EncodedText
from cutline.training.data.dataset import NO_PIXELS, CaptionDataset, Example, ExampleOrError
from cutline.worker import end_workers_at_exit, init_worker


@dataclass
class Batch:
    """B images with K captions each: R = B * K captions of up to T tokens."""

    pixels: Tensor
    """(B, 3, S, S) uint8; S is 0 if there are image_embeds"""
    input_ids: Tensor
    """(R, T), padded on the right"""
    attention_mask: Tensor
    """(R, T), 1 at tokens and 0 at padding"""
    labels: Tensor
    """(R, T), -100 where not scored"""
    skipped: list[str] = field(default_factory=list)
    """a message for each image that cannot be read"""
    error: CutlineError | None = None
    """why no more data can be read; raised by the training process, because a worker process
    cannot"""
    image_embeds: Tensor | None = None
    """(B, N, D), cached output of the vision encoder in place of pixels"""

    @property
    def token_count(self) -> int:
        """Return the number of scored tokens; the first position has no prediction."""
        return int((self.labels[:, 1:] != IGNORE_INDEX).sum())

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; the DataLoader calls this."""
        return self._map(lambda tensor: tensor.pin_memory())

    @staticmethod
    def dummy(config: VisionConfig, has_embeddings: bool) -> "Batch":
        """Return a batch of one gray image without scored tokens.

        It stands in for an empty batch, because all processes must run the model equally often.

        Args:
            config: Sizes of the vision encoder.
            has_embeddings: Whether it has image_embeds instead of pixels, as the other batches do.
        """
        ids = torch.zeros(1, 2, dtype=torch.long)  # 2 positions: labels are shifted by one
        size = config.image_size
        pixels, image_embeds = torch.full((1, 3, size, size), 128, dtype=torch.uint8), None
        if has_embeddings:
            pixels = NO_PIXELS[None]
            image_embeds = torch.zeros(1, config.num_tokens, config.embed_dim)
        labels = torch.full_like(ids, IGNORE_INDEX)
        return Batch(pixels, ids, torch.ones_like(ids), labels, image_embeds=image_embeds)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(
            function(self.pixels),
            function(self.input_ids),
            function(self.attention_mask),
            function(self.labels),
            self.skipped,
            self.error,
            None if self.image_embeds is None else function(self.image_embeds),
        )


def collate(results: Sequence[ExampleOrError], pad_id: int) -> Batch:
    """Collate examples into a padded batch.

    Args:
        results: Examples, messages about unreadable images, and errors. If none is an example, the
            batch has no images.
        pad_id: Token id of padding.
    """
    examples = [result for result in results if isinstance(result, Example)]
    skipped = [result for result in results if isinstance(result, str)]
    error = next((result for result in results if isinstance(result, CutlineError)), None)
    if not examples:
        pixels = torch.zeros(0, 3, 0, 0, dtype=torch.uint8)
        empty = torch.zeros(0, 2, dtype=torch.long)
        return Batch(pixels, empty, empty, empty, skipped, error)
    # A missing caption becomes one pad token that counts as prompt, so that it is not scored.
    padding = EncodedText([pad_id], prompt_length=1)
    captions = [caption or padding for example in examples for caption in example.captions]
    ids = pad_sequence(
        [torch.tensor(caption.token_ids) for caption in captions],
        batch_first=True,
        padding_value=-1,
    )
    mask = (ids >= 0).long()
    ids = ids.where(ids >= 0, pad_id)
    labels = make_lm_labels(
        ids, mask, torch.tensor([caption.prompt_length for caption in captions])
    )
    pixels = torch.stack([example.pixels for example in examples])
    embeds = [e.image_embeds for e in examples if e.image_embeds is not None]
    image_embeds = torch.stack(embeds) if embeds else None
    return Batch(pixels, ids, mask, labels, skipped, error, image_embeds)


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are collated and prefetched."""

    pad_id: int
    """token id of padding"""
    num_workers: int = 0
    """processes that read examples ahead of their use (0: this process reads them)"""
    pin_memory: bool = False
    """copy batches to page-locked memory, for a faster transfer to a GPU"""


def make_loader(
    dataset: Dataset[ExampleOrError], config: LoaderConfig, **batching: Any
) -> DataLoader[Any]:
    """Make a data loader.

    Args:
        dataset: The dataset.
        config: Collation and prefetching.
        **batching: How examples are grouped: `batch_sampler=…` or `batch_size=…`.
    """
    if config.num_workers:
        end_workers_at_exit()
    return DataLoader(
        dataset,
        collate_fn=functools.partial(collate, pad_id=config.pad_id),
        num_workers=config.num_workers,
        worker_init_fn=_init_worker,
        pin_memory=config.pin_memory,
        **batching,
    )


def collect_skipped(batches: Sequence[Batch]) -> list[str]:
    """Return the messages about unreadable images of all batches."""
    return [message for batch in batches for message in batch.skipped]


def load_batches(
    dataset: CaptionDataset, keys: Iterator[list[tuple[int, int]]], config: LoaderConfig
) -> Iterator[Batch]:
    """Yield the batches with these keys, each of them a list of (epoch, index)."""
    yield from make_loader(dataset, config, batch_sampler=keys)


def explain_worker_failure(error: RuntimeError) -> CutlineError | None:
    """Return the error for users if PyTorch raised `error` for a worker process that ended.

    PyTorch raises it from a signal handler, wherever the training process is.
    """
    if not str(error).startswith("DataLoader worker (pid"):
        return None
    return CutlineError(
        "a data loading worker was killed, as happens when memory runs out: lower "
        "`data.num_workers` or `data.shuffle_buffer`, or turn off `data.cache`"
    )


def _init_worker(worker: int) -> None:
    init_worker(*STOP_SIGNALS)
