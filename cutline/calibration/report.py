"""HTML report of a calibration: reliability diagrams, what a threshold keeps, and captions."""

from collections.abc import Sequence
from pathlib import Path

from cutline.calibration.figures import ConfidenceFigures
from cutline.calibration.run import CalibrationResult, JudgedCaption
from cutline.config import REPORT_IMAGES
from cutline.evaluation.image_cards import select_ranked
from cutline.messages import count_noun, format_text
from cutline.metrics import ReliabilityBin
from cutline.progress import Progress, no_progress
from cutline.report import (
    About,
    Block,
    Card,
    Column,
    Figures,
    Gallery,
    Line,
    LineChart,
    Mark,
    Problem,
    Problems,
    ReliabilityDiagram,
    Report,
    Section,
    Series,
    SideBySide,
    Table,
    Text,
    Tone,
    format_fixed,
    format_interval,
    format_percent,
    write_report,
)

COLUMNS = (Column("confidence"), Column("right words"), Column("overconfidence", signed=True))
ALL_RIGHT, HAS_WRONG = "all words right", "wrong words"
TAGS: dict[str, Tone] = {ALL_RIGHT: "good", HAS_WRONG: "bad"}


def write_calibration_report(
    path: str | Path,
    result: CalibrationResult,
    about: About | None = None,
    num_images: int = REPORT_IMAGES,
    progress: Progress = no_progress,
) -> None:
    """Write an HTML report of a calibration.

    Args:
        path: The HTML file.
        result: The result of `calibrate`.
        about: What the report is of.
        num_images: Images that it shows, at most.
        progress: Shows how many images are done.
    """
    write_report(path, make_calibration_report(result, about or About(), num_images), progress)


def make_calibration_report(
    result: CalibrationResult, about: About, num_images: int = REPORT_IMAGES
) -> Report:
    """Return the report that `write_calibration_report` writes."""
    words, captions = result.words, result.captions
    blocks: list[Block] = [_make_figures(result)]
    if result.skipped:
        blocks.append(_list_skipped(result.skipped))
    diagrams = [_draw_reliability(words, "words"), _draw_reliability(captions, "captions")]
    coverage = SideBySide([_make_coverage(words, captions), _draw_coverage(words, captions)])
    judged = select_captions(result, num_images)
    cards = [_make_card(each, confidence) for each, confidence in judged]
    gallery = Gallery(cards, COLUMNS, TAGS, ("overconfidence", "highest"), noun="captions")
    sections = [
        Section("Result", blocks),
        Section("Reliability", [_explain_diagrams(), *diagrams]),
        Section("What a threshold keeps", [_explain_coverage(), coverage]),
        Section("Captions", [Text(_describe_captions(len(cards), result)), gallery]),
    ]
    intro = (
        f"Confidence of {captions.count:,} captions and their words, calibrated on "
        f"{result.calibration.num_images:,} captions of other images."
    )
    title = " of ".join(filter(None, ["Calibration", about.model]))
    title += f" on {about.data}" if about.data else ""
    return Report(title, about, sections, intro)


def select_captions(result: CalibrationResult, count: int) -> list[tuple[JudgedCaption, float]]:
    """Return at most so many of the tested captions with their calibrated confidence.

    Half of them have wrong words, if there are as many.
    """
    wrong = [each for each in result.tested if not all(each.is_right)]
    right = [each for each in result.tested if all(each.is_right)]
    num_wrong = min(len(wrong), max(count // 2, count - len(right)))
    selected = []
    for judged, number in ((wrong, num_wrong), (right, count - num_wrong)):
        confidences = [result.calibration.caption.apply(each.caption.confidence) for each in judged]
        selected += [(judged[i], confidences[i]) for i in select_ranked(confidences, number)]
    return selected


def _make_figures(result: CalibrationResult) -> Figures:
    words, captions = result.words, result.captions
    figures = [(format_percent(words.right), f"of {words.count:,} words are right")]
    for each, noun in ((words, "words"), (captions, "captions")):
        errors = f"{format_fixed(each.error_before, 3)} → {format_fixed(each.error_after, 3)}"
        figures.append((errors, f"calibration error of {noun}"))
    if words.auroc is not None:
        interval = (
            f", 95 % {format_interval(*words.auroc_interval)}" if words.auroc_interval else ""
        )
        figures.append((format_fixed(words.auroc, 3), f"AUROC of wrong words{interval}"))
    return Figures(figures)


def _list_skipped(messages: Sequence[str]) -> Problems:
    title = f"{count_noun(len(messages), 'image is', 'images are')} not used"
    advice = "They cannot be read, or have no caption."
    return Problems([Problem("warning", title, advice, [("", message) for message in messages])])


def _explain_diagrams() -> Text:
    return Text(
        "On the diagonal, confidence is the share that is right. Below it, the captioner is "
        "overconfident; above it, underconfident."
    )


def _explain_coverage() -> Text:
    return Text(
        "How much is right among the most confident words, and captions, and the lowest confidence "
        "among them: the threshold that keeps as many."
    )


def _draw_reliability(figures: ConfidenceFigures, noun: str) -> ReliabilityDiagram:
    right = "right" if noun == "words" else "share of right words"
    before, after = map(_make_points, (figures.reliability_before, figures.reliability_after))
    return ReliabilityDiagram(f"Reliability of {noun}", before, after, "confidence", right)


def _make_points(bins: Sequence[ReliabilityBin]) -> list[tuple[float, float]]:
    return [(each.probability, each.right) for each in bins]


def _make_coverage(words: ConfidenceFigures, captions: ConfidenceFigures) -> Table:
    rows = [
        (round(100 * word.coverage), word.right, word.threshold, caption.right, caption.threshold)
        for word, caption in zip(words.coverage, captions.coverage, strict=True)
    ]
    right = ("words right", "right words of captions")
    header = ("accepted, %", right[0], "threshold of words", right[1], "threshold of captions")
    return Table(rows, header, percent=right)


def _draw_coverage(words: ConfidenceFigures, captions: ConfidenceFigures) -> LineChart:
    series = [
        Series(
            name,
            [(100 * each.coverage, 100 * (1 - each.right)) for each in figures.coverage],
            has_dots=True,
        )
        for name, figures in (("words", words), ("captions", captions))
    ]
    return LineChart("Wrong words among the accepted", series, "accepted, %", "%", y_start=0)


def _describe_captions(num_shown: int, result: CalibrationResult) -> str:
    count = len(result.tested)
    shown = "All tested captions" if num_shown == count else f"{num_shown:,} of {count:,} captions"
    return (
        f"{shown}, the most overconfident first: overconfidence is confidence − share of right "
        "words. Wrong words are marked."
    )


def _make_card(judged: JudgedCaption, confidence: float) -> Card:
    caption, sample = judged.caption, judged.sample
    words = zip(caption.words, judged.is_right, strict=True)
    marks: list[Mark] = [
        (word.start, word.end, "wrong") for word, is_right in words if not is_right
    ]
    return Card(
        sample.image,
        [Line(caption.text, marks=marks)],
        format_text(sample.name),
        sample.local_path or sample.url,
        sample.captions,
        [confidence, judged.right, confidence - judged.right],
        [HAS_WRONG if marks else ALL_RIGHT],
    )
