"""Measure how a precision changes captions and metrics, compared with fp32, on real images.

python benchmarks/accuracy.py runs/aerial/last ucm-captions/block-val.jsonl --onnx
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

import cutline
from cutline.captioner import Captioner
from cutline.checkpoint import GraphPrecision, load_checkpoint
from cutline.config import InferencePrecision
from cutline.errors import ConfigError
from cutline.evaluation import Evaluation

progress = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Options:
    """Fraction of captions that a precision leaves unchanged, and the change of the metrics."""

    model: Positional[str]
    """a trained captioner"""
    data: Positional[str]
    """a dataset with references"""
    max_length: int = 30
    """maximum length of a caption in tokens, prompt included"""
    batch_size: int = 8
    """images captioned together"""
    onnx: bool = False
    """also as ONNX graphs, in fp32 and int8"""


def evaluate_precisions(options: Options) -> Iterator[tuple[str, Evaluation]]:
    """Yield the evaluation in every precision that runs here, fp32 first."""
    for precision in sorted(
        set(get_args(InferencePrecision)) - {"auto"}, key=["fp32", "bf16", "int8"].index
    ):
        progress.print(f"captioning in {precision}")
        try:
            captioner = cutline.load(options.model, precision=precision)
        except ConfigError as error:
            progress.print(f"{precision} is not available: {error}")
            continue
        yield precision, evaluate_captioner(captioner, options)
    for precision in get_args(GraphPrecision) if options.onnx else ():
        progress.print(f"captioning with ONNX graphs in {precision}")
        yield f"onnx {precision}", evaluate_captioner(load_graphs(options, precision), options)


def load_graphs(options: Options, precision: GraphPrecision) -> Captioner:
    """Convert the captioner to ONNX graphs, and load them."""
    from cutline.onnx_export import save_onnx

    with tempfile.TemporaryDirectory() as folder:
        save_onnx(Path(folder), load_checkpoint(options.model), precision)
        return cutline.load(folder)


def evaluate_captioner(captioner: Captioner, options: Options) -> Evaluation:
    """Caption the dataset and measure the captions."""
    return cutline.evaluate(
        captioner, options.data, batch_size=options.batch_size, max_length=options.max_length
    )


def unchanged_fraction(evaluation: Evaluation, reference: Evaluation) -> float:
    """Return the fraction of captions whose tokens equal those of `reference`."""
    pairs = zip(evaluation.images, reference.images, strict=True)
    return sum(image.caption.token_ids == other.caption.token_ids for image, other in pairs) / len(
        reference.images
    )


def main(options: Options) -> None:
    """Print one line per precision."""
    table = Table("precision", "captions unchanged", "CIDEr", "difference", "BLEU-4", "difference")
    reference: Evaluation | None = None
    for precision, evaluation in evaluate_precisions(options):
        reference = reference or evaluation
        scores, plain = evaluation.scores, reference.scores
        table.add_row(
            precision,
            f"{unchanged_fraction(evaluation, reference):.1%} of {len(evaluation.images)}",
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
