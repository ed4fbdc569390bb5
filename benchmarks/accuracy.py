"""What a precision costs in captions: each one beside fp32, on real images, with a trained captioner.

.venv/bin/python benchmarks/accuracy.py runs/aerial ucm-captions/val.jsonl
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

import cutline
from cutline.config import InferencePrecision
from cutline.errors import ConfigError
from cutline.evaluation import Evaluation

progress = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Options:
    """Share of captions that a precision leaves unchanged, and the difference it makes to the metrics."""

    model: Positional[str]
    """a trained captioner"""
    data: Positional[str]
    """a data set with references"""
    max_length: int = 30
    """tokens of a caption, the prompt included"""
    batch_size: int = 8
    """images that are captioned together"""


def evaluations(options: Options) -> Iterator[tuple[str, Evaluation]]:
    """The data set, captioned and measured in every precision that runs here, fp32 first."""
    for precision in sorted(
        set(get_args(InferencePrecision)) - {"auto"}, key=["fp32", "bf16", "int8"].index
    ):
        progress.print(f"captioning in {precision}")
        try:
            captioner = cutline.load(options.model, precision=precision)
        except ConfigError as error:
            progress.print(f"{precision} is not available: {error}")
            continue
        yield (
            precision,
            cutline.evaluate(
                captioner,
                options.data,
                batch_size=options.batch_size,
                max_length=options.max_length,
            ),
        )


def unchanged(found: Evaluation, reference: Evaluation) -> float:
    """The share of captions that are those of `reference`, token for token."""
    pairs = zip(found.pictures, reference.pictures, strict=True)
    return sum(one.caption.token_ids == other.caption.token_ids for one, other in pairs) / len(
        reference.pictures
    )


def main(options: Options) -> None:
    """Show one line per precision."""
    table = Table("precision", "captions unchanged", "CIDEr", "difference", "BLEU-4", "difference")
    reference: Evaluation | None = None
    for precision, found in evaluations(options):
        reference = reference or found
        scores, plain = found.scores, reference.scores
        table.add_row(
            precision,
            f"{unchanged(found, reference):.1%} of {len(found.pictures)}",
            *(
                f"{scores.cider:.3f}",
                f"{scores.cider - plain.cider:+.3f}",
                f"{scores.bleu4:.3f}",
                f"{scores.bleu4 - plain.bleu4:+.3f}",
            ),
        )
    Console(file=sys.stdout, width=100).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
