"""`Predictor`, what captioner and matcher share: a model and its tokenizer, ready for inference."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from cutline.config import Engine, InferencePrecision
from cutline.device import pick_device, pick_precision, use_device
from cutline.engine import choose_num_threads, limit_threads, prepare_model, resolve_engine
from cutline.errors import ConfigError, CutlineError, ImageError
from cutline.image import ImagePrefetcher, ImageSource, OpenedImage, normalize, prefetch_images
from cutline.model import VisionTextModel
from cutline.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What came of an image of a stream."""

    index: int = 0
    """number of the image in the input of `stream`"""


T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S", bound=ImageResult)
M = TypeVar("M", bound=VisionTextModel)


@dataclass(frozen=True)
class EncodedImages(Generic[T]):
    """Images that were encoded together, as far as they can be read."""

    image_embeds: Tensor | None
    """(B, N, D), of those that can be read; None if none can"""
    errors: list[ImageError | None]
    """of each image, None if it can be read"""
    items: list[T]
    """the object of each image"""

    def require_embeds(self) -> Tensor:
        """Return image_embeds, or raise the first error."""
        for error in filter(None, self.errors):
            raise error
        assert self.image_embeds is not None
        return self.image_embeds

    def map(self, function: Callable[[Tensor], Iterable[R]]) -> Iterator[tuple[R | ImageError, T]]:
        """Yield the result for each image, or its error, with its object.

        Args:
            function: Returns the result for each image that can be read, given image_embeds.
        """
        results = iter(() if self.image_embeds is None else function(self.image_embeds))
        for error, item in zip(self.errors, self.items, strict=True):
            yield (next(results) if error is None else error), item


class Predictor(Generic[M]):
    """A model and its tokenizer, on a device, ready for inference.

    Attributes:
        model: The model, prepared for inference.
        tokenizer: Its tokenizer.
        device: The device of the model.
        precision: "fp32", "bf16" or "int8".
        engine: What runs the model.
        dtype: The data type of the vision encoder's input.
    """

    def __init__(
        self,
        model: M,
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
        chosen_device = pick_device(device)
        self.precision = pick_precision(precision, chosen_device)
        engine = resolve_engine(model, engine)
        self.dtype = prepare_model(model, chosen_device, self.precision, engine)
        # With the number of the GPU: the current one may be another in another thread.
        self.device = model.text.device
        self.model, self.tokenizer, self.engine = model, tokenizer, engine
        self._process_id = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_process_id"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._process_id = os.getpid()

    def check_process(self) -> None:
        """Raise ConfigError in a process that was forked after the model was loaded."""
        if os.getpid() != self._process_id:
            kind = type(self).__name__.lower()
            raise ConfigError(
                f"this {kind} was loaded before the process was forked, where PyTorch's threads "
                "do not exist and it would hang: load it in the new process, or start processes "
                'with the method "spawn"'
            )

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Run the model in this block: on its device, without gradients, with enough threads."""
        num_threads = choose_num_threads(self.model.config) if self.device.type == "cpu" else None
        with use_device(self.device), limit_threads(num_threads), torch.inference_mode():
            yield

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Return what the vision encoder makes of uint8 pixels (B, 3, S, S): (B, N, D)."""
        embeds: Tensor = self.model.vision(self.normalize_pixels(pixels))
        return embeds

    def normalize_pixels(self, pixels: Tensor) -> Tensor:
        """Return the input of the vision encoder, on its device, for uint8 pixels (B, 3, S, S)."""
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()  # the copy then overlaps with work of the GPU
        pixels = pixels.to(self.device, non_blocking=True)
        if self.dtype == torch.uint8:  # the encoder normalizes pixels itself
            return pixels
        return normalize(pixels, self.model.config.image).to(self.dtype)

    def encode_opened(self, opened: Sequence[tuple[Tensor | ImageError, T]]) -> EncodedImages[T]:
        """Encode images.

        Args:
            opened: The uint8 pixels (3, S, S) of each image, or its error, with an object.
        """
        pixels = [pixels for pixels, _ in opened if isinstance(pixels, Tensor)]
        with self.inference():
            image_embeds = self.encode_images(torch.stack(pixels)) if pixels else None
        errors = [result if isinstance(result, ImageError) else None for result, _ in opened]
        return EncodedImages(image_embeds, errors, [item for _, item in opened])

    def encode_batches(
        self, inputs: Iterable[tuple[ImageSource, T]], batch_size: int, num_workers: int = 0
    ) -> Generator[EncodedImages[T]]:
        """Yield batches of images, encoded; images are opened in the background.

        Args:
            inputs: Images, each with an object.
            batch_size: Images encoded together.
            num_workers: Processes that open images; 0 for threads of this process.
        """
        self.check_process()
        size = self.model.config.vision.image_size
        with closing(prefetch_images(inputs, size, 2 * batch_size, num_workers)) as opened:
            while batch := list(islice(opened, batch_size)):
                yield self.encode_opened(batch)

    def stream_results(
        self,
        inputs: Iterable[tuple[ImageSource, T]],
        function: Callable[[Tensor, list[T]], Iterable[S]],
        batch_size: int,
        num_workers: int = 0,
    ) -> Iterator[S | CutlineError]:
        """Return an iterator over the results of images, or their errors, lazily and in order.

        A sequence, such as a list, is read in batches of `batch_size`. Any other iterable is read
        in a thread of its own, and an image is encoded as soon as it arrives, with those that have
        arrived meanwhile, even if the next one takes long.

        Args:
            inputs: Images, each with an object.
            function: Returns the result for each image that can be read, given image_embeds
                (B, N, D) and the objects.
            batch_size: Images encoded together.
            num_workers: Processes that open images; 0 for threads of this process.
        """
        self.check_process()
        size, fills_batches = self.model.config.vision.image_size, isinstance(inputs, Sequence)
        prefetcher = ImagePrefetcher(inputs, size, 2 * batch_size, num_workers)
        return self._iter_results(prefetcher, function, batch_size, fills_batches)

    def _iter_results(
        self,
        prefetcher: ImagePrefetcher[T],
        function: Callable[[Tensor, list[T]], Iterable[S]],
        batch_size: int,
        fills_batches: bool,
    ) -> Iterator[S | CutlineError]:
        with prefetcher:
            while batch := prefetcher.take(batch_size if fills_batches else 1, wait=True):
                batch += prefetcher.take(batch_size - len(batch), wait=False)
                for _ in batch:
                    prefetcher.release()
                yield from self._find_results(batch, function)
            prefetcher.raise_error()

    def _find_results(
        self,
        batch: Sequence[OpenedImage[T]],
        function: Callable[[Tensor, list[T]], Iterable[S]],
    ) -> Iterator[S | CutlineError]:
        encoded = self.encode_opened([(image.pixels, image) for image in batch])
        items = [image.item for image in batch if isinstance(image.pixels, Tensor)]
        for result, image in encoded.map(lambda embeds: function(embeds, items)):
            if isinstance(result, ImageError):
                result.index = image.index
                yield result
            else:
                yield replace(result, index=image.index)
