"""A run as a page to look at: its curves, and captions of validation images."""

from pathlib import Path
from typing import Any

from cutline.image import open_image
from cutline.report import Card, render_curve, render_gallery, render_table, write_report
from cutline.training.run.log import read_log


def write_run_report(folder: Path) -> None:
    """Write `report.html` from the run's `log.jsonl`."""
    lines = read_log(folder / "log.jsonl")
    evaluations = [line for line in lines if "train_loss" in line]
    sections = [
        (
            "Training",
            render_curve(points(lines, "step", "loss"), "Training loss", "step", "loss per token"),
        )
    ]
    for name, title in (("cider", "CIDEr"), ("bleu4", "BLEU-4"), ("val_loss", "Validation loss")):
        if values := points(evaluations, "epoch", name):
            sections.append((f"Validation: {title}", render_curve(values, title, "epoch", title)))
    if numbers := [name for name in evaluations[-1] if isinstance(evaluations[-1][name], float)]:
        rows = [
            [
                line["epoch"],
                *(line[name] for name in numbers),
                "best so far" if line["best"] else "",
            ]
            for line in evaluations
        ]
        sections.append(("Evaluations", render_table(rows, ["epoch", *numbers, ""])))
    if samples := evaluations[-1].get("samples"):
        cards = [card(folder, one, evaluations, number) for number, one in enumerate(samples)]
        sections.append(("Captions of validation images", render_gallery(cards)))
    write_report(
        folder / "report.html",
        f"Training run {folder.name}",
        "How the loss fell, and what came of it.",
        sections,
    )


def card(
    folder: Path, sample: dict[str, Any], evaluations: list[dict[str, Any]], number: int
) -> Card:
    """An image with what it is called now, and what it was called at the first evaluation."""
    first = evaluations[0]
    note = (
        f"epoch {first['epoch']}: {first['samples'][number]['caption']}"
        if len(evaluations) > 1
        else ""
    )
    return Card(open_image(str(folder / sample["image"])), sample["caption"], note)


def points(lines: list[dict[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    """The (x, y) of the lines that have both."""
    return [(line[x], line[y]) for line in lines if x in line and y in line]
