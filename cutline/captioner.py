"""The object users hold: pictures in, captions out."""

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cutline.checkpoint import build_model, load_checkpoint
from cutline.config import CaptionConfig, GenerationConfig, GenerationSettings, Precision
from cutline.device import pick_device, pick_precision
from cutline.errors import ConfigError, ImageError
from cutline.generation import Prompts, generate, require_room
from cutline.image import ImageSource, normalize, open_image, to_pixels
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer


@dataclass(frozen=True)
class Caption:
    """One caption of one picture."""

    text: str
    score: float
    """sum of log-probabilities / length ** length_penalty; what length counts is `beam_scoring`'s choice"""
    token_ids: tuple[int, ...]
    """what was generated: no prompt, no [SEP], no padding"""
    alternatives: tuple["Caption", ...] = field(default=(), compare=False, repr=False)
    """all `num_captions` captions of the picture, best first, this one included"""


@dataclass(frozen=True)
class CaptionScore:
    """How likely a given caption is."""

    log_prob: float
    """log-likelihood of the caption, [SEP] included, given picture and prompt"""
    token_log_probs: tuple[float, ...]
    """that of each token given those before it; they sum to `log_prob`"""
    token_ids: tuple[int, ...]
    """the tokens: no prompt, [SEP] included"""


class Captioner:
    """A model with its vocabulary, on a device, ready to caption."""

    def __init__(self, model: CaptionModel, tokenizer: Tokenizer, device: str = "auto", precision: Precision = "auto") -> None:
        """Move `model` to `device`, in `precision`. Raises ConfigError for a device that is not there."""
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.model = model.to(self.device, self.dtype).eval()
        self.tokenizer = tokenizer

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
        **settings: Unpack[GenerationSettings],
    ) -> list[Caption]:
        """Caption pictures: one `Caption` per picture, in order.

        Args:
            images: a path, bytes, PIL image or (H, W, 3) uint8 array, or a sequence of them.
            prompt: what the captions begin with; one for all, or one per picture (default: the model's own).
            batch_size: pictures per batch.
            settings: any field of `GenerationConfig`, such as num_beams=5 or sample=True.

        Raises:
            ImageError: a picture cannot be read; it says which.
            ConfigError: a setting makes no sense.
        """
        pictures = as_list(images)
        prompts = prompt if prompt is None or isinstance(prompt, str) else list(prompt)
        if isinstance(prompts, list) and len(prompts) != len(pictures):
            raise ConfigError(f"{len(prompts)} prompts for {len(pictures)} pictures: give one for all, or one for each")
        captions = []
        for result in self.stream(pictures, prompts, batch_size=batch_size, **settings):
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
        **settings: Unpack[GenerationSettings],
    ) -> Iterator[Caption | ImageError]:
        """Caption any number of pictures as they come: in order, a `Caption` each, or the `ImageError` of one that cannot be read.

        The next batch is opened while the last one is captioned.
        """
        config = GenerationConfig(**settings)
        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size} is below 1")
        positions = self.config.text.max_positions
        if config.max_length > positions:
            raise ConfigError(f"max_length {config.max_length} is above the {positions} positions of the model: lower it")
        given = self.config.prompt if prompt is None else prompt
        prompts = itertools.repeat(given) if isinstance(given, str) else iter(given)
        return self._stream(pair(images, prompts), batch_size, config)

    def _stream(
        self, pairs: Iterator[tuple[ImageSource, str]], batch_size: int, config: GenerationConfig
    ) -> Iterator[Caption | ImageError]:
        with ThreadPoolExecutor(max_workers=2) as pool:

            def submit() -> list[tuple[Future[Tensor | ImageError], str]]:
                batch = itertools.islice(pairs, batch_size)
                return [(pool.submit(self._read, source), prompt) for source, prompt in batch]

            coming = submit()
            try:
                while coming:
                    now = [(future.result(), prompt) for future, prompt in coming]
                    coming = submit()
                    yield from self._caption_batch(now, config)
            finally:
                for future, _ in coming:
                    future.cancel()

    def _read(self, source: ImageSource) -> Tensor | ImageError:
        try:
            return to_pixels(open_image(source), self.config.vision.image_size)
        except ImageError as error:
            return error

    @torch.inference_mode()
    def _caption_batch(self, batch: list[tuple[Tensor | ImageError, str]], config: GenerationConfig) -> list[Caption | ImageError]:
        good = [(pixels, prompt) for pixels, prompt in batch if isinstance(pixels, Tensor)]
        if not good:
            return [pixels for pixels, _ in batch if isinstance(pixels, ImageError)]
        prompts = self._prompts([prompt for _, prompt in good])
        require_room(prompts, config)
        image_embeds = self.encode(torch.stack([pixels for pixels, _ in good]))
        cache = self.model.start(image_embeds, config.max_length - int(prompts.lengths.min()) + prompts.ids.shape[1], prompts.mask)
        # seeded by the picture itself, so that its captions are the same in any batch
        seeds = [zlib.crc32(pixels.numpy().tobytes(), config.seed) for pixels, _ in good] if config.sample else None
        found = iter(generate(self.model.step, cache, prompts, config, seeds))
        return [pixels if isinstance(pixels, ImageError) else self._to_caption(next(found)) for pixels, _ in batch]

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (B, 3, S, S) -> image_embeds (B, N, D)."""
        embeds: Tensor = self.model.vision(normalize(pixels.to(self.device), self.config.image).to(self.dtype))
        return embeds

    def _prompts(self, texts: list[str]) -> Prompts:
        """Prompts of different lengths, padded on the left so that all end at the same place."""
        rows = [torch.tensor(self.tokenizer.encode_prompt(text)[::-1]) for text in texts]
        ids = pad_sequence(rows, batch_first=True, padding_value=-1).flip(1)
        mask = ids >= 0
        return Prompts(ids.where(mask, self.tokenizer.pad_id).to(self.device), mask.to(self.device), self.tokenizer.sep_id)

    def _to_caption(self, hypotheses: list[Any]) -> Caption:
        every = tuple(Caption(self.tokenizer.decode(h.token_ids), h.score, h.token_ids) for h in hypotheses)
        return Caption(every[0].text, every[0].score, every[0].token_ids, every)

    @torch.inference_mode()
    def score(
        self, images: ImageSource | Sequence[ImageSource], captions: str | Sequence[str], prompt: str | None = None
    ) -> list[CaptionScore]:
        """The log-likelihood of captions, given their pictures and the prompt.

        Args:
            images: one per caption, or one for all of them.
            captions: used as they are, without cleaning.
            prompt: what comes before each caption and is not scored (default: the model's own).

        Raises:
            ImageError: a picture cannot be read.
            ConfigError: the numbers of pictures and captions do not fit, or a caption is too long for the model.
        """
        pictures, texts = as_list(images), [captions] if isinstance(captions, str) else list(captions)
        if not texts:
            return []
        if len(pictures) not in (1, len(texts)):
            raise ConfigError(f"{len(pictures)} pictures and {len(texts)} captions: give as many of both, or one picture")
        if len(pictures) == len(texts):
            return [self._score(image, [text], prompt)[0] for image, text in zip(pictures, texts, strict=True)]
        return self._score(pictures[0], texts, prompt)

    def _score(self, image: ImageSource, texts: list[str], prompt: str | None) -> list[CaptionScore]:
        limit = self.config.text.max_positions
        encoded = [self.tokenizer.encode(text, self.config.prompt if prompt is None else prompt, limit + 1) for text in texts]
        if any(len(ids) > limit for ids, _ in encoded):
            raise ConfigError(f"a caption is longer than the {limit} tokens that the model has positions for: shorten it")
        ids = pad_sequence([torch.tensor(ids) for ids, _ in encoded], batch_first=True).to(self.device)  # (R, T)
        image_embeds = self.encode(to_pixels(open_image(image), self.config.vision.image_size)[None])
        logits = self.model.text.logits(self.model.text(ids, None, image_embeds)).float()  # causal: padding on the right is unseen
        log_probs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].tolist()
        scores = []
        for row, (tokens, start) in zip(log_probs, encoded, strict=True):
            kept = tuple(row[start - 1 : len(tokens) - 1])
            scores.append(CaptionScore(sum(kept), kept, tuple(tokens[start:])))
        return scores


def pair(images: Iterable[ImageSource], prompts: Iterator[str]) -> Iterator[tuple[ImageSource, str]]:
    """Each picture with its prompt. Raises ConfigError where prompts run out."""
    for image in images:
        prompt = next(prompts, None)
        if prompt is None:
            raise ConfigError("there are fewer prompts than pictures: give one for all, or one for each")
        yield image, prompt


def as_list(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    """One picture or many -> a list of them."""
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    return [images]


def load(
    path: str | Path,
    device: str = "auto",
    precision: Precision = "auto",
    *,
    config: str | Path | CaptionConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
) -> Captioner:
    """Load a captioner.

    Args:
        path: a hub id, a Salesforce .pth, a Hugging Face folder, a cutline folder or a training run.
        device: "cpu", "cuda", or "auto" for the best there is.
        precision: "fp32", "bf16", or "auto" for bf16 where the processor is fast at it.
        config: sizes of a .pth, which carries none: a preset (base, large, tiny), a CaptionConfig or a JSON file.
        tokenizer: vocabulary of a .pth, which carries none: vocab.txt or tokenizer.json.
        image_size: another picture size, in pixels; positions are interpolated.

    Raises:
        CheckpointError: the weights cannot be had, or do not fit.
        ConfigError: a setting makes no sense.
    """
    checkpoint = load_checkpoint(path, config, tokenizer, image_size)
    return Captioner(build_model(checkpoint), checkpoint.tokenizer, device, precision)
