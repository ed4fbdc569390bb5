"""Caption a dataset, and measure the captions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Unpack

from cutline.batching import Caption
from cutline.captioner import Captioner
from cutline.config import (
    Columns,
    DataSource,
    ExtraMetric,
    GenerationConfig,
    GenerationKwargs,
    MetricConfig,
    MetricTokenizer,
    reject_renamed_keywords,
)
from cutline.data import Sample, no_captions_error, open_data
from cutline.distributed import run_on_main
from cutline.errors import CutlineError, DataError
from cutline.evaluation.captioning import CaptionResult, caption_dataset
from cutline.evaluation.measurement import Measurements, measure_captions
from cutline.metrics import (
    Diversity,
    Histogram,
    Interval,
    Scores,
    WordUsages,
    check_extra_metrics,
    compute_quantiles,
)
from cutline.progress import Progress, no_progress


@dataclass(frozen=True)
class EvaluatedImage:
    """An image with its caption and the scores of the caption."""

    sample: Sample
    caption: Caption
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate` or `evaluate_captions`."""

    scores: Scores
    """scores of all images: BLEU-1 to 4, ROUGE-L, CIDEr, and METEOR and SPICE if requested"""
    images: list[EvaluatedImage]
    """the images that have a caption, in the order of the data"""
    skipped: list[str]
    """a message for each image that cannot be read, or has no caption; these are not measured"""
    diversity: Diversity
    """how varied the captions are"""
    domains: dict[str, Scores]
    """scores by domain, if images have one: in-domain, near-domain and out-domain in NoCaps"""
    groups: dict[str, Scores]
    """scores by group, such as a scene or region, if images have one. CIDEr has the document
    frequencies of all images, as groups are often small, and those of a domain its own"""
    intervals: dict[str, Interval]
    """95 % confidence interval of each score, if resamples were requested"""
    word_usage: WordUsages
    """words that captions use more or less often than references"""
    caption_lengths: Histogram
    """words per caption"""
    reference_lengths: Histogram
    """words per reference"""
    left_out: list[str] = field(default_factory=list)
    """a message for each given caption that was not measured: that of an image without references,
    or a second one"""

    @property
    def quantiles(self) -> dict[str, tuple[float, ...]]:
        """Return the 5, 25, 50, 75 and 95 % quantiles of the scores of images, by metric."""
        return compute_quantiles([image.scores for image in self.images])

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the images, in a form that JSON can store."""
        return {
            "scores": self.scores.to_dict(),
            "diversity": self.diversity.to_dict(),
            "domains": {name: scores.to_dict() for name, scores in self.domains.items()},
            "groups": {name: scores.to_dict() for name, scores in self.groups.items()},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "word_usage": self.word_usage.to_dict(),
            "skipped": self.skipped,
            "left_out": self.left_out,
        }


def evaluate(
    captioner: Captioner,
    data: DataSource | str | Path | Sequence[Sample],
    prompt: str | None = None,
    *,
    image_root: str = "",
    split: str = "",
    columns: Columns = Columns(),  # noqa: B008  # frozen
    batch_size: int = 8,
    num_workers: int = 0,
    metric_tokenizer: MetricTokenizer = "auto",
    metrics: Sequence[ExtraMetric] = (),
    resamples: int = 0,
    train_captions: Iterable[str] | None = None,
    progress: Progress = no_progress,
    **settings: Unpack[GenerationKwargs],
) -> Evaluation:
    """Caption every image with references in a dataset, and measure the captions.

    In several processes (`torchrun`), each process captions an equal share of the images, and all
    return the same evaluation.

    Args:
        captioner: The captioner to evaluate.
        data: Path of a dataset, a `DataSource`, or samples.
        prompt: Prompt of all captions (default: that of each image, else the model's own).
        image_root: Folder that image paths are relative to, if `data` is a path (default: the
            folder of the data file).
        split: Split to evaluate, if `data` is a path; see `DataSource` (default: all).
        columns: Columns of a table, where they differ from the defaults, if `data` is a path.
        batch_size: Images captioned together.
        num_workers: Processes that decode images (0: threads of this process).
        metric_tokenizer: What counts as a word: "ptb", "words", "characters" or "auto"; see
            `MetricConfig`.
        metrics: Additional metrics for English, "meteor" and "spice"; they need Java and
            `cutline[coco]`.
        resamples: Bootstrap resamples for confidence intervals, usually 1000 (0: none).
        train_captions: Captions of the training data, to measure how many captions are novel.
        progress: Shows how many images are captioned, such as `cutline.progress.progress_bar`.
        **settings: Fields of `GenerationConfig`, such as `num_beams=5`.

    Returns:
        The scores, the captioned images, and a message for each image that was skipped.

    Raises:
        DataError: No image has references, or none can be read.
        ConfigError: A setting is unknown or invalid, or a metric is not installed.
    """
    reject_renamed_keywords(settings, (setting.name for setting in fields(GenerationConfig)))
    config = MetricConfig(metric_tokenizer, tuple(metrics), resamples)
    check_extra_metrics(config.metrics)  # before captioning, which may take hours
    if isinstance(data, str | Path):
        data = DataSource(str(data), image_root, split, columns)
    samples = select_samples(data)
    results = caption_dataset(
        captioner, samples, prompt, batch_size, num_workers, progress, **settings
    )
    return _evaluate_results(samples, results, config, train_captions)


def select_samples(
    data: DataSource | Sequence[Sample],
    open_samples: Callable[[DataSource], Sequence[Sample]] = open_data,
) -> list[Sample]:
    """Return the samples that have references.

    Args:
        data: A dataset, or samples.
        open_samples: Reads the dataset.

    Raises:
        DataError: There are none, none has a group although its column is named, or the dataset
            cannot be read.
    """
    samples = open_samples(data) if isinstance(data, DataSource) else data
    samples = [sample for sample in samples if sample.captions]
    if not samples:
        message = "no image has a reference caption; add captions, or name the caption column"
        if isinstance(data, DataSource):
            raise no_captions_error(data.path, message)
        raise DataError(f"the data: {message}")
    if isinstance(data, DataSource):
        _check_groups(samples, data)
    return samples


def _check_groups(samples: Sequence[Sample], data: DataSource) -> None:
    """Raise DataError if the column of the groups is named, and no sample has a group."""
    column = data.columns.group_column
    if column and not any(sample.group for sample in samples):
        raise DataError(f"{data.path}: the column `{column}` is empty; fill it in")


def _evaluate_results(
    samples: Sequence[Sample],
    results: Sequence[CaptionResult],
    config: MetricConfig,
    train_captions: Iterable[str] | None,
) -> Evaluation:
    captioned: list[tuple[Sample, Caption]] = []
    skipped = []
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, CutlineError):
            skipped.append(str(result))
        else:
            captioned.append((sample, result))
    if not captioned:
        raise DataError(
            f"none of the {len(samples)} images can be captioned; the first error: {skipped[0]}"
        )
    # Only the main process measures, since each would start a Java process of its own.
    measured = run_on_main(lambda: measure_captions(captioned, config, train_captions))
    return make_evaluation(captioned, measured, skipped)


def make_evaluation(
    captioned: Sequence[tuple[Sample, Caption]],
    measured: Measurements,
    skipped: list[str],
    left_out: Sequence[str] = (),
) -> Evaluation:
    """Return the evaluation of captions that have been measured.

    Args:
        captioned: Samples with references, and their new captions.
        measured: The result of `measure_captions`.
        skipped: A message for each image without a caption.
        left_out: A message for each caption that was not measured.
    """
    return Evaluation(
        scores=measured.scores,
        images=[
            EvaluatedImage(sample, caption, scores)
            for (sample, caption), scores in zip(captioned, measured.image_scores, strict=True)
        ],
        skipped=skipped,
        diversity=measured.diversity,
        domains=measured.domains,
        groups=measured.groups,
        intervals=measured.intervals,
        word_usage=measured.word_usage,
        caption_lengths=measured.caption_lengths,
        reference_lengths=measured.reference_lengths,
        left_out=list(left_out),
    )
