"""`Record`: what became of one sample, as a line of JSON in the manifest."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from cutline.batching import Caption
from cutline.data import Sample
from cutline.errors import ConfigError, CutlineError, DataError, GenerationError
from cutline.messages import one_line

SCORE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sample has no caption."""

    id: str
    kind: str
    """image, data, prompt or caption: what could not be read or made"""
    reason: str


@dataclass(frozen=True, slots=True)
class TextEdit:
    """A text file that a caption changes, recorded before it is changed."""

    path: str
    original: str
    """hash of its content before; empty if there was no file"""
    text: str
    """its content afterwards"""


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


def describe_error(id: str, error: CutlineError) -> Failure:
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
    return Failure(id, kind, one_line(str(error)))


def make_row(sample: Sample, caption: Caption, text: str) -> dict[str, Any]:
    """Return the columns of a caption, and those of its source.

    Args:
        sample: The sample.
        caption: Its caption.
        text: The text of the caption, as it is written.
    """
    row: dict[str, Any] = {
        "image": sample.name,
        "id": sample.id,
        "caption": text,
        "score": round(caption.score, SCORE_DIGITS),
    }
    if len(caption.alternatives) > 1:
        row["alternatives"] = [
            {"caption": each.text, "score": round(each.score, SCORE_DIGITS)}
            for each in caption.alternatives
        ]
    if sample.url:
        row["url"] = sample.url
    if sample.captions:
        row["original_captions"] = list(sample.captions)
    return row
