"""`Explainer`, which explains the captions of any number of images, batch by batch."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from PIL import Image
from torch import Tensor

from cutline.batching.inputs import check_prompt
from cutline.captioner import Captioner
from cutline.config import ExplainConfig, GenerationKwargs, InferenceConfig
from cutline.errors import ConfigError, CutlineError, ImageError
from cutline.explanation.attention import map_attention
from cutline.explanation.explanation import Explanation, WordMap, normalize_map
from cutline.explanation.gradient import map_gradient
from cutline.explanation.occlusion import list_offsets, map_occlusion
from cutline.explanation.target import Encoded, Target, encode_given, make_target
from cutline.generation import check_prompt_length
from cutline.image import ImageSource, open_image, to_pixels
from cutline.progress import Progress, no_progress

EXPLAIN_ARGUMENTS = ("caption", "prompt", "method", "window", "stride", "batch_size")
"""arguments of `explain` besides images and the fields of `GenerationConfig`"""


@dataclass(frozen=True)
class ExplainedImage:
    """An image and the explanation of its caption."""

    image: Image.Image
    """in RGB, upright"""
    explanation: Explanation


@dataclass(frozen=True)
class Explainer:
    """Explains the captions of any number of images.

    Attributes:
        captioner: The captioner.
        config: The method.
        prompt: The text before every caption; None for the model's own.
        batch_size: Images captioned together.
        progress: Shows how much of an image is done, for occlusion.

    Raises:
        ConfigError: The captioner consists of ONNX graphs.
    """

    captioner: Captioner
    config: ExplainConfig
    prompt: str | None = None
    batch_size: int = 8
    progress: Progress = no_progress

    def __post_init__(self) -> None:
        if self.captioner.engine == "onnx":
            raise ConfigError(
                "explaining needs the weights of a captioner, and this one has ONNX graphs only: "
                "load the model that they were made from"
            )

    def stream(
        self,
        images: Iterable[ImageSource],
        captions: str | Sequence[str] | None = None,
        **settings: Unpack[GenerationKwargs],
    ) -> Iterator[ExplainedImage | CutlineError]:
        """Return an iterator over images with explanations, or their errors, lazily and in order.

        Args:
            images: The images.
            captions: As for `explain`.
            **settings: As for `explain`.

        Raises:
            ConfigError: A setting is invalid, or a caption is too long or has no words.
        """
        self._check(captions, settings)
        given: Iterator[Encoded] | None = None
        if captions is not None:
            texts = [captions] if isinstance(captions, str) else captions
            encoded = [encode_given(self.captioner, text, self._prompt) for text in texts]
            given = itertools.cycle(encoded) if isinstance(captions, str) else iter(encoded)
        return self._stream(iter(images), given, settings)

    def _check(self, captions: str | Sequence[str] | None, settings: GenerationKwargs) -> None:
        InferenceConfig(batch_size=self.batch_size)  # checks it
        generation = self.captioner.make_config(settings, EXPLAIN_ARGUMENTS)
        check_prompt(self._prompt)
        if captions is None:
            prompt_ids = self.captioner.tokenizer.encode_prompt(self._prompt)
            check_prompt_length(len(prompt_ids), generation)
        elif settings:
            name = next(iter(settings))
            raise ConfigError(f"{name} is for generated captions: remove it, or give no captions")
        if self.config.method == "occlusion":
            list_offsets(self.captioner.config.vision, self.config)  # checks them
        self.captioner.check_process()

    @property
    def _prompt(self) -> str:
        return self.captioner.config.prompt if self.prompt is None else self.prompt

    def _stream(
        self,
        sources: Iterator[ImageSource],
        given: Iterator[Encoded] | None,
        settings: GenerationKwargs,
    ) -> Iterator[ExplainedImage | CutlineError]:
        while batch := list(itertools.islice(sources, self.batch_size)):
            opened = [_open(source) for source in batch]
            images = [image for image in opened if isinstance(image, Image.Image)]
            captions: Sequence[Encoded | CutlineError]
            if given is None:
                captions = self._generate(images, settings)
            else:
                pairs = zip(opened, itertools.islice(given, len(opened)), strict=True)
                captions = [caption for image, caption in pairs if isinstance(image, Image.Image)]
            results = self._explain(images, captions)
            for image in opened:
                yield next(results) if isinstance(image, Image.Image) else image

    def _explain(
        self, images: Sequence[Image.Image], captions: Sequence[Encoded | CutlineError]
    ) -> Iterator[ExplainedImage | CutlineError]:
        """Yield the explanation of each image of a batch, or its error."""
        size = self.captioner.config.vision.image_size
        targets = [
            make_target(self.captioner.tokenizer, to_pixels(image, size), caption)
            for image, caption in zip(images, captions, strict=True)
            if not isinstance(caption, CutlineError)
        ]
        explained = zip(targets, self._compute_maps(targets), strict=True)
        for image, caption in zip(images, captions, strict=True):
            if isinstance(caption, CutlineError):
                yield caption
            else:
                yield ExplainedImage(image, self._join(image.size[::-1], *next(explained)))

    def _generate(
        self, images: Sequence[Image.Image], settings: GenerationKwargs
    ) -> list[Encoded | CutlineError]:
        """Return the tokens of a generated caption for each image, or an error."""
        prompt_ids = self.captioner.tokenizer.encode_prompt(self._prompt)
        captions = self.captioner.stream(
            images, self._prompt, batch_size=self.batch_size, **settings
        )
        return [
            caption
            if isinstance(caption, CutlineError)
            else Encoded([*prompt_ids, *caption.token_ids], len(prompt_ids))
            for caption in captions
        ]

    def _compute_maps(self, targets: Sequence[Target]) -> list[Tensor]:
        """Return the map of each word, (W, N - 1), of each target."""
        with_words = [target for target in targets if target.words]
        if self.config.method == "occlusion":
            maps = [
                map_occlusion(self.captioner, target, self.config, self.batch_size, self.progress)
                for target in with_words
            ]
        else:
            compute = map_gradient if self.config.method == "gradient" else map_attention
            maps = compute(self.captioner, with_words) if with_words else []
        remaining = iter(maps)
        return [next(remaining) if target.words else torch.empty(0) for target in targets]

    def explain_target(self, target: Target, image_size: tuple[int, int]) -> Explanation:
        """Return the explanation of one caption; `image_size` is height and width."""
        (maps,) = self._compute_maps([target])
        return self._join(image_size, target, maps)

    def _join(self, image_size: tuple[int, int], target: Target, maps: Tensor) -> Explanation:
        text = target.text
        words = tuple(
            WordMap(text[start:end], start, end, normalize_map(values), image_size)
            for (start, end, _), values in zip(target.words, maps, strict=True)
        )
        return Explanation(text, words, self.config.method)


def _open(source: ImageSource) -> Image.Image | ImageError:
    try:
        return open_image(source)
    except ImageError as error:
        return error
