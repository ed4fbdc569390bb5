"""`pipeline`, a captioner with the inputs and outputs of transformers' image-to-text pipeline."""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, Unpack, overload

import numpy as np
import torch
from PIL import Image

from cutline.batching import Caption
from cutline.captioner import Captioner, load
from cutline.config import Engine, InferencePrecision, UrlPolicy
from cutline.config.huggingface import PipelineConfig, PipelineKwargs
from cutline.config.validation import require
from cutline.data.urls import UrlImage
from cutline.errors import CutlineError, ImageError
from cutline.files import ImageRef
from cutline.image import ImageSource
from cutline.messages import format_value
from cutline.web import is_web_address

TASK = "image-to-text"

Records: TypeAlias = list[dict[str, str]]
"""the captions of an image as transformers returns them: [{"generated_text": "a dog"}]"""

_DATA_URL = re.compile(r"data:image/[^,]{,100};base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DataUrlImage(ImageRef):
    """An image whose file is in its address, in base64."""

    url: str

    def __str__(self) -> str:
        return f"{self.url.partition(',')[0]},…"

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            ImageError: The address is not valid base64.
        """
        data = self.url.partition(",")[2]
        try:
            return base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError):  # ValueError: characters that are not ASCII
            raise ImageError(f"{self}: not valid base64; encode the image again") from None


class ImageToTextPipeline:
    """Captions images as transformers' class of this name did; `pipeline` makes one.

    Attributes:
        captioner: The captioner.
        config: What a call does, unless it says otherwise.
        allow_private_hosts: Networks from which images may be fetched, though not public.
    """

    def __init__(
        self,
        captioner: Captioner,
        config: PipelineConfig,
        allow_private_hosts: Sequence[str] = (),
    ) -> None:
        self.captioner, self.config = captioner, config
        if isinstance(allow_private_hosts, str):
            allow_private_hosts = [allow_private_hosts]
        self.allow_private_hosts = tuple(allow_private_hosts)

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, inputs: list[Any] | tuple[Any, ...], **arguments: Unpack[PipelineKwargs]
    ) -> list[Records]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, inputs: ImageSource, **arguments: Unpack[PipelineKwargs]
    ) -> Records: ...

    @overload
    def __call__(
        self, inputs: Iterable[Any], **arguments: Unpack[PipelineKwargs]
    ) -> Iterator[Records]: ...

    def __call__(self, inputs: Any, **arguments: Unpack[PipelineKwargs]) -> Any:
        """Caption an image, a list of images, or any other iterable of images.

        Args:
            inputs: An image is a path, an http address, "data:image/png;base64,…", bytes, a PIL
                image or an (H, W, 3) uint8 array.
            **arguments: `max_new_tokens`, `generate_kwargs` (fields of `GenerateConfig` and
                `logits_processor`), `prompt`, `timeout` (seconds to fetch an image), `batch_size`
                and `num_workers`.

        Returns:
            For an image, a list of records, {"generated_text": …}, as many as
            `num_return_sequences`; for a list, a list of such lists. For any other iterable, such
            as a generator or a dataset, an iterator over such lists, which captions as it goes.

        Raises:
            ImageError: An image cannot be read. The iterator can go on after it.
            ConfigError: An argument is unknown or invalid, or the prompt is too long.
            GenerationError: An image cannot be captioned.
        """
        config = self.config.merge(arguments)
        policy = UrlPolicy(self.allow_private_hosts, config.timeout)
        to_source = partial(_to_source, policy=policy)
        if isinstance(inputs, list | tuple):
            return list(self._caption(list(map(to_source, inputs)), config))
        if _is_image(inputs):
            return next(self._caption([to_source(inputs)], config))
        return self._caption(map(to_source, _iterate(inputs)), config)

    def _caption(self, sources: Iterable[ImageSource], config: PipelineConfig) -> Iterator[Records]:
        prompt_ids = self.captioner.tokenizer.encode_prompt(config.prompt)
        batch_size = config.batch_size
        if isinstance(sources, list):  # a cache for fewer images needs less memory
            batch_size = min(batch_size, max(1, len(sources)))
        results = self.captioner.stream(
            sources,
            config.prompt,
            batch_size=batch_size,
            num_workers=config.num_workers,
            seeds=_draw_seeds() if config.generate.do_sample else None,
            logits_processor=config.logits_processor,
            **config.generate.to_generation_kwargs(
                len(prompt_ids), self.captioner.config.text.max_positions
            ),
        )
        return map(partial(self._to_records, prompt_ids), results)

    def _to_records(self, prompt_ids: list[int], result: Caption | CutlineError) -> Records:
        if isinstance(result, CutlineError):
            raise result
        # Samples in the order in which they were drawn, as in transformers: not best first.
        captions = sorted(result.alternatives, key=lambda caption: caption.candidate)
        decode = self.captioner.tokenizer.decode_as_bert
        return [{"generated_text": decode([*prompt_ids, *each.token_ids])} for each in captions]


def pipeline(
    task: str,
    model: str | Path | Captioner,
    *,
    device: int | str | torch.device | None = None,
    precision: InferencePrecision = "fp32",
    engine: Engine = "auto",
    allow_private_hosts: Sequence[str] = (),
    **arguments: Unpack[PipelineKwargs],
) -> ImageToTextPipeline:
    """Make a function that captions images as transformers' image-to-text pipeline did.

    It generates what `BlipForConditionalGeneration.generate` of transformers 5 does: by default a
    greedy search without a prompt, of at most 20 tokens.

    Args:
        task: "image-to-text".
        model: What `load` takes, or a captioner, which keeps its device, precision and engine.
        device: As in transformers: the number of a GPU, -1 for the CPU, a name such as "cuda:1" or
            a `torch.device`; None is a GPU if there is one, else the CPU.
        precision: As for `load`.
        engine: As for `load`.
        allow_private_hosts: Networks such as "10.0.0.0/8", from which images may be fetched though
            they are not public.
        **arguments: Defaults of all calls, see `ImageToTextPipeline`.

    Raises:
        ConfigError: The task or an argument is unknown or invalid.
        CheckpointError: The weights cannot be read or do not fit.
    """
    require(task == TASK, f"unknown task {format_value(task)}: the only task is {TASK!r}")
    config = PipelineConfig().merge(arguments)
    if isinstance(model, Captioner):
        require(device is None, "the captioner is on a device already: remove `device`")
    else:
        model = load(model, to_device_name(device), precision, engine=engine)
    return ImageToTextPipeline(model, config, allow_private_hosts)


def to_device_name(device: int | str | torch.device | None) -> str:
    """Return the name of a device that is given as in transformers."""
    if device is None:
        return "auto"
    if isinstance(device, int):
        return f"cuda:{device}" if device >= 0 else "cpu"
    return str(device)


def _is_image(value: object) -> bool:
    """Return whether `value` is one image, or at least no collection of them."""
    if isinstance(value, np.ndarray):
        return value.ndim == 3
    is_known = isinstance(value, str | Path | bytes | Image.Image | ImageRef)
    return is_known or not (isinstance(value, Iterable) or hasattr(value, "__getitem__"))


def _iterate(images: Any) -> Iterator[Any]:
    """Iterate over images, also over those of a dataset of PyTorch, which may not end by itself."""
    if isinstance(images, Iterable) or not hasattr(images, "__len__"):
        return iter(images)
    return (images[index] for index in range(len(images)))


def _to_source(image: Any, policy: UrlPolicy) -> Any:
    """Return an image as captioners take it, given as transformers took it."""
    if isinstance(image, str) and is_web_address(image):
        return UrlImage(image, policy)
    if isinstance(image, str) and _DATA_URL.match(image):
        return DataUrlImage(image)
    return image


def _draw_seeds() -> Iterator[int]:
    """Yield a seed for each image; `torch.manual_seed` determines them, as in transformers."""
    generator = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, ())))
    while True:
        yield int(torch.randint(2**63 - 1, (), generator=generator))
