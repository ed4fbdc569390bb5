"""`Record`: what became of one sample, as a line of JSON in the manifest."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from cutline.batching import Caption, style_caption
from cutline.bulk.job import TextSelection
from cutline.confidence import Word
from cutline.config import OutputConfig
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
    start: int = 0
    """`text` without these captions has `replaced` in place of the characters from here …"""
    end: int = 0
    """… to here"""
    replaced: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one sample: a caption, a selection of texts, or a failure."""

    id: str
    stamp: str = ""
    """what changes when the image or the prompt does"""
    row: dict[str, Any] = field(default_factory=dict)
    """columns of the output; empty for a failure"""
    kept: Sequence[Mapping[str, Any]] = ()
    """columns of each text that was selected, beside those of the image in `row`"""
    dropped: Sequence[Mapping[str, Any]] = ()
    """those of each other text"""
    kind: str = ""
    """kind of a failure; empty for a caption"""
    reason: str = ""
    edit: TextEdit | None = None
    not_accepted: bool = False
    """whether the caption is not written, because its confidence is too low"""

    @property
    def failure(self) -> Failure | None:
        """Return the failure, or None for a caption."""
        return Failure(self.id, self.kind, self.reason) if self.kind else None

    @property
    def is_empty(self) -> bool:
        """Return whether there is no text to write, although this is no failure."""
        return self.not_accepted or (bool(self.dropped) and not self.kept)

    @property
    def texts(self) -> list[str]:
        """Return the texts that are written: the caption, or those that were selected."""
        return [row["caption"] for row in self.rows]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the output: that of the caption, or those of selected texts."""
        if self.kept or self.is_empty:
            return [join_columns(self.row, text) for text in self.kept]
        return [] if self.kind else [self.row]

    @property
    def dropped_rows(self) -> list[dict[str, Any]]:
        """Return the rows of texts that were not selected."""
        return [join_columns(self.row, text) for text in self.dropped]

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


def join_columns(image: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a text: name and id of its image, then its own columns, then others."""
    return {"image": image["image"], "id": image["id"], **text, **image}


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


def make_row(
    sample: Sample, result: Caption | TextSelection, outputs: OutputConfig
) -> dict[str, Any]:
    """Return the columns of a sample and its caption; of a selection, those of the sample alone.

    Args:
        sample: The sample.
        result: What came of it.
        outputs: How captions are written.
    """
    row: dict[str, Any] = {"image": sample.name, "id": sample.id}
    if isinstance(result, Caption):
        row |= describe_caption(result, outputs)
    elif sample.prompt is not None:
        row["prompt"] = sample.prompt
    if sample.url:
        row["url"] = sample.url
    if sample.captions and isinstance(result, Caption):
        row["original_captions"] = list(sample.captions)
    return row


def describe_caption(caption: Caption, outputs: OutputConfig | None = None) -> dict[str, Any]:
    """Return the columns of a caption: text, scores and words, and those of its alternatives."""
    outputs = outputs or OutputConfig()
    caption = style_caption(caption, outputs.style)
    columns = _describe_alternative(caption, outputs)
    if len(caption.alternatives) > 1:
        columns["alternatives"] = [
            _describe_alternative(each, outputs) for each in caption.alternatives
        ]
    return columns


def _describe_alternative(caption: Caption, outputs: OutputConfig) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "caption": outputs.format_caption(caption.text),
        "score": round(caption.score, SCORE_DIGITS),
        "confidence": round(caption.confidence, SCORE_DIGITS),
    }
    if caption.match is not None:
        columns["match"] = round(caption.match, SCORE_DIGITS)
    if caption.token_log_probs:
        log_probs = [round(value, SCORE_DIGITS) for value in caption.token_log_probs]
        columns["token_log_probs"] = log_probs
    if outputs.words:
        columns["words"] = [_describe_word(word, outputs.text_start) for word in caption.words]
    return columns


def _describe_word(word: Word, text_start: int) -> dict[str, Any]:
    """Return a word, with its place in the text that is written."""
    return {
        "text": word.text,
        "start": word.start + text_start,
        "end": word.end + text_start,
        "confidence": round(word.confidence, SCORE_DIGITS),
    }
