"""`cutline evaluate`."""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from cutline.cli.caption import as_row
from cutline.cli.console import is_main_process, progress, warn
from cutline.cli.flags import Data, DataFlags, Flags, ModelFlags, Output
from cutline.config import ExtraMetric, GenerationConfig, MetricTokenizer
from cutline.errors import ConfigError
from cutline.files import write_text

if TYPE_CHECKING:
    from cutline.evaluation import Evaluation


def evaluate(
    data: Data,
    output: Output = "",
    *,
    report: str = "",
    json_file: Annotated[str, arg(name="json")] = "",
    prompt: str | None = None,
    batch_size: int = 8,
    tokens: MetricTokenizer = "auto",
    metrics: tuple[ExtraMetric, ...] = (),
    bootstrap: int = 0,
    learned: str = "",
    where: Annotated[DataFlags, Flags] = DataFlags(),  # frozen
    which: Annotated[ModelFlags, Flags] = ModelFlags(),  # frozen
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),  # frozen
) -> int:
    """Caption a data set and measure the captions: BLEU-1..4, ROUGE-L, CIDEr, and how varied they are.

    Where images have a domain, as those of nocaps do, every score is shown by domain too.

    Args:
        output: also write the captions, with their scores: .jsonl or .csv. `cutline compare` compares two such files.
        report: also write an HTML page with the images that did best and worst.
        json_file: also write the numbers to this file, as JSON.
        prompt: what captions begin with (default: each image's, else the model's own).
        batch_size: images per batch.
        tokens: what counts as a word. ptb: as the field's evaluator, made for English. words: what stands between spaces and
            punctuation. characters: each character of scripts without spaces. auto: characters where the references are mostly Chinese,
            Japanese, Thai or the like, else ptb.
        metrics: more metrics, for English: `--metrics meteor spice`. They need Java and `pip install 'cutline[coco]'`.
        bootstrap: print 95 % intervals around the scores, from so many resamples of the images; 1000 are usual (0: none).
        learned: the data set that the model was trained on, to see what share of the captions is novel.
    """
    from cutline.data import check_output, open_captions
    from cutline.distributed import process_group
    from cutline.evaluation import evaluate as run
    from cutline.metrics import check_resamples

    if output and check_output(output) not in (
        "jsonl",
        "csv",
    ):  # text files beside images are where references stand
        raise ConfigError(f"{output}: evaluate writes captions to a .jsonl or .csv file")
    if bootstrap:
        check_resamples(bootstrap)  # before the model is loaded
    known = (
        [
            caption
            for sample in open_captions(learned, columns=where.columns)
            for caption in sample.captions
        ]
        if learned
        else None
    )
    with process_group():
        found = run(
            which.load(),
            data,
            prompt,
            image_root=where.image_root,
            split=where.split,
            columns=where.columns,
            batch_size=batch_size,
            tokens=tokens,
            metrics=metrics,
            resamples=bootstrap,
            learned=known,
            progress=lambda pictures, total: progress(pictures, total, "captioning"),
            **dataclasses.asdict(generation),
        )
    return (
        write_outputs(found, output, json_file, report, generation.num_captions)
        if is_main_process()
        else 0
    )


def write_outputs(
    found: "Evaluation", output: str, json_file: str, report: str, num_captions: int
) -> int:
    """Print the numbers, and write what was asked for."""
    from cutline.data import write_captions
    from cutline.evaluation import write_evaluation_report

    for sentence in found.skipped:
        warn(f"skipped: {sentence}")
    sys.stdout.writelines(f"{line}\n" for line in lines(found))
    if output:
        names = [
            one.sample.id if isinstance(one.sample.image, bytes) else str(one.sample.image)
            for one in found.pictures
        ]
        rows = [
            as_row(name, one.caption, num_captions)
            for name, one in zip(names, found.pictures, strict=True)
        ]
        write_captions(
            output,
            [
                {**row, "cider": round(one.scores.cider, 6)}
                for row, one in zip(rows, found.pictures, strict=True)
            ],
        )
    if json_file:
        write_text(json_file, json.dumps(found.numbers(), ensure_ascii=False, indent=1) + "\n")
    if report:
        write_evaluation_report(report, found)
    return 3 if found.skipped else 0


def lines(found: "Evaluation") -> list[str]:
    """The numbers, one a line, and a table of those of each domain."""
    from cutline.evaluation import domain_table

    spans = {name: f"  [{low:.4f}, {high:.4f}]" for name, (low, high) in found.intervals.items()}
    text = [
        f"{name:<14}{_number(value)}{spans.get(name, '')}"
        for name, value in found.scores.numbers().items()
    ]
    text += [f"{name:<14}{_number(value)}" for name, value in found.diversity.numbers().items()]
    if found.domains:
        rows, head = domain_table(found)
        text += ["", f"{head[0]:<14}" + "".join(f"{cell:>14}" for cell in head[1:])]
        text += [
            f"{row[0]:<14}" + "".join(f"{_number(value):>14}" for value in row[1:]) for row in rows
        ]
    return text


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
