"""`Record`: what became of one sample, as a line of JSON in the manifest."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from cutline.batching import Caption
from cutline.data import Sample
from cutline.errors import ConfigError, CutlineError, DataError, GenerationError
from cutline.messages import one_line

SCORE_DIGITS = 6
_NUMBERED_IMAGE = re.compile(r"^image \d+: ")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample has no caption."""

    id: str
    kind: str
    """image, data, prompt, caption or output: what could not be read, made or written"""
    reason: str


@dataclass(frozen=True, slots=True)
class TextEdit:
    """A text file that a caption changes, recorded before it is changed."""

    path: str
    """relative to the folder of the output or, beside images, to the folder of all images"""
    original: str
    """hash of its content before; empty if there was no file"""
    text: str
    """its content afterwards"""
    without: str = ""
    """hash of its content without captions of this run; empty if there was no file"""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one sample: a caption, or a failure."""

    id: str
    stamp: str = ""
    """what changes when the image or the prompt does"""
    row: dict[str, Any] = field(default_factory=dict)
    """columns of the output; empty for a failure"""
    kind: str = ""
    """kind of a failure; empty for a caption"""
    reason: str = ""
    edit: TextEdit | None = None

    @property
    def failure(self) -> Failure | None:
        """Return the failure, or None for a caption."""
        return Failure(self.id, self.kind, self.reason) if self.kind else None

    def to_json(self) -> bytes:
        """Return a line of JSON."""
        values = {name: value for name, value in asdict(self).items() if value}
        return json.dumps(values).encode() + b"\n"  # ASCII, so that any file name is encodable

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Read a line of JSON."""
        values = json.loads(line)
        edit = values.pop("edit", None)
        return cls(**values, edit=TextEdit(**edit) if edit else None)


def describe_source_error(error: CutlineError) -> Failure:
    """Return the failure of a part of the source, such as a row, with its place as id."""
    reason = one_line(str(error))
    return Failure(reason.partition(": ")[0], "data", reason)


def describe_error(sample: Sample, error: CutlineError) -> Failure:
    """Return the failure of a sample, given its error."""
    match error:
        case DataError():
            kind = "data"
        case GenerationError():
            kind = "caption"
        case ConfigError():
            kind = "prompt"
        case _:
            kind = "image"
    # An engine knows only the number of an image.
    reason = _NUMBERED_IMAGE.sub(lambda _: f"{sample.name}: ", str(error))
    return Failure(sample.id, kind, one_line(reason))


def make_row(sample: Sample, caption: Caption, format_text: Callable[[str], str]) -> dict[str, Any]:
    """Return the columns of a caption, and those of its source.

    Args:
        sample: The sample.
        caption: Its caption.
        format_text: Returns what is written for the text of a caption.
    """
    row = {"image": sample.name, "id": sample.id, **describe_caption(caption, format_text)}
    if sample.url:
        row["url"] = sample.url
    if sample.captions:
        row["original_captions"] = list(sample.captions)
    return row


def describe_caption(caption: Caption, format_text: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the columns of a caption: text, score and match, and those of its alternatives."""
    columns = _describe_alternative(caption, format_text)
    if len(caption.alternatives) > 1:
        columns["alternatives"] = [
            _describe_alternative(each, format_text) for each in caption.alternatives
        ]
    return columns


def _describe_alternative(caption: Caption, format_text: Callable[[str], str]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "caption": format_text(caption.text),
        "score": round(caption.score, SCORE_DIGITS),
    }
    if caption.match is not None:
        columns["match"] = round(caption.match, SCORE_DIGITS)
    if caption.token_log_probs:
        log_probs = [round(value, SCORE_DIGITS) for value in caption.token_log_probs]
        columns["token_log_probs"] = log_probs
    return columns
