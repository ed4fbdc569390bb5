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
from cutline.tokenizer import EncodedText, Tokenizer, clean_caption
from cutline.training.data.embedding_store import Embedding

NO_PIXELS = torch.empty(3, 0, 0, dtype=torch.uint8)
"""pixels of an example whose embedding is cached"""


@dataclass(frozen=True)
class Example:
    """An image with K captions."""

    pixels: Tensor
    """(3, S, S) uint8; S is 0 if there are image_embeds"""
    captions: list[EncodedText | None]
    """None is padding, for an image with fewer than K captions; it is not scored"""
    image_embeds: Tensor | None = None
    """(N, D), if they are cached"""
    id: str = ""
    """id of the sample"""
    all_captions: Sequence[EncodedText] = ()
    """all captions of the sample"""
    references: Sequence[str] = ()
    """all captions of the sample, as they are in the data"""
    seed: int = 0
    """seed of the captions that are sampled for it, in this epoch"""


ExampleOrError = Example | str | CutlineError
"""an example, a message about its image that cannot be read, or an error that ends the run"""


def encode_captions(
    samples: Sequence[Sample], tokenizer: Tokenizer, data: DataConfig, prompt: str | None
) -> list[list[EncodedText]]:
    """Clean and tokenize the captions of each sample.

    Args:
        samples: Samples with their captions.
        tokenizer: Vocabulary of the model.
        data: How captions are cleaned and truncated.
        prompt: Prompt of the samples without one of their own; None if no text has a prompt.

    Returns:
        The captions of each sample; those that are empty after cleaning are dropped.
    """
    encoded = []
    for sample in samples:
        texts = [clean_caption(caption, data.clean, data.max_words) for caption in sample.captions]
        texts = [text for text in texts if text]
        own_prompt = "" if prompt is None else sample.prompt_or(prompt)
        prompts = [own_prompt] * len(texts)
        encoded.append(tokenizer.encode_batch(texts, prompts, data.max_tokens))
    return encoded


def check_caption_room(texts: Sequence[EncodedText], max_tokens: int) -> None:
    """Raise ConfigError if the prompt of every text fills `max_tokens`, but for [SEP]."""
    if not any(text.has_targets for text in texts):
        raise ConfigError(
            f"data.max_tokens {max_tokens} leaves no room for a caption after the prompt: "
            "raise it, or shorten the prompt"
        )


class CaptionDataset(Dataset[ExampleOrError]):
    """Training examples by key, which is (epoch, index)."""

    def __init__(
        self,
        samples: Sequence[Sample],
        captions: Sequence[list[EncodedText]],
        image_size: int,
        data: DataConfig,
        seed: int | str,
        augmented: bool = True,
    ) -> None:
        """Make one example of each caption, or of each image with `data.captions_per_image`.

        Args:
            samples: Samples, whose images are opened when they are needed.
            captions: Their captions, as `encode_captions` returns them. Samples without any are
                ignored.
            image_size: Side of the pixels.
            data: Augmentation, captions per image, caching.
            seed: Seed of the augmentation and of the choice of captions.
            augmented: Whether to augment images; otherwise they are only resized.

        Raises:
            DataError: No sample has a caption.
            ConfigError: The prompts leave no room for captions within `data.max_tokens`.
        """
        self.samples, self.captions = samples, captions
        self.image_size, self.data, self.seed, self.augmented = image_size, data, seed, augmented
        self.examples = [
            (sample_index, caption_index)
            for sample_index, encoded in enumerate(captions)
            for caption_index in self._list_caption_indices(encoded)
        ]
        """of each example, the indices of its sample and of its caption; None: sampled in each
        epoch"""
        if not self.examples:
            raise DataError(
                "no image has a caption that is not empty after cleaning: "
                "check the captions, `data.clean` and `data.caption_column`"
            )
        check_caption_room([text for encoded in captions for text in encoded], data.max_tokens)
        self.cache: dict[int, Image.Image] = {}
        self.embeddings: dict[int, Embedding | str] = {}
        """from `cutline.training.data.embeddings.cache_embeddings`; empty if there is no cache"""

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: tuple[int, int]) -> ExampleOrError:
        """Return an example, a message about its image, or an error, which is not raised.

        PyTorch would wrap an error raised in a worker process in one with its whole traceback.
        """
        try:
            return self.read(key)
        except CutlineError as error:
            return error

    def used_samples(self) -> dict[int, Sample]:
        """Return the samples that have examples, by index."""
        return {index: self.samples[index] for index, _ in self.examples}

    def read(self, key: tuple[int, int]) -> Example | str:
        """Return an example, or a message about its image that cannot be read.

        Raises:
            DataError: A cached embedding is gone.
        """
        epoch, index = key
        sample_index, caption_index = self.examples[index]
        rng = random.Random(f"{self.seed} {epoch} {index}")
        if self.embeddings:
            embedding = self.embeddings[sample_index]
            if isinstance(embedding, str):
                return embedding
            return self._make_example(NO_PIXELS, embedding.read(), sample_index, caption_index, rng)
        try:
            image = self._open(sample_index)
        except ImageError as error:
            return str(error)
        if self.augmented:
            image = augment(image, self.image_size, self.data, rng)
        pixels = to_pixels(image, self.image_size)
        return self._make_example(pixels, None, sample_index, caption_index, rng)

    def _make_example(
        self,
        pixels: Tensor,
        image_embeds: Tensor | None,
        sample_index: int,
        caption_index: int | None,
        rng: random.Random,
    ) -> Example:
        captions = self._choose_captions(sample_index, caption_index, rng)
        sample, all_captions = self.samples[sample_index], self.captions[sample_index]
        seed = rng.getrandbits(63)
        return Example(
            pixels, captions, image_embeds, sample.id, all_captions, sample.captions, seed
        )

    def _list_caption_indices(self, captions: list[EncodedText]) -> Sequence[int | None]:
        if self.data.captions_per_image == 0:
            return range(len(captions))
        return [None] if captions else []

    def _open(self, index: int) -> Image.Image:
        if index in self.cache:
            return self.cache[index]
        image = open_image(self.samples[index].image)
        if self.data.cache:
            self.cache[index] = image
        return image

    def _choose_captions(
        self, sample_index: int, caption_index: int | None, rng: random.Random
    ) -> list[EncodedText | None]:
        captions = self.captions[sample_index]
        if caption_index is not None:
            return [captions[caption_index]]
        count = self.data.captions_per_image
        sampled: list[EncodedText | None] = list(rng.sample(captions, min(count, len(captions))))
        return sampled + [None] * (count - len(sampled))
