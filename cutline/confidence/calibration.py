"""`Calibration`: what turns the confidence of a model into the probability of being right."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cutline.confidence.words import Word
from cutline.errors import CheckpointError
from cutline.files import write_text
from cutline.messages import format_value
from cutline.metrics.platt import PlattScaling
from cutline.model_files import read_json

logger = logging.getLogger(__name__)

CALIBRATION_FILE = "calibration.json"
"""its name in the folder of a model"""
FORMAT, VERSION = "cutline-calibration", 1
MAX_PARAMETER = 1e6
"""beyond it, a scaling would be a step"""


@dataclass(frozen=True)
class Calibration:
    """Scaling of the confidence of words and of captions, and what it was fitted on."""

    word: PlattScaling = field(default_factory=PlattScaling)
    """maps the confidence of a word to the probability that it is right"""
    caption: PlattScaling = field(default_factory=PlattScaling)
    """maps the confidence of a caption to the share of them that is right"""
    fingerprint: str = ""
    """of the model, as `Checkpoint.fingerprint` returns it"""
    num_images: int = 0
    """images that it was fitted on"""
    num_words: int = 0
    """words of their captions"""
    seed: int = 0
    """of the division into images that it was fitted on, and those that it was tested on"""
    test: Mapping[str, Any] = field(default_factory=dict)
    """figures of the images that it was not fitted on"""

    def scale(self, words: Sequence[Word], confidence: float) -> tuple[tuple[Word, ...], float]:
        """Return the words of a caption and its confidence, given both without calibration.

        That of a caption without words stays 0.
        """
        scaled = [replace(word, confidence=self.word.apply(word.confidence)) for word in words]
        return tuple(scaled), self.caption.apply(confidence) if words else 0.0

    def describe(self) -> dict[str, Any]:
        """Return what confidence depends on, for the manifest of a run."""
        return {"calibration": {"word": asdict(self.word), "caption": asdict(self.caption)}}

    def to_json(self) -> str:
        """Return the content of a calibration.json."""
        values = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(values, indent=1, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write a file atomically.

        Raises:
            CutlineError: It cannot be written.
        """
        write_text(path, self.to_json())


def load_calibration(
    explicit: str | Path | Literal[False] | None, folder: Path | None, fingerprint: str
) -> Calibration | None:
    """Read the calibration of a model: a file that is named, or the one in the model's folder.

    One in the folder is not used if it cannot be read or, as after further training, is of other
    weights; a warning says so.

    Args:
        explicit: The file that is named; None for none, False for no calibration at all.
        folder: The folder of the model; None if it has none.
        fingerprint: That of the model.

    Raises:
        CheckpointError: The file that is named cannot be read, or is of another model.
    """
    if explicit is False:
        return None
    if explicit:
        return read_calibration_of(Path(explicit), fingerprint)
    if not folder or not (folder / CALIBRATION_FILE).exists():
        return None
    try:
        return read_calibration_of(folder / CALIBRATION_FILE, fingerprint)
    except CheckpointError as error:
        logger.warning("confidence is not calibrated: %s", error)
        return None


def read_calibration_of(file: Path, fingerprint: str) -> Calibration:
    """Read the calibration of a model with this fingerprint.

    Raises:
        CheckpointError: The file cannot be read, or is of another model.
    """
    calibration = read_calibration(file)
    if calibration.fingerprint != fingerprint:
        raise CheckpointError(
            f"{file}: the calibration of another model, other weights, another image size or other "
            "merged tokens; make one for this model with `cutline calibrate`"
        )
    return calibration


def read_calibration(file: Path) -> Calibration:
    """Read a calibration.json.

    Raises:
        CheckpointError: It cannot be read, or is no calibration.
    """
    values = read_json(file)
    if values.get("format") != FORMAT or values.get("version") != VERSION:
        raise CheckpointError(
            f"{file}: not a calibration that this version of cutline reads; make one with "
            "`cutline calibrate`"
        )
    try:
        return _parse_calibration(values)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{file}: not a valid calibration ({problem}); make it again with `cutline calibrate`"
        ) from None


def _parse_calibration(values: Mapping[str, Any]) -> Calibration:
    return Calibration(
        word=_parse_scaling(values, "word"),
        caption=_parse_scaling(values, "caption"),
        fingerprint=_check(values, "fingerprint", str),
        num_images=_check(values, "num_images", int),
        num_words=_check(values, "num_words", int),
        seed=_check(values, "seed", int),
        test=_check(values, "test", dict),
    )


def _parse_scaling(values: Mapping[str, Any], name: str) -> PlattScaling:
    parameters = _check(values, name, dict)
    return PlattScaling(_parse_number(parameters, "slope"), _parse_number(parameters, "intercept"))


def _parse_number(values: Mapping[str, Any], name: str) -> float:
    number = values[name]
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not abs(number) <= MAX_PARAMETER:  # also false for NaN
        raise ValueError(f"`{name}` is {format_value(number)}, not a number of that kind")
    return float(number)


def _check(values: Mapping[str, Any], name: str, kind: type) -> Any:
    value = values[name]
    if type(value) is not kind:
        raise ValueError(f"`{name}` is {format_value(value)}")
    return value
