"""HTML report of an evaluation."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from cutline.config import REPORT_IMAGES
from cutline.evaluation.evaluation import Evaluation
from cutline.evaluation.evaluation_findings import list_evaluation_problems
from cutline.evaluation.evaluation_gallery import find_image_metrics, show_evaluated_images
from cutline.evaluation.evaluation_tables import (
    describe_word_usage,
    list_diversity,
    list_scores,
    make_group_table,
    make_repeated_table,
    make_score_table,
    make_word_tables,
)
from cutline.metrics import METRIC_NAMES
from cutline.metrics.cider import SCALE
from cutline.progress import Progress, no_progress
from cutline.report import (
    About,
    Block,
    Figures,
    HistogramChart,
    Problems,
    Report,
    Section,
    SideBySide,
    Text,
    find_bin,
    write_report,
)
from cutline.web import hide_credentials

_BAR_WIDTH = 0.01
"""of histograms of scores, which join bars if there are few images"""


def write_evaluation_report(
    path: str | Path,
    evaluation: Evaluation,
    about: About | None = None,
    num_images: int = REPORT_IMAGES,
    progress: Progress = no_progress,
) -> None:
    """Write an HTML report of an evaluation.

    Args:
        path: The HTML file.
        evaluation: The result of `evaluate` or `evaluate_captions`.
        about: What was evaluated, and how; `others["Captions"]` names a file of captions.
        num_images: Largest number of images on the page.
        progress: Shows how many images are done.
    """
    report = make_evaluation_report(evaluation, about or About(), num_images)
    write_report(path, report, progress)


def make_evaluation_report(
    evaluation: Evaluation, about: About, num_images: int = REPORT_IMAGES
) -> Report:
    """Return the report of an evaluation, with at most so many images."""
    problems = list_evaluation_problems(evaluation)
    sections = [Section("Findings", [Problems(problems)])] if problems else []
    sections.append(Section("Scores and lengths", _describe_scores(evaluation)))
    if evaluation.domains:
        table = make_group_table("domain", evaluation.domains, evaluation.scores)
        text = "CIDEr weights the words of a domain by their frequency in its own references."
        sections.append(Section("Domains", [Text(text), table]))
    if evaluation.groups:
        table = make_group_table("group", evaluation.groups, evaluation.scores)
        text = "CIDEr weights words by their frequency in the references of all images."
        sections.append(Section("Groups", [Text(text), table]))
    sections += [
        Section("Words", _describe_words(evaluation)),
        Section("Images", show_evaluated_images(evaluation, num_images)),
    ]
    intro = (
        f"Captions of {len(evaluation.images):,} images, compared with "
        f"{evaluation.reference_lengths.count:,} references."
    )
    return Report(_make_title(about), about, sections, intro)


def _make_title(about: About) -> str:
    captions = about.model or about.others.get("Captions", "captions")
    data = f" on {about.data}" if about.data else ""
    return f"Evaluation of {hide_credentials(captions)}{hide_credentials(data)}"


def _describe_scores(evaluation: Evaluation) -> list[Block]:
    charts = [
        _draw_histogram(
            METRIC_NAMES[name], [getattr(image.scores, name) for image in evaluation.images]
        )
        for name in find_image_metrics(evaluation)
    ]
    confidences = [image.caption.confidence for image in evaluation.images]
    if known := [confidence for confidence in confidences if math.isfinite(confidence)]:
        charts.append(_draw_histogram("confidence", known))
    overview = SideBySide([make_score_table(evaluation), charts[0]])
    return [Figures(list_scores(evaluation)), overview, *charts[1:], _draw_lengths(evaluation)]


def _draw_histogram(name: str, values: Sequence[float]) -> HistogramChart:
    """Return a histogram of the numbers of images."""
    maximum = SCALE if name == METRIC_NAMES["cider"] else 1
    counts = Counter(find_bin(value, _BAR_WIDTH, maximum) for value in values)
    limits = {"median": median(values), "mean": fmean(values)}
    title = f"{name[0].upper()}{name[1:]} of single captions"
    return HistogramChart(title, {"images": counts}, name, "images", _BAR_WIDTH, limits, True)


def _draw_lengths(evaluation: Evaluation) -> HistogramChart:
    lengths = {
        "captions": evaluation.caption_lengths.counts,
        "references": evaluation.reference_lengths.counts,
    }
    title = "Words per caption and per reference"
    return HistogramChart(title, lengths, "words", "share of texts")


def _describe_words(evaluation: Evaluation) -> list[Block]:
    tables = make_word_tables(evaluation.word_usage)
    if repeated := make_repeated_table(evaluation):
        tables.append(repeated)
    text = Text(describe_word_usage(evaluation.word_usage))
    return [Figures(list_diversity(evaluation)), text, SideBySide(tables)]
