"""Captions of several captioners on the same images: measures, differences, and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

import cutline
from cutline.batching import Caption
from cutline.config import GenerationConfig, GenerationKwargs
from cutline.data import Sample
from cutline.evaluation import Evaluation
from cutline.evaluation.image_cards import make_image_card
from cutline.metrics.significance import draw_resamples, percentile_interval
from cutline.metrics.stats import Floats
from cutline.progress import progress_bar
from cutline.report import About, Column, Gallery, Line, Report, Section, write_report

FRAGMENT_ENDS = frozenset(["a", "an", "the", "of", "in", "on", "with", "and", "to"])
"""words that no caption ends with"""


@dataclass(frozen=True)
class Captions:
    """The captions of all images by one captioner."""

    evaluation: Evaluation

    @property
    def cider(self) -> Floats:
        """Return the CIDEr of each image."""
        return np.array([image.scores.cider for image in self.evaluation.images])

    @property
    def best(self) -> list[Caption]:
        """Return the caption of each image."""
        return [image.caption for image in self.evaluation.images]

    def describe(self) -> dict[str, float]:
        """Return scores, diversity, and the shares of fragments and of unfinished captions."""
        scores, diversity = self.evaluation.scores, self.evaluation.diversity
        return {
            "cider": scores.cider,
            "bleu4": scores.bleu4,
            "fragments": float(np.mean([is_fragment(caption) for caption in self.best])),
            "unfinished": float(np.mean([is_unfinished(caption) for caption in self.best])),
            "distinct1": diversity.distinct1,
            "distinct2": diversity.distinct2,
            "mean_length": diversity.mean_length,
            "unique": diversity.unique,
        }


def caption_images(
    path: Path, samples: Sequence[Sample], generation: GenerationConfig, num_captions: int
) -> Captions:
    """Caption the images, with `num_captions` captions each."""
    settings = asdict(generation) | {"num_captions": num_captions, "token_log_probs": True}
    captioner = cutline.load(path, precision="fp32")
    kwargs = cast(GenerationKwargs, settings)
    return Captions(cutline.evaluate(captioner, samples, progress=progress_bar, **kwargs))


def is_unfinished(caption: Caption) -> bool:
    """Return whether a caption has no end token, which only the log-probabilities include."""
    return len(caption.token_log_probs) == len(caption.token_ids)


def is_fragment(caption: Caption) -> bool:
    """Return whether a caption is unfinished, or ends as no caption does."""
    words = caption.text.split()
    return is_unfinished(caption) or not words or words[-1] in FRAGMENT_ENDS


def compare_cider(
    first: Sequence[Floats], second: Sequence[Floats], resamples: int
) -> dict[str, Any]:
    """Return how much higher the second CIDEr is, with its 95 % interval.

    Args:
        first: The CIDEr of each image with each seed.
        second: That of the other captioner.
        resamples: Resamples of the images.
    """
    return estimate_mean(np.mean(second, axis=0) - np.mean(first, axis=0), resamples)


def estimate_mean(values: Floats, resamples: int) -> dict[str, Any]:
    """Return the mean CIDEr, or difference of it, over the images (N,), with its 95 % interval."""
    draws = draw_resamples(np.random.default_rng(0), len(values), resamples)
    means = np.concatenate([counts @ values for counts in draws]) / len(values)
    return {"cider": float(values.mean()), "interval": percentile_interval(means)}


def write_gallery(
    path: str, samples: Sequence[Sample], captions: Mapping[str, Captions], data: str
) -> None:
    """Write a page with the captions of each image by several captioners, best first.

    The column is the CIDEr of the first captioner minus that of the last.
    """
    first, *_, last = captions.values()
    gains = (first.cider - last.cider).tolist()
    cards = []
    for row, (sample, gain) in enumerate(zip(samples, gains, strict=True)):
        lines, tags = [], []
        for name, each in captions.items():
            texts = [caption.text for caption in each.best[row].alternatives]
            lines += [Line(text, f"{name} {n}") for n, text in enumerate(texts, start=1)]
            tags += [f"{name}: fragment"] * is_fragment(each.best[row])
        cards.append(make_image_card(sample, lines, [gain], tags))
    tags = {f"{name}: fragment": "bad" for name in captions}
    gallery = Gallery(cards, [Column("CIDEr gained", signed=True)], tags, num_references=2)
    title = f"Captions of {' and '.join(captions)} on {data}"
    write_report(path, Report(title, About(data=data), [Section("Images", [gallery])]))
