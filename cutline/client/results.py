"""What a server answers, as frozen dataclasses; they need no model and no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cutline.confidence import Word
from cutline.config import ExplainMethod


@dataclass(frozen=True)
class ServedCaption:
    """One caption of one image, from a server; see `Caption`."""

    text: str
    score: float
    """sum of log-probabilities / length ** length_penalty"""
    confidence: float
    """from 0 to 1: the product of the probabilities of the words, or what a calibration makes of
    it"""
    words: tuple[Word, ...] = field(repr=False)
    """the words of the text, without punctuation, each with the model's confidence in it"""
    finish_reason: Literal["stop", "length"]
    """whether the caption has ended, or was cut at `max_length`"""
    alternatives: tuple["ServedCaption", ...] = field(default=(), compare=False, repr=False)
    """all `num_captions` captions of the image, best first, this one included"""
    index: int = field(default=0, compare=False, repr=False)
    """number of the image in the input of `caption`"""


@dataclass(frozen=True)
class ServedText:
    """The next part of a caption that is being generated; see `TextEvent`."""

    text: str
    """new text, which later steps do not change"""
    candidate: int = 0
    """which of the `num_captions` captions"""
    draft: str = ""
    """on request, the best continuation so far, which replaces that of the last event"""


@dataclass(frozen=True)
class ServedScore:
    """The likelihood of a given caption, from a server; see `CaptionScore`."""

    text: str
    log_prob: float
    """log-likelihood of the caption, [SEP] included, given image and prompt"""
    perplexity: float
    """exp(-log_prob / number of tokens)"""
    token_log_probs: tuple[float, ...] = field(repr=False)
    """log-likelihood of each token given those before it"""


@dataclass(frozen=True)
class ServedMatch:
    """How likely a text describes an image."""

    text: str
    probability: float


@dataclass(frozen=True, eq=False)
class ServedWordMap:
    """A word of a caption, and where the captioner looked for it."""

    text: str
    start: int
    """where the word begins in the caption"""
    end: int
    """where it ends"""
    map: npt.NDArray[np.float32] = field(repr=False)
    """the share of each patch, by row and column, over the whole image"""


@dataclass(frozen=True, eq=False)
class ServedExplanation:
    """A caption of an image, and where the captioner looked for each of its words."""

    text: str
    method: ExplainMethod
    words: tuple[ServedWordMap, ...]


def read_caption(data: Any, index: int = 0) -> ServedCaption:
    """Return a caption from its JSON.

    Args:
        data: The parsed JSON.
        index: Number of its image.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: It is no caption.
    """
    return ServedCaption(
        str(data["text"]),
        _read_log_prob(data["score"]),
        float(data["confidence"]),
        tuple(
            Word(str(word["text"]), int(word["start"]), int(word["end"]), float(word["confidence"]))
            for word in data["words"]
        ),
        data["finish_reason"],
        tuple(read_caption(each, index) for each in data.get("alternatives", ())),
        index,
    )


def _read_log_prob(value: Any) -> float:
    """Return a log-probability; JSON has no infinity, for which it is null."""
    return -math.inf if value is None else float(value)


def read_text_event(data: Any) -> ServedText:
    """Return new text from the JSON of its event."""
    return ServedText(str(data["text"]), int(data["candidate"]), str(data.get("draft", "")))


def read_scores(data: Any) -> list[ServedScore]:
    """Return scores from the JSON of an answer."""
    return [
        ServedScore(
            str(score["text"]),
            _read_log_prob(score["log_prob"]),
            math.inf if score["perplexity"] is None else float(score["perplexity"]),
            tuple(map(_read_log_prob, score["token_log_probs"])),
        )
        for score in data["scores"]
    ]


def read_matches(data: Any) -> list[ServedMatch]:
    """Return match probabilities from the JSON of an answer."""
    return [ServedMatch(str(each["text"]), float(each["probability"])) for each in data["matches"]]


def read_explanation(data: Any) -> ServedExplanation:
    """Return an explanation from the JSON of an answer."""
    size = (int(data["rows"]), int(data["columns"]))
    words = tuple(
        ServedWordMap(
            str(word["text"]), int(word["start"]), int(word["end"]), _read_map(word["map"], size)
        )
        for word in data["words"]
    )
    return ServedExplanation(str(data["text"]), data["method"], words)


def _read_map(rows: Sequence[Sequence[float]], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    return np.asarray(rows, dtype=np.float32).reshape(size)


def read_models(data: Any) -> list[str]:
    """Return the names of models from the JSON of an answer."""
    return [str(model["id"]) for model in data["data"]]
