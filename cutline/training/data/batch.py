"""Samples become batches: images opened, cleaned of bad ones, augmented; captions tokenised and labelled.

What a batch holds depends only on the seed, the epoch and its number, so that a resumed run sees what it would have seen.
"""

import functools
import math
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from cutline.config import DataConfig, VisionConfig
from cutline.data import Sample
from cutline.errors import ConfigError, CutlineError, DataError, ImageError
from cutline.image import augment, open_image, to_pixels
from cutline.model import lm_labels
from cutline.tokenizer import Tokenizer, clean_caption
from cutline.training.data.embeddings import Embedding

Encoded = tuple[
    list[int], int
]  # token ids of prompt and caption, and how many of them are the prompt
NO_PIXELS = torch.empty(3, 0, 0, dtype=torch.uint8)


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
    def blank(config: VisionConfig, embedded: bool) -> "Batch":
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


@dataclass(frozen=True)
class Item:
    """An image with K captions; a caption that is None only fills its place and is not scored."""

    pixels: Tensor  # (3, S, S) uint8
    captions: list[Encoded | None]
    image_embeds: Tensor | None = None  # (N, D)


def encode_captions(
    samples: Sequence[Sample], tokenizer: Tokenizer, data: DataConfig, prompt: str
) -> list[list[Encoded]]:
    """Every sample's captions, cleaned and tokenised; those that cleaning leaves empty are dropped.

    `prompt` is for samples that bring none of their own.
    """
    encoded = []
    for sample in samples:
        texts = [clean_caption(caption, data.clean, data.max_words) for caption in sample.captions]
        texts = [text for text in texts if text]
        prompts = [prompt if sample.prompt is None else sample.prompt] * len(texts)
        encoded.append(tokenizer.encode_pairs(texts, prompts, data.max_tokens))
    return encoded


Row = (
    Item | str | CutlineError
)  # a row, one sentence on why its image cannot be read, or why nothing can


class CaptionDataset(Dataset[Row]):
    """Rows to train on, by key (epoch, row)."""

    def __init__(
        self,
        samples: Sequence[Sample],
        captions: Sequence[list[Encoded]],
        size: int,
        data: DataConfig,
        seed: int | str,
        augmented: bool = True,
    ) -> None:
        """captions: as `encode_captions` gives them; samples without any are left out. size: image side in pixels."""
        self.samples, self.captions = samples, captions
        self.size, self.data, self.seed, self.augmented = size, data, seed, augmented
        self.rows: list[
            tuple[int, int | None]
        ] = []  # sample, and which caption (None: chosen anew each epoch)
        for index, texts in enumerate(captions):
            choices: list[int | None] = (
                list(range(len(texts))) if data.captions_per_image == 0 else [None] * bool(texts)
            )
            self.rows += [(index, choice) for choice in choices]
        if not self.rows:
            raise DataError("the training data has no image with a caption: give each at least one")
        if all(len(ids) <= length for texts in captions for ids, length in texts):
            raise ConfigError(
                f"max_tokens {data.max_tokens} leaves no room after the prompt: raise it"
            )
        self.cache: dict[int, Image.Image] = {}
        self.embeddings: dict[
            int, Embedding | str
        ] = {}  # of each sample that has rows, if they are kept; see `embed`

    def __len__(self) -> int:
        return len(self.rows)

    def used_samples(self) -> dict[int, Sample]:
        """The samples that have rows, by number."""
        return {index: self.samples[index] for index, _ in self.rows}

    def __getitem__(self, key: tuple[int, int]) -> Row:
        """The row, one sentence on why its image cannot be read, or why nothing can."""
        try:
            return self.read(key)
        except (
            CutlineError
        ) as error:  # raised in a loader's process it would bring a traceback along
            return error

    def read(self, key: tuple[int, int]) -> Item | str:
        """The row, or one sentence on why its image cannot be read."""
        epoch, row = key
        index, choice = self.rows[row]
        rng = random.Random(f"{self.seed} {epoch} {row}")
        if self.embeddings:
            kept = self.embeddings[index]
            return (
                kept
                if isinstance(kept, str)
                else Item(NO_PIXELS, self._choose(self.captions[index], choice, rng), kept.read())
            )
        try:
            image = self._open(index)
        except ImageError as error:
            return str(error)
        return Item(self._pixels(image, rng), self._choose(self.captions[index], choice, rng))

    def _open(self, index: int) -> Image.Image:
        if index in self.cache:
            return self.cache[index]
        image = open_image(self.samples[index].image)
        if self.data.cache:
            self.cache[index] = image
        return image

    def _pixels(self, image: Image.Image, rng: random.Random) -> Tensor:
        if self.augmented:
            image = augment(image, self.size, self.data, rng)
        return to_pixels(image, self.size)

    def _choose(
        self, texts: list[Encoded], choice: int | None, rng: random.Random
    ) -> list[Encoded | None]:
        if choice is not None:
            return [texts[choice]]
        count = self.data.captions_per_image
        chosen: list[Encoded | None] = list(rng.sample(texts, min(count, len(texts))))
        return chosen + [None] * (count - len(chosen))


def collate(items: Sequence[Row], pad_id: int) -> Batch:
    """Rows of different lengths become one batch, padded on the right; images that cannot be read are listed."""
    good = [item for item in items if isinstance(item, Item)]
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
    labels = lm_labels(ids, mask, torch.tensor([length for _, length in rows]))
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


@dataclass(frozen=True)
class BatchSampler:
    """Which rows make which batch of which process: a new order every epoch, the last incomplete step dropped, as in the reference.

    The rows of a step depend on how many they are, not on how processes and accumulation divide them.
    """

    num_rows: int
    batch_size: int
    seed: int
    grad_accum_steps: int = 1
    world_size: int = 1
    rank: int = 0

    @property
    def rows_per_step(self) -> int:
        """Rows of a step, over all processes."""
        return self.batch_size * self.grad_accum_steps * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; data smaller than a step make one."""
        return max(1, self.num_rows // self.rows_per_step)

    def keys(self, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
        """Keys of this process's batches in steps `start` to `stop` of the run, epoch after epoch; batches of little data may be empty."""
        for epoch in range(start // self.steps_per_epoch, math.ceil(stop / self.steps_per_epoch)):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_rows)
            before = epoch * self.steps_per_epoch
            for step in range(max(start - before, 0), min(stop - before, self.steps_per_epoch)):
                rows = order[step * self.rows_per_step : (step + 1) * self.rows_per_step]
                for number in range(
                    self.rank, self.grad_accum_steps * self.world_size, self.world_size
                ):
                    yield [
                        (epoch, int(row))
                        for row in rows[number * self.batch_size : (number + 1) * self.batch_size]
                    ]


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
