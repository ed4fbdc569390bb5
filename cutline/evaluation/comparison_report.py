"""HTML report of a comparison."""

from pathlib import Path

from cutline.errors import ImageError
from cutline.evaluation.comparison import ComparedImage, Comparison
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


def write_comparison_report(
    path: str | Path, comparison: Comparison, num_examples: int = 24
) -> None:
    """Write an HTML report of a comparison.

    Args:
        path: The HTML file.
        comparison: The result of `compare_captions`.
        num_examples: Number of images to show with the largest difference in CIDEr, each way.
    """
    names = comparison.names
    ranked = sorted(comparison.images, key=lambda image: image.cider_difference)
    losses = [image for image in ranked if image.cider_difference < 0]
    gains = [image for image in reversed(ranked) if image.cider_difference > 0]
    sections = [("Scores", render_paragraph(comparison.verdict) + _render_scores(comparison))]
    for name, images in ((names[1], gains), (names[0], losses)):
        if images:
            cards = [_make_card(image, names) for image in images[:num_examples]]
            sections.append((f"Where {name} is better", render_gallery(cards)))
    if comparison.num_uncaptioned:
        sections.append(("Not captioned", render_paragraph(comparison.describe_uncaptioned())))
    if comparison.left_out:
        sections.append(("Left out", "".join(map(render_paragraph, comparison.left_out))))
    intro = f"Images with a caption in both files: {len(comparison.images):,}."
    write_report(path, f"{names[0]} vs. {names[1]}", intro, sections)


def _render_scores(comparison: Comparison) -> str:
    rows = [
        [
            METRIC_NAMES[name],
            difference.first,
            difference.second,
            difference.value,
            format_interval(*difference.interval),
            f"{difference.p_value:.2g}",
        ]
        for name, difference in comparison.differences.items()
    ]
    return render_table(rows, ["", *comparison.names, "difference", "95 % interval", "p-value"])


def _make_card(image: ComparedImage, names: tuple[str, str]) -> Card:
    # The images may be on another machine: comparing captions does not need them.
    try:
        thumbnail = open_thumbnail(image.sample.image, THUMBNAIL_SIZE)
    except ImageError:
        thumbnail = None
    pairs = zip(names, image.captions, strict=True)
    captions = " · ".join(f"{name}: {caption}" for name, caption in pairs)
    cider = " → ".join(f"{scores.cider:.2f}" for scores in image.scores)
    return Card(thumbnail, captions, f"CIDEr {cider} · {image.sample.captions[0]}")
