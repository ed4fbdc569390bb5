"""The learning rate."""

import itertools
import math

import pytest

from cutline.config import OptimConfig
from cutline.training.loop.optimizer import compute_lr


def test_cosine_falls_from_lr_to_min_lr_after_a_linear_warmup() -> None:
    optim = OptimConfig(lr=1.0, min_lr=0.1, warmup_steps=10)
    rates = [compute_lr(step, 110, 10, optim) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_cosine_epoch_is_the_schedule_of_the_reference() -> None:
    """It is (init_lr - min_lr) * 0.5 * (1 + cos(pi * epoch / max_epoch)) + min_lr."""
    optim = OptimConfig(lr=1e-5, schedule="cosine_epoch")
    rates = [compute_lr(step, 50, 10, optim) for step in range(50)]
    expected = [1e-5 * 0.5 * (1 + math.cos(math.pi * epoch / 5)) for epoch in range(5)]
    assert rates == pytest.approx([rate for rate in expected for _ in range(10)])


def test_constant_schedule_does_not_change() -> None:
    optim = OptimConfig(lr=0.5, schedule="constant")
    assert {compute_lr(step, 50, 10, optim) for step in range(50)} == {0.5}
