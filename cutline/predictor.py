"""`Predictor`, what captioner and matcher share: a model and its tokenizer, ready for inference."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cutline.config import Engine, InferencePrecision
from cutline.device import pick_device, pick_precision, use_device
from cutline.engine import choose_num_threads, limit_threads, prepare_model
from cutline.errors import ConfigError
from cutline.image import normalize
from cutline.model import VisionTextModel
from cutline.tokenizer import Tokenizer


class Predictor:
    """A model and its tokenizer, on a device, ready for inference.

    Attributes:
        model: The model, prepared for inference.
        tokenizer: Its tokenizer.
        device: The device of the model.
        precision: "fp32", "bf16" or "int8".
        dtype: The data type of the vision encoder's input.
    """

    model: VisionTextModel

    def __init__(
        self,
        model: VisionTextModel,
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
        self.dtype = prepare_model(model, chosen_device, self.precision, engine)
        # With the number of the GPU: the current one may be another in another thread.
        self.device = model.text.token_embed.weight.device
        self.model = model
        self.tokenizer = tokenizer
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
        """Return the image_embeds (B, N, D) of uint8 pixels (B, 3, S, S)."""
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()  # the copy then overlaps with work of the GPU
        pixels = pixels.to(self.device, non_blocking=True)
        pixel_values = normalize(pixels, self.model.config.image)
        embeds: Tensor = self.model.vision(pixel_values.to(self.dtype))
        return embeds
