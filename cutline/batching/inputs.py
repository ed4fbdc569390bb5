"""What `Captioner` and `CaptionScheduler` are given: images, prompts and seeds."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np

from cutline.errors import ConfigError
from cutline.generation import LogitsProcessor
from cutline.image import ImageSource
from cutline.messages import format_value

Inputs = tuple[str, int]
"""the prompt and the seed of an image"""


def pair_inputs(
    images: Iterable[ImageSource], prompts: Iterable[str], seeds: Iterable[int]
) -> Iterator[tuple[ImageSource, Inputs]]:
    """Yield each image with its prompt and its seed.

    Raises:
        ConfigError: There are fewer prompts or seeds than images.
    """
    next_prompt, next_seed, end = iter(prompts), iter(seeds), object()
    for image in images:
        prompt, seed = next(next_prompt, end), next(next_seed, end)
        if prompt is end or seed is end:
            name = "prompt" if prompt is end else "seed"
            raise ConfigError(
                f"there are fewer {name}s than images: "
                f"give one {name} for all images, or one per image"
            )
        yield image, (cast(str, prompt), cast(int, seed))


def check_prompt(prompt: object) -> None:
    """Raise ConfigError unless a prompt is a string."""
    if not isinstance(prompt, str):
        raise ConfigError(f"a prompt must be a string, not {format_value(prompt)}")


def check_count(name: str, values: object, num_images: int) -> None:
    """Raise ConfigError unless `values` are as many prompts, or seeds, as images."""
    if not isinstance(values, Sequence | np.ndarray):
        raise ConfigError(f"give one {name} for all images, or a list of one per image")
    if len(values) != num_images:
        raise ConfigError(
            f"there are {len(values)} {name}s for {num_images} images: "
            f"give one {name} for all images, or one per image"
        )


def to_processor_list(
    processors: LogitsProcessor | Sequence[LogitsProcessor] | None,
) -> tuple[LogitsProcessor, ...]:
    """Return logits processors, given one, several or None.

    Raises:
        ConfigError: One is not a function.
    """
    if processors is None:
        return ()
    # A list of transformers can itself be called; its items can be named in errors.
    several = tuple(processors) if isinstance(processors, Sequence) else (processors,)
    for processor in several:
        if isinstance(processor, type) or not callable(processor):
            raise ConfigError(
                "a logits processor must be a function of input_ids and scores, not "
                f"{format_value(processor)}"
            )
    return several


def to_image_list(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    """Return a list of images, given one image, a sequence of images or a (B, H, W, 3) array."""
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return list(images)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images)
    return [images]
