"""`cutline evaluate`."""

import dataclasses
import sys
from typing import Annotated

from tyro.conf import Positional, arg

from cutline.cli.caption import as_row
from cutline.cli.console import complain, progress
from cutline.cli.flags import Flags, ModelFlags, Output
from cutline.config import GenerationConfig
from cutline.errors import ConfigError


def evaluate(
    data: Positional[Annotated[str, arg(metavar="DATA")]],
    output: Output = "",
    *,
    report: str = "",
    image_root: str = "",
    split: str = "",
    prompt: str | None = None,
    batch_size: int = 8,
    which: Annotated[ModelFlags, Flags] = ModelFlags(),  # noqa: B008  # frozen
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),  # noqa: B008  # frozen
) -> int:
    """Caption a data set and measure the captions: BLEU-1..4, ROUGE-L, CIDEr.

    Args:
        data: JSON Lines, COCO or Karpathy JSON, or a folder of pictures with .txt files beside them.
        output: also write the captions, with their scores: .jsonl or .csv.
        report: also write an HTML page with the pictures that did best and worst.
        image_root: folder that picture paths are relative to (default: the data file's own).
        split: split of a dataset_coco.json, such as val (default: all of them).
        prompt: what captions begin with (default: each picture's, else the model's own).
        batch_size: pictures per batch.
    """
    from cutline.data import check_output, write_captions
    from cutline.evaluation import evaluate as run
    from cutline.evaluation import write_sheet

    if output and check_output(output) not in ("jsonl", "csv"):  # text files beside pictures are where references stand
        raise ConfigError(f"{output}: evaluate writes captions to a .jsonl or .csv file")
    found = run(
        which.load(),
        data,
        prompt,
        image_root=image_root,
        split=split,
        batch_size=batch_size,
        progress=lambda pictures, total: progress(pictures, total, "captioning"),
        **dataclasses.asdict(generation),
    )
    for sentence in found.skipped:
        complain(f"skipped: {sentence}")
    for name, value in dataclasses.asdict(found.scores).items():
        sys.stdout.write(f"{name:<14}{value:.4f}\n" if isinstance(value, float) else f"{name:<14}{value}\n")
    if output:
        rows = [as_row(str(one.sample.image), one.caption, generation.num_captions) for one in found.pictures]
        write_captions(output, [{**row, "cider": round(one.scores.cider, 6)} for row, one in zip(rows, found.pictures, strict=True)])
    if report:
        write_sheet(report, found)
    return 3 if found.skipped else 0
