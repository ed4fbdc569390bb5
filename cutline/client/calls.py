"""`Call`: a request to the server and how to read its answer, for both clients."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real
from typing import Any, Generic, TypeVar

from cutline.client.failures import foreign_answers
from cutline.client.images import ImageInput, encode_input, list_images, name_input
from cutline.client.results import (
    ServedCaption,
    ServedExplanation,
    ServedMatch,
    ServedScore,
    read_caption,
    read_explanation,
    read_matches,
    read_models,
    read_scores,
)
from cutline.config import CaptionStyle, ExplainMethod, GenerationKwargs
from cutline.errors import ConfigError
from cutline.messages import format_value

T = TypeVar("T")


class CaptionKwargs(GenerationKwargs, total=False):
    """Settings of a caption from a server, as keyword arguments."""

    style: CaptionStyle
    deadline: float


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, with at most one image."""

    path: str
    read_json: Callable[[Any], T]
    """makes the result of the JSON of the answer"""
    image: ImageInput | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """of the JSON to send, besides the image; those that are None are left to the server"""
    index: int = 0
    """number of the image in the input"""

    @property
    def name(self) -> str:
        """Return the name of the image in errors; "" without an image."""
        return "" if self.image is None else name_input(self.image, self.index)

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return "GET" if self.image is None else "POST"

    def make_body(self) -> bytes:
        """Return the JSON to send; the file of the image is read now.

        Raises:
            ImageError: The image cannot be read.
            ConfigError: A field cannot be written as JSON.
        """
        if self.image is None:
            return b""
        image = encode_input(self.image, self.name)
        images = {"images": [image]} if self.path == "/v1/captions" else {"image": image}
        fields = {name: value for name, value in self.fields.items() if value is not None}
        try:
            return json.dumps(images | fields, default=_to_json, allow_nan=False).encode()
        except (ValueError, RecursionError):  # NaN, or a cycle
            raise ConfigError(
                f"a setting is no finite number: {format_value(fields)}; give another value"
            ) from None

    def read_answer(self, body: bytes, url: str) -> T:
        """Return the result in the body of an answer.

        Raises:
            CutlineError: It is no answer of `cutline serve`.
        """
        with foreign_answers(url):
            return self.read_json(json.loads(body))


def _to_json(value: object) -> int | float:
    """Return a number of another library, such as numpy's, as one of Python's."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise ConfigError(f"a setting cannot be {format_value(value)}; give text or a number")


def make_caption_calls(
    images: ImageInput | Sequence[ImageInput],
    prompt: str | Sequence[str] | None,
    settings: CaptionKwargs,
) -> list[Call[ServedCaption]]:
    """Return a request for each image.

    Raises:
        ConfigError: The numbers of images and prompts differ.
    """
    image_list = list_images(images)
    prompts = [prompt] * len(image_list) if prompt is None or isinstance(prompt, str) else prompt
    if len(prompts) != len(image_list):
        raise ConfigError(
            f"there are {len(prompts)} prompts for {len(image_list)} images: "
            "give one prompt for all images, or one per image"
        )
    return [
        Call(
            "/v1/captions",
            partial(_read_only_caption, index=index),
            image,
            {"prompt": each, **settings},
            index,
        )
        for index, (image, each) in enumerate(zip(image_list, prompts, strict=True))
    ]


def _read_only_caption(data: Any, index: int) -> ServedCaption:
    (caption,) = data["captions"]
    return read_caption(caption, index)


def make_stream_call(
    image: ImageInput, prompt: str | None, settings: CaptionKwargs
) -> Call[ServedCaption]:
    """Return a request for the events of a caption."""
    fields = {"prompt": prompt, **settings, "stream": True}
    return Call("/v1/captions", partial(_read_only_caption, index=0), image, fields)


def make_score_call(
    image: ImageInput, captions: str | Sequence[str], prompt: str | None
) -> Call[list[ServedScore]]:
    """Return a request for the likelihoods of captions."""
    fields = {"captions": _list_texts(captions), "prompt": prompt}
    return Call("/v1/scores", read_scores, image, fields)


def make_match_call(image: ImageInput, texts: str | Sequence[str]) -> Call[list[ServedMatch]]:
    """Return a request for match probabilities."""
    return Call("/v1/matches", read_matches, image, {"texts": _list_texts(texts)})


def make_explain_call(
    image: ImageInput,
    caption: str | None,
    prompt: str | None,
    method: ExplainMethod,
    settings: CaptionKwargs,
) -> Call[ServedExplanation]:
    """Return a request for heat-maps."""
    fields = {"caption": caption, "prompt": prompt, "method": method, **settings}
    return Call("/v1/explanations", read_explanation, image, fields)


def make_models_call() -> Call[list[str]]:
    """Return a request for the names of the models."""
    return Call("/v1/models", read_models)


def _list_texts(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)
