"""Scores of words and captions: their confidence, and what it is compared with."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pair_scores import compare_scores, judge_scores

from cutline.calibration import JudgedCaption
from cutline.captioner import Captioner
from cutline.confidence import sum_log_probs
from cutline.confidence.words import combine_log_probs
from cutline.metrics import compute_auroc, compute_spearman, percentile_interval, resample_spearman
from cutline.metrics.stats import Bools, Floats

CONFIDENCE = "confidence"


@dataclass(frozen=True)
class Example:
    """A caption whose words are judged, and what other scores need."""

    judged: JudgedCaption
    pieces: Sequence[Sequence[float]]
    """log-probabilities of the tokens of each word"""
    frequencies: Sequence[int]
    """how often each word occurs in the training captions"""
    match: float
    """the matcher's probability that the caption belongs to the image"""

    @property
    def is_right(self) -> Sequence[bool]:
        return self.judged.is_right

    @property
    def own(self) -> Floats:
        """Return the probability of each word, given the words before it."""
        return np.array([np.exp(sum(pieces)) for pieces in self.pieces])

    @property
    def own_log_probs(self) -> list[float]:
        """Return the logarithms of these."""
        return [sum(pieces) for pieces in self.pieces]

    @property
    def log_probs(self) -> Floats:
        """Return the log-probabilities of all tokens, [SEP] included."""
        return np.array(self.judged.caption.token_log_probs)


def make_examples(
    captions: Sequence[JudgedCaption],
    captioner: Captioner,
    counts: Counter[str],
    matches: Sequence[float],
) -> list[Example]:
    """Return examples of captions with the log-probabilities of their tokens."""
    examples = []
    for judged, match in zip(captions, matches, strict=True):
        caption = judged.caption
        _, spans = captioner.tokenizer.decode_words(caption.token_ids)
        log_probs = caption.token_log_probs
        pieces = [[log_probs[token] for token in span.tokens] for span in spans]
        assert np.allclose(sum_log_probs(spans, log_probs), [sum(each) for each in pieces])
        frequencies = [counts[word.text] for word in caption.words]
        examples.append(Example(judged, pieces, frequencies, match))
    return examples


def combine_with_caption(example: Example) -> list[float]:
    """Return what was chosen: the confidence of each word."""
    own = example.own_log_probs
    return [combine_log_probs(each, sum(own)) for each in own]


WordScore = Callable[[Example], Any]
"""a score for each word of a caption, or one for all of them"""

WORD_SCORES: dict[str, WordScore] = {
    CONFIDENCE: lambda each: [word.confidence for word in each.judged.caption.words],
    "own probability": lambda each: each.own,
    "log-likelihood of the caption": lambda each: each.log_probs.sum(),
    "log-likelihood per token": lambda each: each.log_probs.mean(),
    "match probability": lambda each: each.match,
    "short word": lambda each: [-len(word.text) for word in each.judged.caption.words],
    "frequent word": lambda each: each.frequencies,
}
WORD_CHOICES: dict[str, WordScore] = {
    "product of the tokens": lambda each: each.own,
    "minimum of the tokens": lambda each: [np.exp(min(pieces)) for pieces in each.pieces],
    "mean of all words": lambda each: each.own.mean(),
    "product of all words": lambda each: each.own.prod(),
    "product of all words so far": lambda each: each.own.cumprod(),
    "own and mean of all words, averaged": lambda each: (each.own + each.own.mean()) / 2,
    "own and product of all words, averaged": lambda each: (each.own + each.own.prod()) / 2,
    "own and product of all words, multiplied": lambda each: each.own * each.own.prod(),
    "own and product of all words, log-odds averaged": combine_with_caption,
}
"""definitions of the confidence of a word, one of which was chosen"""
CAPTION_SCORES: dict[str, Callable[[Example], float]] = {
    CONFIDENCE: lambda each: each.judged.caption.confidence,
    "log-likelihood": lambda each: each.log_probs.sum(),
    "log-likelihood per token": lambda each: each.log_probs.mean(),
    "match probability": lambda each: each.match,
    "short caption": lambda each: -len(each.is_right),
    "frequent words": lambda each: float(np.mean(each.frequencies)),
}
CAPTION_CHOICES: dict[str, Callable[[Example], float]] = {
    "mean": lambda each: each.own.mean(),
    "geometric mean": lambda each: np.exp(np.mean(each.own_log_probs)),
    "minimum": lambda each: each.own.min(),
    "product": lambda each: each.own.prod(),
}
"""how the words of a caption are combined to its confidence, one of which was chosen"""


def score_words(examples: Sequence[Example], score: WordScore) -> Floats:
    """Return the score of every word of all captions."""
    parts = [np.broadcast_to(score(each), len(each.is_right)) for each in examples]
    return np.concatenate(parts).astype(np.float64)


def list_right(examples: Sequence[Example]) -> Bools:
    """Return whether each word of all captions is right."""
    return np.concatenate([np.array(each.is_right) for each in examples])


def list_all_right(examples: Sequence[Example]) -> Bools:
    """Return whether all words of each caption are right."""
    return np.array([all(each.is_right) for each in examples])


def choose(examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Return the AUROC of wrong words, and of captions with a wrong word, of each definition."""
    is_right, all_right = list_right(examples), list_all_right(examples)
    words = {
        name: compute_auroc(score_words(examples, score), is_right)
        for name, score in WORD_CHOICES.items()
    }
    if all_right.all() or not all_right.any():
        return {"words": words}
    captions = {
        name: compute_auroc([score(each) for each in examples], all_right)
        for name, score in CAPTION_CHOICES.items()
    }
    return {"words": words, "captions": captions}


def judge_words(examples: Sequence[Example]) -> dict[str, Any]:
    """Return how well each score finds wrong words, and by how much confidence is better."""
    images = [number for number, each in enumerate(examples) for _ in each.is_right]
    scores = {name: score_words(examples, score) for name, score in WORD_SCORES.items()}
    return judge(scores, list_right(examples), images)


def judge_captions(examples: Sequence[Example]) -> dict[str, Any]:
    """Return how well each score finds captions with a wrong word; nothing if all are alike."""
    all_right = list_all_right(examples)
    if all_right.all() or not all_right.any():
        return {}
    scores = {
        name: np.array([score(each) for each in examples], np.float64)
        for name, score in CAPTION_SCORES.items()
    }
    return judge(scores, all_right, range(len(examples)))


def judge(scores: dict[str, Floats], is_right: Bools, images: Sequence[int]) -> dict[str, Any]:
    result = {name: judge_scores(values, is_right, images) for name, values in scores.items()}
    for name, values in scores.items():
        if name != CONFIDENCE:
            better = compare_scores(values, scores[CONFIDENCE], is_right, images)
            result[name]["confidence_is_better_by"] = better
    return result


def correlate(examples: Sequence[Example], quality: Sequence[float]) -> dict[str, Any]:
    """Return the rank correlation of each score of captions with their quality."""
    result: dict[str, Any] = {}
    samples: dict[str, Floats] = {}
    for name, score in CAPTION_SCORES.items():
        values = [score(each) for each in examples]
        samples[name] = resample_spearman(values, quality)
        result[name] = {
            "spearman": compute_spearman(values, quality),
            "interval": list(percentile_interval(samples[name])),
        }
        if name != CONFIDENCE:
            difference = result[CONFIDENCE]["spearman"] - result[name]["spearman"]
            interval = percentile_interval(samples[CONFIDENCE] - samples[name])
            result[name]["confidence_is_better_by"] = {
                "difference": difference,
                "interval": list(interval),
            }
    return result
