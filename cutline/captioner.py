"""The object users hold: images in, captions out."""

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.checkpoint import build_model, load_checkpoint
from cutline.config import (
    CaptionConfig,
    Engine,
    GenerationConfig,
    GenerationKwargs,
    InferencePrecision,
)
from cutline.device import pick_device, pick_precision
from cutline.engine import CudaGraphStep, prepare_model
from cutline.errors import ConfigError, ImageError
from cutline.generation import (
    Hypothesis,
    NewRequests,
    Prompts,
    check_prompt_length,
    generate_stream,
    make_search,
)
from cutline.image import ImageSource, normalize, open_image, prefetch_images, to_pixels
from cutline.model import CaptionModel
from cutline.model.cache import TextCache
from cutline.tokenizer import Tokenizer

MAX_ENCODE_BATCH = 4  # images, on a CPU: more gain nothing, and take memory


@dataclass(frozen=True)
class Caption:
    """One caption of one image."""

    text: str
    score: float
    """sum of log-probabilities / length ** length_penalty; what length counts is `beam_scoring`'s choice"""
    token_ids: tuple[int, ...]
    """what was generated: no prompt, no [SEP], no padding"""
    alternatives: tuple["Caption", ...] = field(default=(), compare=False, repr=False)
    """all `num_captions` captions of the image, best first, this one included"""


@dataclass(frozen=True)
class CaptionScore:
    """How likely a given caption is."""

    log_prob: float
    """log-likelihood of the caption, [SEP] included, given image and prompt"""
    token_log_probs: tuple[float, ...]
    """that of each token given those before it; they sum to `log_prob`"""
    token_ids: tuple[int, ...]
    """the tokens: no prompt, [SEP] included"""


class Captioner:
    """A model with its vocabulary, on a device, ready to caption."""

    def __init__(
        self,
        model: CaptionModel,
        tokenizer: Tokenizer,
        device: str = "auto",
        precision: InferencePrecision = "auto",
        engine: Engine = "plain",
    ) -> None:
        """Move `model` to `device`, in `precision`, and unless `engine` is "plain" make it one that can only be run.

        Raises:
            ConfigError: a device that is not there, or settings that do not go together.
        """
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.dtype = prepare_model(model, self.device, self.precision, engine)
        self.model = model
        self.tokenizer = tokenizer
        self._spare_caches: list[TextCache] = []
        recorded = engine != "plain" and self.device.type == "cuda"
        self._step: Callable[[Tensor, TextCache], Tensor] = (
            CudaGraphStep(model.step) if recorded else model.step
        )

    @property
    def config(self) -> CaptionConfig:
        """The model's sizes and its prompt."""
        return self.model.config

    def caption(
        self,
        images: ImageSource | Sequence[ImageSource],
        prompt: str | Sequence[str] | None = None,
        *,
        batch_size: int = 8,
        workers: int = 0,
        **settings: Unpack[GenerationKwargs],
    ) -> list[Caption]:
        """Caption images: one `Caption` per image, in order.

        Args:
            images: a path, bytes, PIL image or (H, W, 3) uint8 array, or a sequence of them.
            prompt: what the captions begin with; one for all, or one per image (default: the model's own).
            batch_size: images that are captioned together.
            workers: processes that open images; 0 for threads of this one.
            settings: any field of `GenerationConfig`, such as num_beams=5 or sample=True.

        Raises:
            ImageError: an image cannot be read; it says which.
            ConfigError: a setting makes no sense.
        """
        pictures = as_list(images)
        prompts = prompt if prompt is None or isinstance(prompt, str) else list(prompt)
        if isinstance(prompts, list) and len(prompts) != len(pictures):
            raise ConfigError(
                f"{len(prompts)} prompts for {len(pictures)} images: give one for all, or one for each"
            )
        captions = []
        batch_size = min(batch_size, max(1, len(pictures)))
        for result in self.stream(
            pictures, prompts, batch_size=batch_size, workers=workers, **settings
        ):
            if isinstance(result, ImageError):
                raise result
            captions.append(result)
        return captions

    def stream(
        self,
        images: Iterable[ImageSource],
        prompt: str | Iterable[str] | None = None,
        *,
        batch_size: int = 8,
        workers: int = 0,
        **settings: Unpack[GenerationKwargs],
    ) -> Iterator[Caption | ImageError]:
        """Caption any number of images as they come: in order, a `Caption` each, or the `ImageError` of one that cannot be read.

        The next images are opened while these are captioned, and take the places of those that are done.
        workers: processes that open images; 0 for threads of this one. Processes pay off where a GPU waits for images; a
        script that asks for them needs `if __name__ == "__main__":`.
        """
        config = GenerationConfig(**settings)
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size} is below 1")
        if workers < 0:
            raise ConfigError(f"workers {workers} is below 0")
        positions = self.config.text.max_positions
        if config.max_length > positions:
            raise ConfigError(
                f"max_length {config.max_length} is above the {positions} positions of the model: lower it"
            )
        given = self.config.prompt if prompt is None else prompt
        prompts = itertools.repeat(given) if isinstance(given, str) else iter(given)
        return self._stream(pair(images, prompts), batch_size, config, workers)

    @torch.inference_mode()
    def _stream(
        self,
        pairs: Iterator[tuple[ImageSource, str]],
        batch_size: int,
        config: GenerationConfig,
        workers: int,
    ) -> Iterator[Caption | ImageError]:
        at_once = (
            min(batch_size, MAX_ENCODE_BATCH)
            if self.device.type == "cpu"
            else max(1, batch_size // 2)
        )
        cache = self._take_cache(batch_size, config)
        results: dict[int, Caption | ImageError] = {}  # what is known, until its turn comes
        turn = 0
        with closing(
            prefetch_images(pairs, self.config.vision.image_size, 2 * batch_size, workers)
        ) as reading:
            numbered = enumerate(reading)

            def admit(count: int) -> NewRequests[TextCache] | None:
                batch: list[tuple[int, Tensor, str]] = []
                for number, (pixels, prompt) in numbered:
                    if isinstance(pixels, ImageError):
                        results[number] = pixels
                    else:
                        batch.append((number, pixels, prompt))
                    if len(batch) == count:
                        break
                return self._arrivals(batch, config, cache) if batch else None

            for number, hypotheses in generate_stream(
                self._step, admit, partial(make_search, config), batch_size, at_once, cache
            ):
                results[number] = self._to_caption(hypotheses)
                while turn in results:
                    yield results.pop(turn)
                    turn += 1
            yield from (results[rest] for rest in sorted(results))
        self._spare_caches = [cache]

    def _take_cache(self, places: int, config: GenerationConfig) -> TextCache:
        """The cache of the last images, if it fits and no one else has it, else a new one: fresh memory takes its time."""
        beams = config.num_captions if config.sample else config.num_beams
        try:
            cache = self._spare_caches.pop()  # one step, so that two threads never get the same
        except IndexError:
            return self.model.new_cache(places, config.max_length)
        if cache.ancestry.shape == (places, beams, config.max_length):
            return cache
        del cache
        return self.model.new_cache(places, config.max_length)

    def _arrivals(
        self, batch: list[tuple[int, Tensor, str]], config: GenerationConfig, host: TextCache
    ) -> NewRequests[TextCache]:
        """Images, encoded, with their numbers, their prompts and the seeds of their captions."""
        numbers, pixels, texts = zip(*batch, strict=True)
        prompts = self._prompts(list(texts))
        check_prompt_length(prompts, config)
        cache = self.model.start(
            self.encode(torch.stack(pixels)), config.max_length, prompts.attention_mask, host
        )
        # seeded by the image itself, so that its captions are the same in any batch
        seeds = (
            [zlib.crc32(each.numpy().tobytes(), config.seed) for each in pixels]
            if config.sample
            else None
        )
        return NewRequests(numbers, cache, prompts, seeds)

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, 3, S, S) -> image_embeds (B, N, D)."""
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()  # copied while the GPU is still busy
        embeds: Tensor = self.model.vision(
            normalize(pixels.to(self.device, non_blocking=True), self.config.image).to(self.dtype)
        )
        return embeds

    def _prompts(self, texts: list[str]) -> Prompts:
        """Prompts of different lengths, padded on the left so that all end at the same place."""
        rows = [torch.tensor(self.tokenizer.encode_prompt(text)[::-1]) for text in texts]
        ids = pad_sequence(rows, batch_first=True, padding_value=-1).flip(1)
        mask = ids >= 0
        return Prompts(
            ids.where(mask, self.tokenizer.pad_id).to(self.device),
            mask.to(self.device),
            self.tokenizer.sep_id,
        )

    def _to_caption(self, hypotheses: list[Any]) -> Caption:
        every = tuple(
            Caption(self.tokenizer.decode(h.token_ids), h.score, h.token_ids) for h in hypotheses
        )
        return Caption(every[0].text, every[0].score, every[0].token_ids, every)

    @torch.inference_mode()
    def score(
        self,
        images: ImageSource | Sequence[ImageSource],
        captions: str | Sequence[str],
        prompt: str | None = None,
    ) -> list[CaptionScore]:
        """The log-likelihood of captions, given their images and the prompt.

        Args:
            images: one per caption, or one for all of them.
            captions: used as they are, without cleaning.
            prompt: what comes before each caption and is not scored (default: the model's own).

        Raises:
            ImageError: an image cannot be read.
            ConfigError: the numbers of images and captions do not fit, or a caption is too long for the model.
        """
        pictures, texts = (
            as_list(images),
            [captions] if isinstance(captions, str) else list(captions),
        )
        if not texts:
            return []
        if len(pictures) not in (1, len(texts)):
            raise ConfigError(
                f"{len(pictures)} images and {len(texts)} captions: give as many of both, or one image"
            )
        if len(pictures) == len(texts):
            return [
                self._score(image, [text], prompt)[0]
                for image, text in zip(pictures, texts, strict=True)
            ]
        return self._score(pictures[0], texts, prompt)

    def _score(
        self, image: ImageSource, texts: list[str], prompt: str | None
    ) -> list[CaptionScore]:
        limit = self.config.text.max_positions
        encoded = [
            self.tokenizer.encode(text, self.config.prompt if prompt is None else prompt, limit + 1)
            for text in texts
        ]
        if any(len(ids) > limit for ids, _ in encoded):
            raise ConfigError(
                f"a caption is longer than the {limit} tokens that the model has positions for: shorten it"
            )
        ids = pad_sequence([torch.tensor(ids) for ids, _ in encoded], batch_first=True).to(
            self.device
        )  # (R, T)
        image_embeds = self.encode(
            to_pixels(open_image(image), self.config.vision.image_size)[None]
        )
        logits = self.model.text.compute_logits(
            self.model.text(ids, None, image_embeds)
        ).float()  # causal: padding on the right is unseen
        log_probs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].tolist()
        scores = []
        for row, (tokens, start) in zip(log_probs, encoded, strict=True):
            kept = tuple(row[start - 1 : len(tokens) - 1])
            scores.append(CaptionScore(sum(kept), kept, tuple(tokens[start:])))
        return scores


def pair(
    images: Iterable[ImageSource], prompts: Iterator[str]
) -> Iterator[tuple[ImageSource, str]]:
    """Each image with its prompt. Raises ConfigError where prompts run out."""
    for image in images:
        prompt = next(prompts, None)
        if prompt is None:
            raise ConfigError(
                "there are fewer prompts than images: give one for all, or one for each"
            )
        yield image, prompt


def as_list(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    """One image or many -> a list of them."""
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    return [images]


def load(
    path: str | Path,
    device: str = "auto",
    precision: InferencePrecision = "auto",
    *,
    engine: Engine = "packed",
    config: str | Path | CaptionConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
) -> Captioner:
    """Load a captioner.

    Args:
        path: a hub id, a Salesforce .pth, a Hugging Face folder, a cutline folder or a training run.
        device: "cpu", "cuda", or "auto" for the best there is.
        precision: "fp32", "bf16", "int8" (on CPUs), or "auto" for bf16 where the processor is fast at it, else fp32.
        engine: "packed", weights laid out for the processor; "compiled" or "openvino" for another encoder; "plain" for a model
            that can still be trained or saved.
        config: sizes of a .pth, which carries none: a preset (base, large, tiny), a CaptionConfig or a JSON file.
        tokenizer: vocabulary of a .pth, which carries none: vocab.txt or tokenizer.json.
        image_size: another image size, in pixels; positions are interpolated.

    Raises:
        CheckpointError: the weights cannot be had, or do not fit.
        ConfigError: a setting makes no sense.
    """
    checkpoint = load_checkpoint(path, config, tokenizer, image_size)
    model, vocabulary = build_model(checkpoint), checkpoint.tokenizer
    del checkpoint  # its weights may go once they are laid out anew
    return Captioner(model, vocabulary, device, precision, engine)
