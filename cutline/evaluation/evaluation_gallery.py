"""The images of an evaluation's report, from the worst caption to the best."""

import math
from collections.abc import Sequence

from cutline.evaluation.evaluation import EvaluatedImage, Evaluation
from cutline.evaluation.evaluation_findings import EMPTY, REPEATED, count_captions
from cutline.evaluation.image_cards import make_image_card, select_ranked
from cutline.metrics import METRIC_NAMES
from cutline.report import Block, Column, Gallery, Line, Text, Tone

IMAGE_METRICS = ("cider", "rouge_l", "meteor", "spice")
"""those that say something of a single caption, whose BLEU-4 is usually 0"""


def find_image_metrics(evaluation: Evaluation) -> list[str]:
    """Return the metrics of single captions that were computed."""
    return [name for name in IMAGE_METRICS if getattr(evaluation.scores, name) is not None]


def show_evaluated_images(evaluation: Evaluation, num_images: int) -> list[Block]:
    """Return a gallery of at most so many images, and a text that says which these are."""
    images = evaluation.images
    selected = select_ranked([image.scores.cider for image in images], num_images)
    text = f"All {len(images):,} images."
    if len(selected) < len(images):
        text = (
            f"{len(selected):,} of {len(images):,} images: those with the lowest CIDEr, those with "
            "the highest, and others from the whole range between, at even distances in the order "
            "of CIDEr."
        )
    shown = [images[index] for index in sorted(selected)]
    return [Text(text), _make_gallery(evaluation, shown)]


def _make_gallery(evaluation: Evaluation, images: Sequence[EvaluatedImage]) -> Gallery:
    metrics = find_image_metrics(evaluation)
    columns = [Column(METRIC_NAMES[name]) for name in metrics]
    if has_confidence := any(math.isfinite(image.caption.confidence) for image in images):
        columns.append(Column("confidence"))
    counts = count_captions(evaluation.images)
    cards = []
    for image in images:
        text, sample = image.caption.text, image.sample
        numbers = [getattr(image.scores, name) for name in metrics]
        numbers += [image.caption.confidence] * has_confidence
        tags = [EMPTY] if not text.strip() else [REPEATED] if counts[text.strip()] > 1 else []
        tags += [sample.domain] if sample.domain else []
        note = f"group: {sample.group}" if sample.group else ""
        cards.append(make_image_card(sample, [Line(text)], numbers, tags, note))
    tones: dict[str, Tone] = {EMPTY: "bad", REPEATED: "", **dict.fromkeys(evaluation.domains, "")}
    return Gallery(cards, columns, tones, ("CIDEr", "lowest"), num_references=1)
