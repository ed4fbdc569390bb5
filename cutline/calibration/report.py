"""HTML report of a calibration: reliability diagrams, what a threshold keeps, and examples."""

from collections.abc import Sequence
from pathlib import Path

from cutline.calibration.figures import ConfidenceFigures
from cutline.calibration.run import CalibrationResult, JudgedCaption
from cutline.errors import ImageError
from cutline.image import open_thumbnail
from cutline.metrics import ReliabilityBin
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    render_gallery,
    render_key_figures,
    render_paragraph,
    render_reliability,
    render_table,
    write_report,
)


def write_calibration_report(
    path: str | Path, result: CalibrationResult, num_examples: int = 12
) -> None:
    """Write an HTML report of a calibration.

    Args:
        path: The HTML file.
        result: The result of `calibrate`.
        num_examples: Number of captions to show with the highest confidence, and with the lowest.
    """
    words, captions, calibration = result.words, result.captions, result.calibration
    figures = [
        (f"{words.right:.1%}", f"of {words.count:,} words are right"),
        (f"{words.error_before:.3f} → {words.error_after:.3f}", "calibration error of words"),
        (f"{captions.error_before:.3f} → {captions.error_after:.3f}", "that of captions"),
    ]
    if words.auroc is not None:
        figures.append((f"{words.auroc:.3f}", "AUROC of wrong words"))

    def find_confidence(judged: JudgedCaption) -> float:
        return calibration.caption.apply(judged.caption.confidence)

    ranked = sorted(result.tested, key=find_confidence)
    count = min(num_examples, (len(ranked) + 1) // 2)  # at most one caption is in both galleries
    lowest, highest = ranked[:count], ranked[len(ranked) - count :][::-1]
    sections = [
        ("Result", render_key_figures(figures)),
        ("Words", _render_figures(words, "words")),
        ("Captions", _render_figures(captions, "captions")),
        ("Least confident", _render_examples(lowest, [*map(find_confidence, lowest)])),
        ("Most confident", _render_examples(highest, [*map(find_confidence, highest)])),
    ]
    if result.skipped:
        sections.append(("Skipped", "".join(map(render_paragraph, result.skipped))))
    intro = (
        f"Confidence of {captions.count:,} captions and their words, calibrated on "
        f"{calibration.num_images:,} captions of other images."
    )
    write_report(path, "Calibration", intro, sections)


def _render_figures(figures: ConfidenceFigures, noun: str) -> str:
    right = "right" if noun == "words" else "share of right words"
    before, after = map(_make_points, (figures.reliability_before, figures.reliability_after))
    diagram = render_reliability(before, after, f"Reliability of {noun}", "confidence", right)
    header = ("accepted", "lowest confidence", right)
    rows = [
        (f"{point.coverage:.0%}", point.threshold, f"{point.right:.1%}")
        for point in figures.coverage
    ]
    return diagram + render_table(rows, header)


def _make_points(bins: Sequence[ReliabilityBin]) -> list[tuple[float, float]]:
    return [(each.probability, each.right) for each in bins]


def _render_examples(examples: Sequence[JudgedCaption], confidences: Sequence[float]) -> str:
    return render_gallery([*map(_make_card, examples, confidences)])


def _make_card(judged: JudgedCaption, confidence: float) -> Card:
    caption = judged.caption
    wrong = [
        word.text
        for word, is_right in zip(caption.words, judged.is_right, strict=True)
        if not is_right
    ]
    judgment = f"wrong: {', '.join(wrong)}" if wrong else "all words right"
    note = f"{confidence:.2f} · {judgment}"
    try:
        image = open_thumbnail(judged.sample.image, THUMBNAIL_SIZE)
    except ImageError:  # removed since it was captioned
        return Card(None, caption.text, note)
    return Card(image, caption.text, note)
