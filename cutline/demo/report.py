"""The report of the demo: results, the course of the training, and a wall of captions."""

import re
from collections.abc import Mapping
from pathlib import Path

from cutline.config import REPORT_IMAGES
from cutline.demo.drawing import Scene
from cutline.demo.false_words import find_false_words
from cutline.demo.result import DemoResult
from cutline.evaluation import EvaluatedImage
from cutline.metrics import METRIC_NAMES
from cutline.progress import Progress, no_progress
from cutline.report import (
    About,
    Card,
    Column,
    Figures,
    Gallery,
    Line,
    LineChart,
    Mark,
    Report,
    Section,
    Series,
    SideBySide,
    Table,
    Text,
    Tone,
    format_percent,
    write_report,
)
from cutline.training import read_log
from cutline.training.run.directory import LOG_FILE

HELDOUT, UNSEEN = "held-out pairs", "new combinations"
"""names of the two sets of test scenes"""
RIGHT, WRONG = "right", "wrong"
MAX_CHANGES = 2
"""false words that are looked for in a caption; more would take half a second for each caption"""

Sets = Mapping[str, DemoResult]
"""the result of each set of test scenes, by its name"""


def write_demo_report(
    folder: Path,
    heldout: DemoResult,
    unseen: DemoResult,
    about: About | None = None,
    progress: Progress = no_progress,
) -> None:
    """Write `report.html`.

    Args:
        folder: Folder of the demo, whose `training/` has the log of the training.
        heldout: Captions of scenes with a pair of objects that no training scene contains.
        unseen: Captions of scenes with a combination of color and shape that none contains.
        about: What was trained, and how.
        progress: Shows how many images are done.
    """
    sets = {HELDOUT: heldout, UNSEEN: unseen}
    report = make_demo_report(sets, folder / "training" / LOG_FILE, about or About())
    write_report(folder / "report.html", report, progress)


def make_demo_report(
    sets: Sets, log: Path, about: About, num_images: int = REPORT_IMAGES
) -> Report:
    """Return the page; it shows at most `num_images` images, equally many of each set."""
    intro = "A small captioner, trained from scratch on drawn scenes, on this machine."
    sections = [
        Section("Results", [*_describe_results(sets)]),
        Section("Training", _draw_training(log)),
        Section("Captions", [make_wall(sets, num_images)]),
    ]
    return Report("Demo: a captioner of drawn scenes", about, sections, intro)


def _describe_results(sets: Sets) -> list[Figures | SideBySide | Text]:
    counts = {name: f"{name} ({len(result.scenes):,} images)" for name, result in sets.items()}
    figures = [
        (format_percent(result.accuracy), f"of captions are correct: {counts[name]}")
        for name, result in sets.items()
    ]
    explanation = (
        "A caption is correct if every word is true of the scene, regardless of its wording. The "
        "captioner has seen none of these scenes. Those of the held-out pairs contain two kinds of "
        "objects that no training scene contains together. In those of the new combinations, an "
        "object has a color and a shape that no object of a training scene has together, and which "
        "it is not expected to name."
    )
    tables = [_list_scores(sets, counts), _list_mistakes(sets, counts)]
    return [Figures(figures), Text(explanation), SideBySide(tables)]


def _list_scores(sets: Sets, counts: Mapping[str, str]) -> Table:
    scores = [result.evaluation.scores.to_dict() for result in sets.values()]
    rows = [
        [METRIC_NAMES[name], *(each[name] for each in scores)]
        for name in scores[0]
        if name in METRIC_NAMES
    ]
    return Table(rows, ["metric", *counts.values()], caption="Captions compared with references")


def _list_mistakes(sets: Sets, counts: Mapping[str, str]) -> Table:
    mistakes = [result.count_mistakes() for result in sets.values()]
    total = sum(mistakes, start=type(mistakes[0])())
    rows = [[kind, *(each[kind] for each in mistakes)] for kind, _ in total.most_common()]
    return Table(rows, ["mistake", *counts.values()], caption="Captions that are wrong")


def _draw_training(log: Path) -> list[LineChart]:
    lines = [line for line in read_log(log) if "loss" in line]
    loss = [(line["step"], line["loss"]) for line in lines]
    rates = [(line["step"], line["lr"]) for line in lines]
    return [
        LineChart(
            "Training loss", [Series("loss", loss, is_noisy=True)], "step", "per token", y_start=0
        ),
        LineChart("Learning rate", [Series("learning rate", rates)], "step", "", y_start=0),
    ]


def make_wall(sets: Sets, num_images: int) -> Gallery:
    """Return at most so many images with captions, equally many of each set."""
    count = num_images // len(sets)
    cards = [
        make_scene_card(image, scene, verdict, name)
        for name, result in sets.items()
        for image, scene, verdict in list(
            zip(result.evaluation.images, result.scenes, result.verdicts, strict=True)
        )[:count]
    ]
    verdicts: dict[str, Tone] = {WRONG: "bad", RIGHT: "good"}
    names: dict[str, Tone] = dict.fromkeys(sets, "")
    columns = Column("CIDEr"), Column("score", 3)
    return Gallery(cards, columns, verdicts | names, tag_groups=(verdicts, names))


def make_scene_card(image: EvaluatedImage, scene: Scene, verdict: str, name: str) -> Card:
    """Return the image of a scene of the set `name`, with the false words of its caption."""
    caption = image.caption.text
    is_right = verdict.startswith("correct")
    return Card(
        image.sample.image,
        [Line(caption, marks=() if is_right else mark_false_words(caption, scene))],
        image.sample.name,
        image.sample.local_path,
        image.sample.captions,
        [image.scores.cider, image.caption.score],
        [RIGHT if is_right else WRONG, name],
        "" if verdict == "correct" else verdict,
    )


def mark_false_words(caption: str, scene: Scene) -> list[Mark]:
    """Return where the words of a caption are that are false of a scene."""
    are_false = find_false_words(caption, scene, MAX_CHANGES) or []
    return [
        (word.start(), word.end(), "wrong")
        for word, is_false in zip(re.finditer(r"\S+", caption), are_false, strict=False)
        if is_false
    ]
