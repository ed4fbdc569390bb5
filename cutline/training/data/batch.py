"""Batches: examples collated to padded tensors, and the data loader that prefetches them."""

import functools
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from cutline.config import VisionConfig
from cutline.errors import CutlineError
from cutline.model import make_lm_labels
from cutline.training.data.dataset import NO_PIXELS, CaptionDataset, Example, Row


@dataclass
class Batch:
    """B images with K captions each, R = B * K rows.

    pixels: (B, 3, S, S) uint8; S is 0 where there are image_embeds
    input_ids, attention_mask, labels: (R, T)
    skipped: one sentence for each image that could not be read
    failure: why the data cannot be read on; it comes from a loader's process, and is raised by whoever takes the batch
    image_embeds: (B, N, D) in place of pixels, where they are kept
    """

    pixels: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    skipped: list[str] = field(default_factory=list)
    failure: CutlineError | None = None
    image_embeds: Tensor | None = None

    @property
    def token_count(self) -> int:
        """Scored tokens; the first position has nothing before it."""
        return int((self.labels[:, 1:] != -100).sum())

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, for the DataLoader."""
        return self._map(lambda tensor: tensor.pin_memory())

    @staticmethod
    def dummy(config: VisionConfig, embedded: bool) -> "Batch":
        """One grey image with nothing to score: for the process that has no rows where others have some.

        embedded: it has image_embeds, as those of the others have.
        """
        ids, size = torch.zeros(1, 2, dtype=torch.long), config.image_size
        pixels = (
            NO_PIXELS[None] if embedded else torch.full((1, 3, size, size), 128, dtype=torch.uint8)
        )
        image_embeds = torch.zeros(1, config.num_tokens, config.embed_dim) if embedded else None
        return Batch(
            pixels, ids, torch.ones_like(ids), torch.full_like(ids, -100), image_embeds=image_embeds
        )

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        image_embeds = None if self.image_embeds is None else change(self.image_embeds)
        pixels, input_ids, attention_mask, labels = map(
            change, (self.pixels, self.input_ids, self.attention_mask, self.labels)
        )
        return Batch(
            pixels, input_ids, attention_mask, labels, self.skipped, self.failure, image_embeds
        )


def collate(items: Sequence[Row], pad_id: int) -> Batch:
    """Rows of different lengths become one batch, padded on the right; images that cannot be read are listed."""
    good = [item for item in items if isinstance(item, Example)]
    skipped = [item for item in items if isinstance(item, str)]
    failure = next((item for item in items if isinstance(item, CutlineError)), None)
    if not good:
        nothing = torch.zeros(0, 2, dtype=torch.long)
        return Batch(
            torch.zeros(0, 3, 0, 0, dtype=torch.uint8), nothing, nothing, nothing, skipped, failure
        )
    rows = [caption or ([pad_id], 1) for item in good for caption in item.captions]
    ids = pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True, padding_value=-1)
    mask = (ids >= 0).long()
    ids = ids.where(ids >= 0, pad_id)
    labels = make_lm_labels(ids, mask, torch.tensor([length for _, length in rows]))
    kept = [item.image_embeds for item in good if item.image_embeds is not None]
    return Batch(
        torch.stack([item.pixels for item in good]),
        ids,
        mask,
        labels,
        skipped,
        failure,
        torch.stack(kept) if kept else None,
    )


def load_batches(
    rows: CaptionDataset,
    keys: Iterator[list[tuple[int, int]]],
    pad_id: int,
    num_workers: int,
    pin: bool = False,
) -> Iterator[Batch]:
    """The batches of `keys`, opened by `num_workers` processes ahead of their use."""
    loader: DataLoader[Any] = DataLoader(
        rows,
        batch_sampler=keys,
        collate_fn=functools.partial(collate, pad_id=pad_id),
        num_workers=num_workers,
        worker_init_fn=ignore_signals,
        pin_memory=pin,
    )
    yield from loader


def ignore_signals(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the training process alone answers it, and ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
