"""Caption a data set and measure the captions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Unpack

from cutline.captioner import Caption, Captioner
from cutline.config import GenerationSettings
from cutline.data import Sample, open_data
from cutline.errors import DataError, ImageError
from cutline.image import open_image
from cutline.metrics import Scores, measure
from cutline.report import Card, prose, table, wall, write_report

Result = Caption | ImageError
Wrap = Callable[[Iterator[Result], int], Iterable[Result]]


@dataclass(frozen=True)
class Evaluated:
    """One picture of an evaluation."""

    sample: Sample
    caption: Caption
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    scores: Scores
    """BLEU-1..4, ROUGE-L and CIDEr of the whole set"""
    pictures: list[Evaluated]
    """each picture's caption and scores, in the order of the data"""
    skipped: list[str]
    """one sentence for each picture that could not be read; these are not measured"""


def evaluate(
    captioner: Captioner,
    data: str | Path | Sequence[Sample],
    prompt: str | None = None,
    *,
    image_root: str = "",
    split: str = "",
    batch_size: int = 8,
    progress: Wrap = lambda results, total: results,
    **settings: Unpack[GenerationSettings],
) -> Evaluation:
    """Caption every picture of `data` that has references, and measure the captions against them.

    Args:
        captioner: what writes the captions.
        data: a data set's path, or its samples.
        prompt: what captions begin with (default: the picture's own, else the model's).
        image_root: the folder that picture paths are relative to (default: the data file's own).
        split: split of a dataset_coco.json (default: all of them).
        batch_size: pictures per batch.
        progress: wraps the results as they come, given their number: for a bar.
        settings: any field of `GenerationConfig`.

    Raises:
        DataError: no picture has references, or none can be read.
    """
    samples = open_data(data, image_root, split) if isinstance(data, str | Path) else data
    samples = [sample for sample in samples if sample.captions]
    if not samples:
        raise DataError(f"{data if isinstance(data, str | Path) else 'the data'}: no picture has a caption to compare with")
    default = captioner.config.prompt if prompt is None else prompt
    prompts = [default if prompt is not None or sample.prompt is None else sample.prompt for sample in samples]
    stream = captioner.stream([sample.image for sample in samples], prompts, batch_size=batch_size, **settings)
    found, skipped = [], []
    for sample, result in zip(samples, progress(stream, len(samples)), strict=True):
        if isinstance(result, ImageError):
            skipped.append(str(result))
        else:
            found.append((sample, result))
    if not found:
        raise DataError(f"none of the {len(samples)} pictures can be read; the first: {skipped[0]}")
    scores, each = measure([caption.text for _, caption in found], [sample.captions for sample, _ in found])
    pictures = [Evaluated(sample, caption, one) for (sample, caption), one in zip(found, each, strict=True)]
    return Evaluation(scores, pictures, skipped)


def write_sheet(path: str | Path, found: Evaluation, count: int = 24) -> None:
    """Write an HTML page with the numbers, and the `count` pictures whose captions did best and worst by CIDEr."""
    ranked = sorted(found.pictures, key=lambda one: one.scores.cider, reverse=True)
    count = min(count, (len(ranked) + 1) // 2)
    sections = [
        ("Scores", table([[name, value] for name, value in asdict(found.scores).items()])),
        ("Best captions", wall([_card(one) for one in ranked[:count]])),
        ("Worst captions", wall([_card(one) for one in reversed(ranked[len(ranked) - count :])])),
    ]
    if found.skipped:
        sections.append(("Skipped", "".join(prose(sentence) for sentence in found.skipped)))
    write_report(path, "Evaluation", f"{len(found.pictures)} pictures, captioned and compared with their references.", sections)


def _card(one: Evaluated) -> Card:
    return Card(open_image(one.sample.image), one.caption.text, f"CIDEr {one.scores.cider:.2f} · {one.sample.captions[0]}")
