"""`report.html` of a run: curves, a table of evaluations, and captions of validation images."""

from pathlib import Path
from typing import Any

from cutline.image import open_image
from cutline.report import Card, render_curve, render_gallery, render_table, write_report
from cutline.training.run.directory import LOG_FILE, REPORT_FILE
from cutline.training.run.log import LogLine, read_log

METRICS = {
    "cider": "CIDEr",
    "bleu4": "BLEU-4",
    "recall_mean": "Mean recall",
    "image_to_text_r1": "Recall@1, image to text",
    "text_to_image_r1": "Recall@1, text to image",
    "itm_auroc": "AUROC of image-text matching",
    "val_loss": "Validation loss",
}
TERMS = {
    "itc": "Image-text contrastive (ITC)",
    "itm": "Image-text matching (ITM)",
    "lm": "Language model (LM)",
}
"""terms of the training loss"""


def write_run_report(directory: Path) -> None:
    """Write `report.html` from the `log.jsonl` of the run in `directory`."""
    lines = read_log(directory / LOG_FILE)
    evaluations = [line for line in lines if "best" in line]
    sections = [("Training", _render_losses(lines))]
    if curves := _render_metrics(evaluations):
        sections.append(("Metrics", curves))
    if evaluations:
        sections.append(("Results", _render_results(evaluations)))
    samples = evaluations[-1].get("samples", []) if evaluations else []
    if samples:
        cards = [_make_card(directory, i, evaluations) for i in range(len(samples))]
        sections.append(("Captions of validation images", render_gallery(cards)))
    intro = "The course of the training loss, and the results on the validation images."
    write_report(directory / REPORT_FILE, f"Training run {directory.name}", intro, sections)


def _render_losses(lines: list[LogLine]) -> str:
    """Return curves of the training loss and its terms over the steps."""
    unit = "pair" if any("pairs_per_second" in line for line in lines) else "token"
    curves = ""
    for name, title in {"loss": "Training loss", **TERMS}.items():
        if points := _collect_points(lines, "step", name):
            curves += render_curve(points, title, "step", f"loss per {unit}")
    return curves


def _render_metrics(evaluations: list[LogLine]) -> str:
    """Return a curve over epochs for every metric that was measured."""
    curves = ""
    for name, title in METRICS.items():
        if points := _collect_points(evaluations, "epoch", name):
            curves += render_curve(points, title, "epoch", title)
    return curves


def _render_results(evaluations: list[LogLine]) -> str:
    """Return a table with the numbers of every evaluation."""
    columns = [name for name, value in evaluations[-1].items() if isinstance(value, float)]
    rows = []
    for line in evaluations:
        numbers = [line.get(name, "") for name in columns]  # before training, no train_loss
        rows.append([line["epoch"], *numbers, "best so far" if line["best"] else ""])
    return render_table(rows, ["epoch", *columns, ""])


def _make_card(directory: Path, index: int, evaluations: list[LogLine]) -> Card:
    """Return a sample with its last caption; the note has the caption of the first evaluation."""
    first, last = evaluations[0], evaluations[-1]
    sample: dict[str, Any] = last["samples"][index]
    image, note = open_image(str(directory / sample["image"])), ""
    if len(evaluations) > 1 and index < len(first["samples"]):
        note = f"epoch {first['epoch']}: {first['samples'][index]['caption']}"
    return Card(image, sample["caption"], note)


def _collect_points(lines: list[LogLine], x: str, y: str) -> list[tuple[float, float]]:
    """Return (x, y) of the lines that have both."""
    return [(line[x], line[y]) for line in lines if x in line and y in line]
