"""Measure captions that exist: those of a file, or of any other captioner."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutline.batching import Caption
from cutline.config import DataSource, ExtraMetric, MetricConfig, MetricTokenizer
from cutline.data import Sample, open_references
from cutline.errors import DataError
from cutline.evaluation.caption_file import CaptionRow, parse_caption_rows, read_captions
from cutline.evaluation.evaluation import Evaluation, make_evaluation, select_samples
from cutline.evaluation.matching import match_captions, merge_references
from cutline.evaluation.measurement import measure_captions
from cutline.metrics import check_extra_metrics


def evaluate_captions(
    captions: str | Path | Iterable[Mapping[str, Any]],
    data: DataSource | str | Path | Sequence[Sample],
    *,
    split: str = "",
    metric_tokenizer: MetricTokenizer = "auto",
    metrics: Sequence[ExtraMetric] = (),
    resamples: int = 0,
    train_captions: Iterable[str] | None = None,
) -> Evaluation:
    """Measure captions that exist against the references of a dataset.

    A caption belongs to the image with the same path, else the same file name, else the same id;
    42 is also the id of COCO_val2014_000000000042.jpg. No image is opened, so none need exist.

    Args:
        captions: A file that `cutline caption -o` or `cutline evaluate -o` wrote (.jsonl, .csv,
            .parquet), COCO's results, a JSON list of `{"image_id": 42, "caption": "a dog"}`, or
            such rows. Rows may name the image in `image`, or its id in `image_id`, or both.
        data: Path of a dataset with references, a `DataSource`, which names its columns, or
            samples. BLIP's coco_karpathy_test_gt.json, which names no image files, is one.
        split: Split to evaluate, if `data` is a path; see `DataSource` (default: all).
        metric_tokenizer: As `evaluate` takes it.
        metrics: Additional metrics, as `evaluate` takes them.
        resamples: Bootstrap resamples for confidence intervals, usually 1000 (0: none).
        train_captions: Captions of the training data, to measure how many captions are novel.

    Returns:
        The scores, the images that have a caption, whose score and confidence are NaN, and
        messages: in `skipped` for each image with references that has no caption, and in `left_out`
        for each caption that matches no image, or is the second of one.

    Raises:
        DataError: The captions or the data cannot be read, or have no image in common.
        ConfigError: A setting is invalid, or a metric is not installed.
    """
    config = MetricConfig(metric_tokenizer, tuple(metrics), resamples)
    check_extra_metrics(config.metrics)
    file, rows = _read_rows(captions)
    source = DataSource(str(data), split=split) if isinstance(data, str | Path) else data
    samples = merge_references(select_samples(source, open_references))
    matches = match_captions(rows, samples, file)
    if not matches.captions:
        raise DataError(
            f"{file}: no caption belongs to an image with references; the first caption is of "
            f"{rows[0].name}, the first references are of {samples[0].name}: make paths, file "
            "names or ids agree"
        )
    captioned = [
        (samples[index], Caption(matches.captions[index], math.nan, (), confidence=math.nan))
        for index in sorted(matches.captions)
    ]
    skipped = [
        f"{file}: no caption for {sample.name}"
        for index, sample in enumerate(samples)
        if index not in matches.captions
    ]
    measured = measure_captions(captioned, config, train_captions)
    return make_evaluation(captioned, measured, skipped, matches.left_out)


def _read_rows(
    captions: str | Path | Iterable[Mapping[str, Any]],
) -> tuple[str, list[CaptionRow]]:
    """Return the name of the captions for messages, and their rows."""
    if isinstance(captions, str | Path):
        return str(captions), read_captions(Path(captions))
    rows = parse_caption_rows((f"row {n}", row) for n, row in enumerate(captions, 1))
    if not rows:
        raise DataError("there are no captions to measure; give at least one row")
    return "the captions", rows
