"""Batches: examples collated to padded tensors, and data loaders that prefetch them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from cutline.config import VisionConfig
from cutline.errors import CutlineError
from cutline.interrupt import STOP_SIGNALS
from cutline.training.data.dataset import NO_PIXELS, CaptionDataset, Example, ExampleOrError
from cutline.worker import end_workers_at_exit, init_worker


@dataclass(kw_only=True)
class Batch:
    """B images with R texts of up to T tokens; each task adds what its loss needs."""

    pixels: Tensor
    """(B, 3, S, S) uint8; S is 0 if there are image_embeds"""
    input_ids: Tensor
    """(R, T), padded on the right"""
    attention_mask: Tensor
    """(R, T), 1 at tokens and 0 at padding"""
    skipped: list[str] = field(default_factory=list)
    """a message for each image that cannot be read"""
    error: CutlineError | None = None
    """why no more data can be read; raised by the training process, because a worker process
    cannot"""
    image_embeds: Tensor | None = None
    """(B, N, D), cached output of the vision encoder in place of pixels"""

    @property
    def num_targets(self) -> int:
        """Return the number of tokens or pairs that the loss is a sum over."""
        raise NotImplementedError

    def to(self, device: torch.device) -> Self:
        """Return the batch on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory; the DataLoader calls this."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values: dict[str, Any] = vars(self)
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        changed: dict[str, Any] = {name: function(tensor) for name, tensor in tensors.items()}
        return replace(self, **changed)


Collate = Callable[[Sequence[ExampleOrError]], Batch]
"""makes a batch of examples, messages about unreadable images, and errors; if none is an example,
the batch has no images"""


class Images(TypedDict):
    """What the batches of all tasks have in common."""

    pixels: Tensor
    skipped: list[str]
    error: CutlineError | None
    image_embeds: Tensor | None


def collate_images(results: Sequence[ExampleOrError]) -> tuple[list[Example], Images]:
    """Return the examples among `results`, and their images with all messages and errors."""
    examples = [result for result in results if isinstance(result, Example)]
    skipped = [result for result in results if isinstance(result, str)]
    error = next((result for result in results if isinstance(result, CutlineError)), None)
    pixels = torch.zeros(0, 3, 0, 0, dtype=torch.uint8)
    if examples:
        pixels = torch.stack([example.pixels for example in examples])
    embeds = [e.image_embeds for e in examples if e.image_embeds is not None]
    image_embeds = torch.stack(embeds) if embeds else None
    return examples, Images(pixels=pixels, skipped=skipped, error=error, image_embeds=image_embeds)


def pad_token_ids(texts: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return input_ids and attention_mask, (R, T) each, of R texts; (0, 2) without any."""
    if not texts:
        empty = torch.zeros(0, 2, dtype=torch.long)
        return empty, empty
    rows = [torch.tensor(ids) for ids in texts]
    ids = pad_sequence(rows, batch_first=True, padding_value=-1)
    return ids.where(ids >= 0, pad_id), (ids >= 0).long()


def gray_image(config: VisionConfig, has_embeddings: bool) -> Images:
    """Return one gray image.

    It stands in for an empty batch, because all processes must run the model equally often.

    Args:
        config: Sizes of the vision encoder.
        has_embeddings: Whether it has image_embeds instead of pixels, as the other batches do.
    """
    size = config.image_size
    pixels, image_embeds = torch.full((1, 3, size, size), 128, dtype=torch.uint8), None
    if has_embeddings:
        pixels = NO_PIXELS[None]
        image_embeds = torch.zeros(1, config.num_tokens, config.embed_dim)
    return Images(pixels=pixels, skipped=[], error=None, image_embeds=image_embeds)


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are collated and prefetched."""

    collate: Collate
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
        collate_fn=config.collate,
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


def explain_worker_failure(error: Exception, num_workers: int) -> CutlineError | None:
    """Return the error for users if PyTorch raised `error` for a worker process that ended.

    PyTorch raises a RuntimeError from a signal handler, wherever the training process is. If a
    batch was just being received, the broken connection is the error; one that a worker reports
    ("Caught …") is not.
    """
    is_broken = isinstance(error, ConnectionError | EOFError) and num_workers > 0
    is_own = is_broken and not str(error).startswith("Caught ")
    if not is_own and not str(error).startswith("DataLoader worker (pid"):
        return None
    return CutlineError(
        "a data loading worker was killed, as happens when memory runs out: lower "
        "`data.num_workers` or `data.shuffle_buffer`, or turn off `data.cache`"
    )


def _init_worker(worker: int) -> None:
    init_worker(*STOP_SIGNALS)
