"""Run directories that are written by hand, as training writes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from cutline.config import Recipe, to_dict
from cutline.files import write_text

STEPS_PER_EPOCH = 10
EPOCHS = 4
Line = dict[str, Any]


def make_start(**changes: Any) -> Line:
    """Return a start of a run, as in `run.json`."""
    data = {"num_images": 40, "num_captions": 80, "fingerprint": "3de4ef58397bbd66"}
    val = {"num_images": 8, "num_captions": 40, "fingerprint": "e3b0c44298fc1c14"}
    return {
        "started": "2026-11-29T05:02:57+00:00",
        "command": ["/opt/bin/cutline", "train", "recipe.yaml"],
        "versions": {"python": "3.11.7", "cutline": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        "machine": "Linux-6.1-x86_64",
        "device": "x86_64",
        "world_size": 1,
        "seed": 0,
        "num_params": 1727730,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "data": {"train": data, "val": val},
    } | changes


def make_training_line(step: int, **changes: Any) -> Line:
    """Return a line about training."""
    return {
        "step": step,
        "epoch": round(step / STEPS_PER_EPOCH, 3),
        "loss": 2.0 + 4.0 / (1 + step),
        "lr": 1e-3,
        "grad_norm": 1.5,
        "memory_gb": 0.5,
        "pictures_per_second": 80.0,
        "tokens_per_second": 800.0,
    } | changes


def make_evaluation(epoch: int, captions: Sequence[str] = (), **changes: Any) -> Line:
    """Return an evaluation; metrics rise and losses fall with the epoch."""
    line: Line = {"step": epoch * STEPS_PER_EPOCH, "epoch": epoch}
    if epoch:
        line["train_loss"] = 3.0 - 0.2 * epoch
    line |= {"val_loss": 3.2 - 0.2 * epoch, "bleu1": 0.3 + 0.05 * epoch}
    line |= {"bleu4": 0.1 + 0.02 * epoch, "rouge_l": 0.3 + 0.02 * epoch, "cider": 0.5 + 0.1 * epoch}
    if captions:
        line["samples"] = [make_sample(n, caption) for n, caption in enumerate(captions)]
    return line | {"best": epoch > 0} | changes


def make_sample(number: int, caption: str) -> Line:
    """Return a validation image with its caption."""
    references = [f"reference {number}", f"another reference {number}"]
    name = f"photo-{number}.jpg"
    return {
        "image": f"samples/{number}.jpg",
        "id": name,
        "caption": caption,
        "references": references,
    }


def make_log(
    evaluations: Sequence[Line] | None = None, last_step: int = EPOCHS * STEPS_PER_EPOCH
) -> list[Line]:
    """Return the lines of a log up to a step; by default of a run whose last epoch is the best."""
    if evaluations is None:
        captions = [
            [f"caption {number} of epoch {epoch}" for number in range(3)]
            for epoch in range(EPOCHS + 1)
        ]
        evaluations = [make_evaluation(epoch, captions[epoch]) for epoch in range(EPOCHS + 1)]
    lines = [*map(make_training_line, range(1, last_step + 1))]
    lines += [line for line in evaluations if line["step"] <= last_step]
    return sorted(lines, key=lambda line: (line["step"], "best" in line))


def write_run(
    directory: Path,
    lines: Sequence[Line] | None = None,
    starts: Sequence[Line] | None = None,
    **settings: Mapping[str, Any],
) -> Path:
    """Write a run directory.

    Args:
        directory: The directory, which is created.
        lines: The log (default: of a finished run).
        starts: The starts in `run.json` (default: one).
        **settings: Sections of the recipe, such as `optim={"lr": 1e-4}`.
    """
    lines = make_log() if lines is None else lines
    (directory / "samples").mkdir(parents=True, exist_ok=True)
    recipe = to_dict(Recipe(output=str(directory)))
    recipe["data"] |= {"train": "photos/train.jsonl", "val": "photos/val.jsonl"}
    recipe["optim"] |= {"epochs": EPOCHS, "lr": 1e-3, "batch_size": 4}
    for section, values in settings.items():
        recipe[section] |= values
    write_text(directory / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    starts = [make_start()] if starts is None else starts
    write_text(directory / "run.json", json.dumps({"starts": starts}))
    write_log(directory, lines)
    numbers = {sample["image"] for line in lines for sample in line.get("samples", ())}
    for index, name in enumerate(sorted(numbers)):
        Image.new("RGB", (48, 32), (40 * index % 256, 90, 160)).save(directory / name)
    return directory


def write_log(directory: Path, lines: Sequence[Line]) -> None:
    """Write the log of a run."""
    write_text(directory / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
