"""Caption images with references, and fit the calibration of the captioner's confidence."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from cutline.batching import Caption
from cutline.calibration.figures import ConfidenceFigures, measure_confidence
from cutline.calibration.halves import divide_samples
from cutline.captioner import Captioner
from cutline.confidence import Calibration
from cutline.config import (
    CalibrationConfig,
    DataConfig,
    DataSource,
    GenerationConfig,
    GenerationKwargs,
    reject_renamed_keywords,
)
from cutline.data import Sample, open_data
from cutline.distributed import run_on_main
from cutline.errors import CutlineError, DataError
from cutline.evaluation import select_samples
from cutline.evaluation.captioning import caption_dataset
from cutline.metrics.platt import fit_platt
from cutline.progress import Progress, no_progress

JudgeWords: TypeAlias = Callable[[Sample, Caption], Sequence[bool]]
"""returns whether each word of a caption of a sample is right"""


@dataclass(frozen=True)
class JudgedCaption:
    """A caption, without calibration, and which of its words are right."""

    sample: Sample
    caption: Caption
    is_right: tuple[bool, ...]
    """for each word"""

    @property
    def right(self) -> float:
        """Return the share of the words that is right."""
        return sum(self.is_right) / len(self.is_right)


@dataclass(frozen=True)
class CalibrationResult:
    """The result of `calibrate`."""

    calibration: Calibration
    """fitted on one half of the images"""
    words: ConfidenceFigures
    """of the words of the other half"""
    captions: ConfidenceFigures
    """of the captions of the other half"""
    tested: list[JudgedCaption]
    """the captions of the other half"""
    skipped: list[str]
    """a message for each image that cannot be read or captioned"""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, in a form that JSON can store."""
        return {
            "fitted_on": {
                "num_images": self.calibration.num_images,
                "num_words": self.calibration.num_words,
            },
            "words": self.words.to_dict(),
            "captions": self.captions.to_dict(),
            "skipped": self.skipped,
        }


def calibrate(
    captioner: Captioner,
    data: DataSource | str | Path | Sequence[Sample],
    prompt: str | None = None,
    *,
    config: CalibrationConfig = CalibrationConfig(),  # noqa: B008  # frozen
    judge_words: JudgeWords | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    progress: Progress = no_progress,
    **settings: Unpack[GenerationKwargs],
) -> CalibrationResult:
    """Fit a calibration, after which the confidence of a word says how often such words are right.

    The images are captioned and divided into halves: one to fit the calibration by Platt scaling,
    the other to measure it. Set `captioner.calibration` to that of the result to use it, and write
    it with its method `save`.

    In several processes (`torchrun`), each process captions an equal share of the images, and all
    return the same result.

    Args:
        captioner: The captioner. Its own calibration is not used.
        data: Path of a dataset with reference captions, a `DataSource`, or samples.
        prompt: Prompt of all captions (default: that of each image, else the model's own).
        config: How images are divided.
        judge_words: Returns whether each word of a caption is right, given the sample and the
            caption (default: a word is right if it occurs in a reference of the image).
        batch_size: Images captioned together.
        num_workers: Processes that decode images (0: threads of this process).
        progress: Shows how many images are captioned, such as `cutline.progress.progress_bar`.
        **settings: Fields of `GenerationConfig`, such as `num_beams=5`.

    Raises:
        DataError: No image has references, none can be captioned, or they cannot be divided.
        ConfigError: A setting is unknown or invalid.
    """
    reject_renamed_keywords(settings, (field.name for field in fields(GenerationConfig)))
    data = DataSource(str(data)) if isinstance(data, str | Path) else data
    name, group_column = "the data", ""
    if isinstance(data, DataSource):
        name, group_column = data.path, data.columns.group_column
    if judge_words is None:
        samples = select_samples(data)
    else:
        samples = open_data(data) if isinstance(data, DataSource) else list(data)
    groups = DataConfig(train=name, group_pattern=config.group_pattern, group_column=group_column)
    seed = config.split_seed
    halves = run_on_main(lambda: divide_samples(samples, groups, seed, num_workers, progress))
    captioner = copy.copy(captioner)
    captioner.calibration = None
    judge_words = judge_words or _make_judge(captioner)
    judged: list[list[JudgedCaption]] = []
    skipped: list[str] = []
    for half in halves:
        results = caption_dataset(
            captioner, half, prompt, batch_size, num_workers, progress, **settings
        )
        judged.append(_judge_results(half, results, judge_words, skipped))
    return fit_calibration(judged[0], judged[1], captioner.fingerprint, seed, skipped)


def _make_judge(captioner: Captioner) -> JudgeWords:
    split = captioner.tokenizer.split_words

    def judge(sample: Sample, caption: Caption) -> list[bool]:
        known = {word for text in sample.captions for word in split(text)}
        return [word.text in known for word in caption.words]

    return judge


def _judge_results(
    samples: Sequence[Sample],
    results: Sequence[Caption | CutlineError],
    judge_words: JudgeWords,
    skipped: list[str],
) -> list[JudgedCaption]:
    """Return the captions, and add messages of images without one, or one without words."""
    judged = []
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, CutlineError):
            skipped.append(str(result))
        elif not result.words:
            skipped.append(f"{sample.name}: the caption has no words")
        else:
            is_right = tuple(map(bool, judge_words(sample, result)))
            judged.append(JudgedCaption(sample, result, is_right))
    return judged


def fit_calibration(
    fitted: Sequence[JudgedCaption],
    tested: Sequence[JudgedCaption],
    fingerprint: str = "",
    seed: int = 0,
    skipped: Sequence[str] = (),
) -> CalibrationResult:
    """Fit a calibration to captions, and measure it on others.

    Args:
        fitted: Captions to fit it to.
        tested: Captions of other images.
        fingerprint: That of the model.
        seed: Seed of the division.
        skipped: Messages of images without captions.

    Raises:
        DataError: There are no captions of either kind.
    """
    if not fitted or not tested:
        reason = f"; the first problem: {skipped[0]}" if skipped else ""
        raise DataError(
            f"{len(fitted)} captions to fit a calibration on and {len(tested)} to test it, but "
            f"both are needed: use more images{reason}"
        )
    words, right = list_words(fitted)
    tested_words, tested_right = list_words(tested)
    word_scaling = fit_platt(words, right)
    caption_scaling = fit_platt(list_captions(fitted), [each.right for each in fitted])
    images = [number for number, each in enumerate(tested) for _ in each.is_right]
    word_figures = measure_confidence(tested_words, tested_right, word_scaling, images)
    caption_figures = measure_confidence(
        list_captions(tested), [each.right for each in tested], caption_scaling
    )
    calibration = Calibration(
        word=word_scaling,
        caption=caption_scaling,
        fingerprint=fingerprint,
        num_images=len(fitted),
        num_words=len(words),
        seed=seed,
        test={"words": word_figures.to_dict(), "captions": caption_figures.to_dict()},
    )
    return CalibrationResult(
        calibration, word_figures, caption_figures, list(tested), list(skipped)
    )


def list_words(judged: Sequence[JudgedCaption]) -> tuple[list[float], list[float]]:
    """Return the confidence of all words, and 1 or 0 for whether each is right."""
    confidences = [word.confidence for each in judged for word in each.caption.words]
    return confidences, [float(is_right) for each in judged for is_right in each.is_right]


def list_captions(judged: Sequence[JudgedCaption]) -> list[float]:
    """Return the confidence of all captions."""
    return [each.caption.confidence for each in judged]
