"""A comparison as a page to look at."""

from pathlib import Path

from cutline.errors import ImageError
from cutline.evaluation.comparison import METRICS, ComparedImage, Comparison
from cutline.image import open_thumbnail
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    render_gallery,
    render_paragraph,
    render_table,
    write_report,
)


def write_comparison_report(path: str | Path, found: Comparison, count: int = 24) -> None:
    """Write an HTML page with the verdict, the numbers, and up to `count` images each way where CIDEr differs most."""
    first, second = found.names
    ranked = sorted(found.pictures, key=lambda one: one.gain)
    worse, better = (
        [one for one in ranked if one.gain < 0][:count],
        [one for one in reversed(ranked) if one.gain > 0][:count],
    )
    rows = [
        [
            METRICS[name],
            one.first,
            one.second,
            one.value,
            f"{one.interval[0]:.4g} – {one.interval[1]:.4g}",
            f"{one.p_value:.2g}",
        ]
        for name, one in found.differences.items()
    ]
    sections = [
        (
            "Scores",
            render_paragraph(found.verdict())
            + render_table(rows, ["", first, second, "difference", "95 %", "p"]),
        )
    ]
    for name, pictures in ((second, better), (first, worse)):
        if pictures:
            sections.append(
                (
                    f"Where {name} is better",
                    render_gallery([_card(one, found.names) for one in pictures]),
                )
            )
    if found.num_untouched:
        sections.append(("Not captioned", render_paragraph(found.say_untouched())))
    if found.left_out:
        sections.append(("Left out", "".join(map(render_paragraph, found.left_out))))
    write_report(
        path,
        f"{first} and {second}",
        f"{len(found.pictures)} images, captioned twice and compared.",
        sections,
    )


def _card(one: ComparedImage, names: tuple[str, str]) -> Card:
    """Captions are compared without their images, which may lie on another machine."""
    try:
        image = open_thumbnail(one.sample.image, THUMBNAIL_SIZE)
    except ImageError:
        image = None
    said = " · ".join(
        f"{name}: {caption}" for name, caption in zip(names, one.captions, strict=True)
    )
    numbers = " → ".join(f"{scores.cider:.2f}" for scores in one.scores)
    return Card(image, said, f"CIDEr {numbers} · {one.sample.captions[0]}")
