"""Quantiles of the scores of images."""

from dataclasses import replace

import pytest

from cutline.metrics import QUANTILES, Scores, compute_quantiles

SCORES = Scores(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1)


def test_quantiles_by_hand() -> None:
    images = [replace(SCORES, cider=number / 2) for number in range(20, -1, -1)]
    quantiles = compute_quantiles(images)
    assert quantiles["cider"] == pytest.approx([10 * quantile for quantile in QUANTILES])
    assert quantiles["bleu4"] == pytest.approx([0.4] * 5)
    assert list(quantiles) == ["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"]


def test_requested_metrics_have_quantiles() -> None:
    images = [replace(SCORES, meteor=value) for value in (0.0, 1.0, 0.5)]
    assert compute_quantiles(images)["meteor"] == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95])
