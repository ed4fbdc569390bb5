"""Scores of captions of aerial images: those of a matcher, and those that need none."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aerial_pairs import Pairs, clean_text
from pair_scores import compare_scores, judge_matcher, score_pairs
from results import progress

import cutline
from cutline.data import Sample
from cutline.likelihood_ratio import LikelihoodRatio
from cutline.metrics.stats import Floats

NUM_BACKGROUND = 12
"""training images whose mean likelihood the ratio compares with"""
BETTER = {"matcher": "matcher_is_better_by", "matcher, cosine": "cosine_is_better_by"}
"""scores of the matcher, and by what name the result has how much better than another each is"""


class Judge:
    """Scores pairs by the matcher and by the captioner."""

    def __init__(
        self,
        matcher: Path,
        captioner: Path,
        train: Sequence[Sample],
        samples: Sequence[Sample],
        seed: int,
    ) -> None:
        """Load both models.

        Args:
            matcher: The matcher.
            captioner: The captioner.
            train: The training images, some of which the ratio compares with.
            samples: The validation images.
            seed: Seed of the choice of training images.
        """
        self.matcher = cutline.load_matcher(matcher, precision="fp32")
        self.captioner = cutline.load(captioner, precision="fp32")
        self.samples = samples
        self.ratio = LikelihoodRatio(self.captioner, choose_background(train, seed))
        self.num_occurrences = Counter(clean_text(text) for s in train for text in s.captions)

    def score(self, pairs: Pairs) -> dict[str, Floats]:
        """Return the scores of each pair, by name."""
        images = [self.samples[image].image for image in pairs.images]
        texts = pairs.texts
        progress.print(f"scoring {len(texts):,} pairs")
        sums, num_tokens = score_pairs(self.captioner, images, texts)
        inputs = [(image, [text]) for image, text in zip(images, texts, strict=True)]
        ratio = np.array([scores.ratio[0] for scores in self.ratio.stream(inputs)])
        return {
            "matcher": self.matcher.match(images, texts).double().numpy(),
            "matcher, cosine": self.matcher.similarity(images, texts).double().numpy(),
            "mean log p": sums / num_tokens,
            "ratio": ratio,
            "ratio per token": ratio / num_tokens,
            "text alone": np.array([self.num_occurrences[text] for text in texts], np.float64),
        }

    def judge(self, pairs: Pairs) -> dict[str, Any]:
        """Return how well each score tells right from swapped captions; images are resampled."""
        scores = self.score(pairs)
        groups = pairs.images.tolist()
        result = judge_matcher(scores, pairs.is_right, groups)
        for name in scores.keys() - BETTER.keys():
            for matcher, key in BETTER.items():
                pair = scores[name], scores[matcher]
                result[name][key] = compare_scores(*pair, pairs.is_right, groups)
        return result


def choose_background(samples: Sequence[Sample], seed: int) -> list[str]:
    """Return training images, drawn at random."""
    rows = np.random.default_rng(seed).choice(len(samples), NUM_BACKGROUND, replace=False)
    return [str(samples[row].image) for row in rows]
