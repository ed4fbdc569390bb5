"""HTML report of an evaluation."""

from pathlib import Path

from cutline.errors import ImageError
from cutline.evaluation.evaluation import EvaluatedImage, Evaluation
from cutline.image import open_thumbnail
from cutline.metrics import METRIC_NAMES
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    format_interval,
    render_gallery,
    render_paragraph,
    render_table,
    write_report,
)


def write_evaluation_report(
    path: str | Path, evaluation: Evaluation, num_examples: int = 24
) -> None:
    """Write an HTML report of an evaluation.

    Args:
        path: The HTML file.
        evaluation: The result of `evaluate` or `evaluate_captions`.
        num_examples: Number of images to show with the highest CIDEr, and with the lowest.
    """
    ranked = sorted(evaluation.images, key=lambda image: image.scores.cider, reverse=True)
    count = min(num_examples, (len(ranked) + 1) // 2)  # at most one image is in both galleries
    best, worst = ranked[:count], ranked[len(ranked) - count :][::-1]
    sections = [("Scores", render_table(make_score_rows(evaluation)))]
    if evaluation.domains:
        sections.append(("By domain", render_table(*make_domain_table(evaluation))))
    diversity = [[name, value] for name, value in evaluation.diversity.to_dict().items()]
    sections += [
        ("Diversity", render_table(diversity)),
        ("Best captions", render_gallery([_make_card(image) for image in best])),
        ("Worst captions", render_gallery([_make_card(image) for image in worst])),
    ]
    for title, messages in (("Skipped", evaluation.skipped), ("Left out", evaluation.left_out)):
        if messages:
            sections.append((title, "".join(map(render_paragraph, messages))))
    intro = f"Images captioned and compared with their references: {len(evaluation.images):,}."
    write_report(path, "Evaluation", intro, sections)


def make_domain_table(evaluation: Evaluation) -> tuple[list[list[object]], list[str]]:
    """Return a table of the scores by domain: its rows, one per score, and its header."""
    columns = {**evaluation.domains, "all": evaluation.scores}
    rows: list[list[object]] = [
        [name, *(scores.to_dict()[name] for scores in columns.values())]
        for name in evaluation.scores.to_dict()
    ]
    return rows, ["", *columns]


def make_score_rows(evaluation: Evaluation) -> list[list[object]]:
    """Return the name and value of each score, and its confidence interval if there are any."""
    rows: list[list[object]] = []
    for name, value in evaluation.scores.to_dict().items():
        rows.append([METRIC_NAMES.get(name, "images"), value])
        if evaluation.intervals:
            interval = evaluation.intervals.get(name)
            rows[-1].append(format_interval(*interval) if interval else "")
    return rows


def _make_card(image: EvaluatedImage) -> Card:
    # Measuring captions that exist does not need the images.
    try:
        thumbnail = open_thumbnail(image.sample.image, THUMBNAIL_SIZE)
    except ImageError:
        thumbnail = None
    note = f"CIDEr {image.scores.cider:.2f} · {image.sample.captions[0]}"
    return Card(thumbnail, image.caption.text, note)
