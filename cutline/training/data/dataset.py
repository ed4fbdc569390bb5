"""Training examples: images opened and augmented, captions cleaned and tokenized.

An example depends only on the seed, the epoch and its index, so that a resumed run reads what an
uninterrupted run would have read.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cutline.config import DataConfig
from cutline.data import Sample
from cutline.errors import ConfigError, CutlineError, DataError, ImageError
from cutline.image import augment, open_image, to_pixels
from cutline.tokenizer import Tokenizer, clean_caption
from cutline.training.data.embeddings import Embedding

Encoded = tuple[list[int], int]
"""token ids of prompt and caption, and the number of prompt tokens"""
NO_PIXELS = torch.empty(3, 0, 0, dtype=torch.uint8)


@dataclass(frozen=True)
class Example:
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
    Example | str | CutlineError
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

    def read(self, key: tuple[int, int]) -> Example | str:
        """The row, or one sentence on why its image cannot be read."""
        epoch, row = key
        index, choice = self.rows[row]
        rng = random.Random(f"{self.seed} {epoch} {row}")
        if self.embeddings:
            kept = self.embeddings[index]
            return (
                kept
                if isinstance(kept, str)
                else Example(
                    NO_PIXELS, self._choose(self.captions[index], choice, rng), kept.read()
                )
            )
        try:
            image = self._open(index)
        except ImageError as error:
            return str(error)
        return Example(self._pixels(image, rng), self._choose(self.captions[index], choice, rng))

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
