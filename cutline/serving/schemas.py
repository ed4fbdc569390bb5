"""The requests and responses of our API, as pydantic models, from which OpenAPI is made."""

import math
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from cutline.batching import Caption
from cutline.config import CaptionStyle, GenerationConfig
from cutline.config.descriptions import describe_field
from cutline.serving.options import MAX_TEXT_LENGTH, SERVED_SETTINGS, FinishedCaption

MAX_BAD_WORDS = 1000
MAX_WORD_LENGTH = 100

Text: TypeAlias = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
Word: TypeAlias = Annotated[str, Field(max_length=MAX_WORD_LENGTH)]
BadWords: TypeAlias = Annotated[list[Word], Field(max_length=MAX_BAD_WORDS)]


class Fields(BaseModel):
    """What a request may hold; anything else is an error."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )
    deadline: float | None = Field(default=None, gt=0)
    """seconds until the request must be done; at most those of the server"""


def _make_generation_fields() -> type[Fields]:
    """Return a model with the fields of `GenerationConfig`, which checks their values itself."""
    hints = get_type_hints(GenerationConfig)
    defaults = {name: getattr(GenerationConfig(), name) for name in SERVED_SETTINGS}
    described: dict[str, Any] = {
        name: (
            BadWords | None if name == "bad_words" else hints[name] | None,
            Field(
                default=None,
                description=f"{describe_field(GenerationConfig, name)} (default: {default})",
            ),
        )
        for name, default in defaults.items()
    }
    return create_model("GenerationFields", __base__=Fields, **described)


class ImageInput(BaseModel):
    """An image: its bytes in Base64, or its address."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    data: str | None = None
    """the bytes of an image file in Base64, with or without `data:image/…;base64,`"""
    url: str | None = None
    """its http or https address, for servers that allow it"""

    @model_validator(mode="after")
    def _check_one(self) -> "ImageInput":
        if (self.data is None) == (self.url is None):
            raise ValueError("give either data or url")
        return self


class GenerationFields(_make_generation_fields()):  # type: ignore[misc]  # made at run time
    """Settings of captions."""

    prompt: Text | None = None
    """the beginning of the captions, which is cut from them (default: the model's own)"""

    def make_config(self) -> GenerationConfig:
        """Return the settings of the captions.

        Raises:
            ConfigError: One of them is invalid.
        """
        return GenerationConfig(**self.find_settings())

    def find_settings(self) -> dict[str, Any]:
        """Return the settings that were given."""
        values = {name: getattr(self, name) for name in SERVED_SETTINGS}
        return {name: value for name, value in values.items() if value is not None}


class CaptionFields(GenerationFields):
    """A request for captions."""

    images: list[ImageInput] = Field(min_length=1)
    """the images"""
    style: CaptionStyle = "plain"
    """plain, or alt for alternative texts: a sentence of at most 125 characters; the text of events
    is plain, that of the caption after them is not"""
    stream: bool = False
    """whether to send captions word by word, as server-sent events"""


class ScoreFields(Fields):
    """A request for the likelihood of captions."""

    image: ImageInput
    """the image"""
    captions: list[Text] = Field(min_length=1)
    """the captions"""
    prompt: Text | None = None
    """the text before each caption, which is not scored (default: the model's own)"""


class ExplanationFields(GenerationFields):
    """A request for heat-maps."""

    image: ImageInput
    """the image"""
    caption: Text | None = None
    """the caption to explain (default: the one that is generated, with the settings)"""
    method: Literal["attention", "gradient"] = "attention"
    """attention: the raw cross-attention; gradient: attention weighted by gradients, for servers
    that allow it"""


class MatchFields(Fields):
    """A request for match probabilities."""

    image: ImageInput
    """the image"""
    texts: list[Text] = Field(min_length=1)
    """the texts"""


class WordOutput(BaseModel):
    """A word of a caption."""

    text: str
    start: int
    end: int
    confidence: float


class CaptionOutput(BaseModel):
    """A caption of an image."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    text: str
    score: float | None
    """sum of log-probabilities / length ** length_penalty"""
    confidence: float
    """from 0 to 1"""
    words: list[WordOutput]
    finish_reason: Literal["stop", "length"]
    """whether max_length cut the caption"""


class CaptionWithAlternatives(CaptionOutput):
    """The caption of an image."""

    alternatives: list[CaptionOutput]
    """all captions of the image, best first, this one included"""


class CaptionsOutput(BaseModel):
    """The captions of all images, in order."""

    model: str
    captions: list[CaptionWithAlternatives]


class ScoreOutput(BaseModel):
    """The likelihood of a caption."""

    text: str
    log_prob: float | None
    perplexity: float | None
    token_log_probs: list[float | None]


class ScoresOutput(BaseModel):
    """The likelihood of each caption, in order."""

    model: str
    scores: list[ScoreOutput]


class WordMapOutput(BaseModel):
    """A word of a caption, and where the captioner looked for it."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    text: str
    start: int
    end: int
    map: list[list[float]]
    """the share of each patch, by row and column, over the whole image"""


class ExplanationOutput(BaseModel):
    """A caption, and where the captioner looked for each of its words."""

    model: str
    text: str
    method: str
    rows: int
    columns: int
    words: list[WordMapOutput]


class MatchOutput(BaseModel):
    """How likely a text describes the image."""

    text: str
    probability: float


class MatchesOutput(BaseModel):
    """The match probability of each text, in order."""

    model: str
    matches: list[MatchOutput]


class ErrorDetails(BaseModel):
    """What is wrong, and with which part of the request."""

    type: str
    message: str
    param: str | None


class ErrorOutput(BaseModel):
    """An error."""

    error: ErrorDetails


def caption_to_json(served: FinishedCaption) -> dict[str, Any]:
    """Return a caption with its alternatives, as JSON."""
    alternatives = [_describe(each, served) for each in served.caption.alternatives]
    return _describe(served.caption, served) | {"alternatives": alternatives}


def _describe(caption: Caption, served: FinishedCaption) -> dict[str, Any]:
    return {
        "text": caption.text,
        "score": to_finite(caption.score),
        "confidence": caption.confidence,
        "words": [asdict(word) for word in caption.words],
        "finish_reason": "length" if served.is_cut(caption) else "stop",
    }


def to_finite(value: float) -> float | None:
    """Return a number that JSON can hold, or None."""
    return value if math.isfinite(value) else None
