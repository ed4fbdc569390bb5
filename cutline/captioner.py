"""`Captioner`, the main class of the package: images in, captions out."""

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.checkpoint import build_model, load_checkpoint
from cutline.config import (
    CaptionConfig,
    DeviceConfig,
    Engine,
    GenerationConfig,
    GenerationKwargs,
    InferenceConfig,
    InferencePrecision,
    reject_renamed_keywords,
)
from cutline.device import pick_device, pick_precision
from cutline.engine import CudaGraphStep, prepare_model
from cutline.errors import ConfigError, ImageError
from cutline.generation import (
    Hypothesis,
    NewRequests,
    Prompts,
    Step,
    check_prompt_length,
    generate_stream,
    make_search,
)
from cutline.image import ImageSource, normalize, open_image, prefetch_images, to_pixels
from cutline.model import CaptionModel
from cutline.model.cache import TextCache
from cutline.tokenizer import Tokenizer

MAX_ENCODE_BATCH = 4  # images encoded together on a CPU; more are not faster and need more memory


@dataclass(frozen=True)
class Caption:
    """One caption of one image."""

    text: str
    score: float
    """sum of log-probabilities / length ** length_penalty; `beam_scoring` defines the length"""
    token_ids: tuple[int, ...]
    """the generated tokens: no prompt, no [SEP], no padding"""
    alternatives: tuple["Caption", ...] = field(default=(), compare=False, repr=False)
    """all `num_captions` captions of the image, best first, this one included"""


@dataclass(frozen=True)
class CaptionScore:
    """The likelihood of a given caption."""

    log_prob: float
    """log-likelihood of the caption, [SEP] included, given image and prompt"""
    token_log_probs: tuple[float, ...]
    """log-likelihood of each token given those before it; their sum is `log_prob`"""
    token_ids: tuple[int, ...]
    """the tokens: no prompt, [SEP] included"""


class Captioner:
    """A model and its tokenizer, on a device, ready to caption.

    Attributes:
        model: The model, prepared for inference.
        tokenizer: Its tokenizer.
        device: The device of the model.
        precision: "fp32", "bf16" or "int8".
        dtype: The data type of the vision encoder's input.
    """

    def __init__(
        self,
        model: CaptionModel,
        tokenizer: Tokenizer,
        device: str = "auto",
        precision: InferencePrecision = "auto",
        engine: Engine = "eager",
    ) -> None:
        """Move `model` to `device` and prepare it for inference, in place.

        With any engine but "eager", the model can no longer be trained or saved.

        Raises:
            ConfigError: The device is not available, or the settings are incompatible.
        """
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.dtype = prepare_model(model, self.device, self.precision, engine)
        self.model = model
        self.tokenizer = tokenizer
        self._step: Step[TextCache] = model.step
        if engine != "eager" and self.device.type == "cuda":
            self._step = CudaGraphStep(model.step)
        self._idle_caches: list[TextCache] = []  # at most one, see _acquire_cache

    @property
    def config(self) -> CaptionConfig:
        """Return the model's sizes and its prompt."""
        return self.model.config

    def caption(
        self,
        images: ImageSource | Sequence[ImageSource],
        prompt: str | Sequence[str] | None = None,
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        **settings: Unpack[GenerationKwargs],
    ) -> list[Caption]:
        """Caption images.

        Args:
            images: A path, bytes, PIL image or (H, W, 3) uint8 array, or a sequence of them.
            prompt: The beginning of the captions: one for all, or one per image (default: the
                model's own).
            batch_size: Number of images captioned together.
            num_workers: Number of processes that open images; 0 for threads of this process.
            **settings: Fields of `GenerationConfig`, such as num_beams=5 or sample=True.

        Returns:
            One caption per image, in order.

        Raises:
            ImageError: An image cannot be read; the message names it.
            ConfigError: A setting is unknown or invalid.
        """
        image_list = to_image_list(images)
        prompts = prompt if prompt is None or isinstance(prompt, str) else list(prompt)
        if isinstance(prompts, list) and len(prompts) != len(image_list):
            raise ConfigError(
                f"there are {len(prompts)} prompts for {len(image_list)} images: "
                "give one prompt for all images, or one per image"
            )
        captions = []
        # A cache for fewer images than `batch_size` needs less memory.
        batch_size = min(batch_size, max(1, len(image_list)))
        for result in self.stream(
            image_list, prompts, batch_size=batch_size, num_workers=num_workers, **settings
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
        num_workers: int = 0,
        **settings: Unpack[GenerationKwargs],
    ) -> Iterator[Caption | ImageError]:
        """Caption any number of images, lazily.

        Images are opened in the background and captioned by continuous batching: a finished image
        leaves the batch at once, and the next one takes its slot.

        Args:
            images: Any iterable of images.
            prompt: As for `caption`, or any iterable of prompts.
            batch_size: Number of images captioned together.
            num_workers: Number of processes that open images; 0 for threads of this process.
                Processes help where a GPU waits for images; a script that uses them needs
                `if __name__ == "__main__":`.
            **settings: Fields of `GenerationConfig`, such as num_beams=5 or sample=True.

        Returns:
            An iterator over the results in order: a `Caption`, or the `ImageError` of an image that
            cannot be read.

        Raises:
            ConfigError: A setting is unknown or invalid.
        """
        names = [setting.name for setting in fields(GenerationConfig)]
        reject_renamed_keywords(settings, ("prompt", "batch_size", "num_workers", *names))
        generation = GenerationConfig(**settings)
        inference = InferenceConfig(batch_size=batch_size, num_workers=num_workers)  # checks both
        positions = self.config.text.max_positions
        if generation.max_length > positions:
            raise ConfigError(
                f"max_length {generation.max_length} is above the model's {positions} positions: "
                "lower max_length"
            )
        prompt = self.config.prompt if prompt is None else prompt
        prompts = itertools.repeat(prompt) if isinstance(prompt, str) else iter(prompt)
        return self._stream(pair_prompts(images, prompts), generation, inference)

    @torch.inference_mode()
    def _stream(
        self,
        pairs: Iterator[tuple[ImageSource, str]],
        generation: GenerationConfig,
        inference: InferenceConfig,
    ) -> Iterator[Caption | ImageError]:
        # Images are decoded in the background, up to two batches ahead. Whenever slots are free,
        # `next_requests` encodes the next images and passes them to the search. Images finish in
        # any order, so each caption waits in `results` until all earlier ones have been yielded.
        slots = inference.batch_size
        max_prefill = max(1, slots // 2)
        if self.device.type == "cpu":
            max_prefill = min(slots, MAX_ENCODE_BATCH)
        cache = self._acquire_cache(slots, generation)
        prefetched = prefetch_images(
            pairs, self.config.vision.image_size, 2 * slots, inference.num_workers
        )
        results: dict[int, Caption | ImageError] = {}
        next_index = 0
        with closing(prefetched):
            numbered_images = enumerate(prefetched)

            def next_requests(limit: int) -> NewRequests[TextCache] | None:
                batch: list[tuple[int, Tensor, str]] = []
                for index, (pixels, prompt) in numbered_images:
                    if isinstance(pixels, ImageError):
                        results[index] = pixels
                    else:
                        batch.append((index, pixels, prompt))
                    if len(batch) == limit:
                        break
                return self._make_requests(batch, generation, cache) if batch else None

            for index, hypotheses in generate_stream(
                self._step,
                next_requests,
                partial(make_search, generation),
                slots,
                max_prefill,
                cache,
            ):
                results[index] = self._decode(hypotheses)
                while next_index in results:
                    yield results.pop(next_index)
                    next_index += 1
            yield from (results[index] for index in sorted(results))
        self._idle_caches = [cache]  # all images have left it

    def _acquire_cache(self, slots: int, generation: GenerationConfig) -> TextCache:
        """Return the cache of the last call if it has the same shape and is idle, else a new one.

        Reuse saves allocating its memory and, on a GPU, capturing its CUDA graph again. `list.pop`
        is atomic, so that two threads never get the same cache.
        """
        num_beams = generation.num_captions if generation.sample else generation.num_beams
        try:
            cache = self._idle_caches.pop()
        except IndexError:
            return self.model.new_cache(slots, generation.max_length)
        if cache.ancestry.shape == (slots, num_beams, generation.max_length):
            return cache
        del cache  # free its memory first
        return self.model.new_cache(slots, generation.max_length)

    def _make_requests(
        self,
        batch: list[tuple[int, Tensor, str]],
        generation: GenerationConfig,
        target_cache: TextCache,
    ) -> NewRequests[TextCache]:
        """Encode images, given with their index and prompt, into free slots of `target_cache`."""
        indices, pixels, prompt_texts = zip(*batch, strict=True)
        prompts = self._encode_prompts(prompt_texts)
        check_prompt_length(prompts, generation)
        image_embeds = self.encode_images(torch.stack(pixels))
        cache = self.model.prefill_images(
            image_embeds, generation.max_length, prompts.attention_mask, target_cache
        )
        # Each seed depends on the image, so that its captions are the same in any batch.
        seeds = None
        if generation.sample:
            seeds = [zlib.crc32(image.numpy().tobytes(), generation.seed) for image in pixels]
        return NewRequests(indices, cache, prompts, seeds)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return the image_embeds (B, N, D) of uint8 pixels (B, 3, S, S)."""
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()  # the copy then overlaps with work of the GPU
        pixels = pixels.to(self.device, non_blocking=True)
        embeds: Tensor = self.model.vision(normalize(pixels, self.config.image).to(self.dtype))
        return embeds

    def _encode_prompts(self, prompt_texts: Sequence[str]) -> Prompts:
        """Return the tokens of prompts, padded on the left."""
        rows = [torch.tensor(self.tokenizer.encode_prompt(text)) for text in prompt_texts]
        ids = pad_sequence(rows, batch_first=True, padding_value=-1, padding_side="left")  # (B, T)
        mask = ids >= 0
        ids = ids.where(mask, self.tokenizer.pad_id)
        return Prompts(ids.to(self.device), mask.to(self.device), self.tokenizer.sep_id)

    def _decode(self, hypotheses: list[Hypothesis]) -> Caption:
        """Return the caption of an image, given its hypotheses, best first."""
        captions = tuple(
            Caption(
                self.tokenizer.decode(hypothesis.token_ids), hypothesis.score, hypothesis.token_ids
            )
            for hypothesis in hypotheses
        )
        return replace(captions[0], alternatives=captions)

    @torch.inference_mode()
    def score(
        self,
        images: ImageSource | Sequence[ImageSource],
        captions: str | Sequence[str],
        prompt: str | None = None,
    ) -> list[CaptionScore]:
        """Compute the log-likelihood of captions, given their images and the prompt.

        Args:
            images: One per caption, or one for all of them.
            captions: Used as they are, without cleaning.
            prompt: The text before each caption, which is not scored (default: the model's own).

        Returns:
            One score per caption, in order.

        Raises:
            ImageError: An image cannot be read.
            ConfigError: The numbers of images and captions differ, or a caption is too long.
        """
        image_list = to_image_list(images)
        texts = [captions] if isinstance(captions, str) else list(captions)
        if not texts:
            return []
        if len(image_list) not in (1, len(texts)):
            raise ConfigError(
                f"there are {len(image_list)} images and {len(texts)} captions: "
                "give one image per caption, or one image for all"
            )
        if len(image_list) == 1:
            return self._score(image_list[0], texts, prompt)
        pairs = zip(image_list, texts, strict=True)
        return [self._score(image, [text], prompt)[0] for image, text in pairs]

    def _score(
        self, image: ImageSource, texts: list[str], prompt: str | None
    ) -> list[CaptionScore]:
        """Score R captions of one image."""
        limit = self.config.text.max_positions
        prompt = self.config.prompt if prompt is None else prompt
        # One token more than fits, so that a caption that is too long is noticed.
        encoded = [self.tokenizer.encode(text, prompt, limit + 1) for text in texts]
        for text, (token_ids, _) in zip(texts, encoded, strict=True):
            if len(token_ids) > limit:
                raise ConfigError(
                    f"the caption {text[:60]!r} with its prompt is longer than the model's {limit} "
                    "positions: shorten it"
                )
        rows = [torch.tensor(token_ids) for token_ids, _ in encoded]
        ids = pad_sequence(rows, batch_first=True).to(self.device)  # (R, T)
        pixels = to_pixels(open_image(image), self.config.vision.image_size)
        # Attention is causal, so padding on the right needs no mask.
        hidden = self.model.text(ids, None, self.encode_images(pixels[None]))
        logits = self.model.text.compute_logits(hidden).float()[:, :-1]  # (R, T - 1, V)
        log_probs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        scores = []
        for row, (tokens, prompt_length) in zip(log_probs.tolist(), encoded, strict=True):
            # row[i] scores token i + 1, so the first token after the prompt is scored by
            # row[prompt_length - 1].
            token_log_probs = tuple(row[prompt_length - 1 : len(tokens) - 1])
            scores.append(
                CaptionScore(sum(token_log_probs), token_log_probs, tuple(tokens[prompt_length:]))
            )
        return scores


def pair_prompts(
    images: Iterable[ImageSource], prompts: Iterator[str]
) -> Iterator[tuple[ImageSource, str]]:
    """Yield each image with its prompt.

    Raises:
        ConfigError: There are fewer prompts than images.
    """
    for image in images:
        prompt = next(prompts, None)
        if prompt is None:
            raise ConfigError(
                "there are fewer prompts than images: "
                "give one prompt for all images, or one per image"
            )
        yield image, prompt


def to_image_list(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    """Return a list of images, given one image, a sequence of images or a (B, H, W, 3) array."""
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
        path: A hub id, a .pth file of BLIP, a Hugging Face folder, a cutline folder or a training
            run.
        device: "cpu", "cuda", "cuda:1" or "mps"; "auto" is CUDA if available, else the CPU.
        precision: "fp32", "bf16" or "int8" (CPU only); "auto" is bf16 where the hardware has native
            bf16, else fp32.
        engine: "packed" repacks the weights for a CPU, and runs decoding steps as CUDA graphs on a
            GPU; "compiled" also compiles the vision encoder with torch.compile; "openvino" (CPU
            only) also runs it in OpenVINO; "eager" leaves the model as it is, so that it can be
            trained or saved.
        config: Sizes of a .pth, which does not contain them: a preset (base, large, tiny), a
            `CaptionConfig` or a JSON file (default: inferred from the weights).
        tokenizer: Vocabulary of a .pth, which does not contain one: vocab.txt or tokenizer.json.
        image_size: Another image size in pixels; position embeddings are interpolated.

    Returns:
        The captioner, on its device.

    Raises:
        CheckpointError: The weights cannot be read or do not fit.
        ConfigError: A setting is invalid.
    """
    DeviceConfig(device, precision, engine)  # checks names before any weights are read
    checkpoint = load_checkpoint(path, config, tokenizer, image_size)
    model, loaded_tokenizer = build_model(checkpoint), checkpoint.tokenizer
    del checkpoint  # so that each weight is freed once it is repacked
    return Captioner(model, loaded_tokenizer, device, precision, engine)
