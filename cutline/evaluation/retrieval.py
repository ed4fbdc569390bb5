"""Measure a matcher: recall of images and texts, accuracy and AUROC of ITM."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutline.config import Cleaning, InferenceConfig
from cutline.config.data import CaptionText
from cutline.config.task import MatchTaskConfig
from cutline.data import Sample, group_by_image
from cutline.distributed import run_on_main
from cutline.errors import DataError, ImageError
from cutline.evaluation.image_reader import ImageReader
from cutline.evaluation.ranking import Ranking, TextSet
from cutline.matcher import Matcher
from cutline.matching import classify_texts, encode_texts
from cutline.metrics import RetrievalScores, compute_auroc, detect_wrong_pairs
from cutline.metrics.stats import Floats
from cutline.progress import Progress, no_progress
from cutline.tokenizer import clean_caption

MAX_WORDS = 30
"""words at which texts are cut, as in BLIP's data"""


@dataclass(frozen=True)
class MatchEvaluation:
    """The result of `evaluate_matcher`.

    A text that is equal to one of the image's own counts as found; by index, only its own do, as in
    BLIP's code.
    """

    cosine: RetrievalScores
    """recall by the cosine of the embeddings (ITC)"""
    reranked: RetrievalScores
    """recall after ITM has re-ranked the first candidates"""
    cosine_by_index: RetrievalScores
    reranked_by_index: RetrievalScores
    itm_accuracy: float
    """fraction of pairs, one right and one wrong per image, whose match probability is on the right
    side of 0.5"""
    itm_auroc: float | None
    """area under the ROC curve of these pairs; None if no image has a wrong text"""
    num_images: int
    num_texts: int
    k_test: int
    """number of candidates that ITM re-ranks"""
    skipped: list[str]
    """a message for each image that cannot be read"""

    def to_dict(self) -> dict[str, Any]:
        """Return everything in a form that JSON can store."""
        return {
            name: value.to_dict() if isinstance(value, RetrievalScores) else value
            for name, value in vars(self).items()
        }


def evaluate_matcher(
    matcher: Matcher,
    samples: Iterable[Sample],
    *,
    k_test: int = 256,
    batch_size: int = 8,
    num_workers: int = 0,
    clean: Cleaning = "blip",
    max_words: int = MAX_WORDS,
    progress: Progress = no_progress,
) -> MatchEvaluation:
    """Measure how well a matcher finds the texts of images and the images of texts.

    As in BLIP's train_retrieval.py, all images and texts are compared by their cosine, and the
    first `k_test` candidates of each are re-ranked by the ITM logit of "match" + the cosine; the
    others are not found. In addition, ITM is asked about one right and one wrong text of each
    image, drawn at random, but the same ones for every matcher.

    Of all images, only the embeddings (P,) are in memory: each image is encoded twice. Each pair of
    an image and a distinct text is read once. In several processes (`torchrun`), each reads an
    equal share of the images, and all return the same evaluation.

    Args:
        matcher: The matcher to evaluate.
        samples: Images with their texts. Texts that are empty after cleaning are left out, and so
            are images without texts.
        k_test: Number of candidates that ITM re-ranks.
        batch_size: Images encoded together.
        num_workers: Processes that decode images (0: threads of this process).
        clean: How to clean texts: as those that the matcher was trained on.
        max_words: Words at which texts are cut.
        progress: Shows how many images are encoded.

    Raises:
        DataError: No image has a text, or none can be read.
        ConfigError: A setting is invalid.
    """
    MatchTaskConfig(k_test=k_test), CaptionText(clean, max_words)  # check them
    config = InferenceConfig(batch_size=batch_size, num_workers=num_workers)
    reader = ImageReader(matcher, config, progress)
    matcher.check_process()
    cleaned = (_clean_texts(sample, clean, max_words) for sample in group_by_image(samples))
    readable, image_embeds, skipped = _embed_images(reader, [s for s in cleaned if s.captions])
    texts = TextSet.from_texts([sample.captions for sample in readable])
    text_embeds = matcher.embed_texts(texts.distinct)[texts.numbers]
    ranking = run_on_main(lambda: Ranking.from_embeds(image_embeds, text_embeds, texts, k_test))
    logits, errors = _read_pairs(reader, readable, texts, ranking)
    cosine, reranked = ranking.recalls(logits[:, 1])
    accuracy, auroc = _measure_itm(ranking, logits)
    return MatchEvaluation(
        *(cosine[0], reranked[0], cosine[1], reranked[1]),
        itm_accuracy=accuracy,
        itm_auroc=auroc,
        num_images=len(readable),
        num_texts=len(texts.numbers),
        k_test=k_test,
        skipped=skipped + errors,
    )


def _clean_texts(sample: Sample, clean: Cleaning, max_words: int) -> Sample:
    """Return the sample with its texts cleaned, without those that are then empty."""
    texts = (clean_caption(text, clean, max_words) for text in sample.captions)
    return replace(sample, captions=tuple(filter(None, texts)))


def _embed_images(
    reader: ImageReader, samples: Sequence[Sample]
) -> tuple[list[Sample], Tensor, list[str]]:
    """Return the samples that can be read, their embeddings (N, P), and messages of the others."""
    if not samples:
        raise DataError(
            "no image has a text that is not empty after cleaning; add captions, or name the "
            "caption column"
        )
    results = reader.map(
        lambda embeds, _: reader.matcher.project_images(embeds)[0],
        [(sample.image, None) for sample in samples],
        "embedding",
    )
    skipped = [str(result) for result in results if isinstance(result, ImageError)]
    embeds = [result for result in results if isinstance(result, Tensor)]
    if not embeds:
        raise DataError(
            f"none of the {len(samples)} images can be read; the first error: {skipped[0]}"
        )
    readable = [s for s, result in zip(samples, results, strict=True) if isinstance(result, Tensor)]
    return readable, torch.stack(embeds), skipped


def _read_pairs(
    reader: ImageReader, samples: Sequence[Sample], texts: TextSet, ranking: Ranking
) -> tuple[Floats, list[str]]:
    """Return the ITM logits (pairs, 2) of all pairs of the ranking, and messages of images.

    The texts of an image that can no longer be read do not match it.
    """
    matcher = reader.matcher
    tokenizer = matcher.tokenizer
    encoded = encode_texts(texts.distinct, matcher.model, tokenizer, tokenizer.enc_id)

    def classify(image_embeds: Tensor, numbers: Sequence[int]) -> Floats:
        with matcher.inference():
            ids = [encoded[number] for number in numbers]
            return classify_texts(image_embeds, [ids], matcher.model)[0].double().numpy()

    asked = ranking.list_texts()
    inputs = [(sample.image, numbers) for sample, numbers in zip(samples, asked, strict=True)]
    results = reader.map(classify, inputs, "matching")
    errors = [str(result) for result in results if isinstance(result, ImageError)]
    logits = [
        np.tile([0.0, -np.inf], (len(numbers), 1)) if isinstance(result, ImageError) else result
        for numbers, result in zip(asked, results, strict=True)
    ]
    return np.concatenate(logits), errors


def _measure_itm(ranking: Ranking, logits: Floats) -> tuple[float, float | None]:
    """Return accuracy and AUROC on the right and wrong pairs that were drawn."""
    keys = np.concatenate([ranking.right, ranking.wrong])
    is_right = np.arange(len(keys)) < len(ranking.right)
    no_match, match = ranking.select(logits, keys).T
    # The probability is the sigmoid of this difference, and rounds to 0 or 1.
    difference = match - no_match
    accuracy = detect_wrong_pairs(difference, is_right, threshold=0.0).accuracy
    return accuracy, compute_auroc(difference, is_right) if len(ranking.wrong) else None
