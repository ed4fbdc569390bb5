"""The losses of a matcher: by hand, against BLIP's formulas, and what is never a negative."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from cutline.model.match_loss import (
    contrastive_loss,
    draw_negatives,
    find_positives,
    matching_loss,
)

SIZES = st.integers(1, 6)


def test_texts_belong_to_the_images_that_list_their_keys() -> None:
    """Padding of the keys is 0 and belongs to nothing."""
    images = torch.tensor([[5, 7, 0], [8, 0, 0], [5, 8, 9]])
    texts = torch.tensor([5, 8, 5, 6])
    assert find_positives(images, texts).tolist() == [
        [True, False, True, False],
        [False, True, False, False],
        [True, True, True, False],
    ]


def test_contrastive_loss_by_hand() -> None:
    """Softmax of (ln 3, 0) is (3/4, 1/4); a row with two positives has the target (1/2, 1/2)."""
    similarities = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])
    one = torch.tensor([[True, False], [True, False]])
    expected = (-math.log(3 / 4) - math.log(1 / 4)) / 2
    assert float(contrastive_loss(similarities, one)) == pytest.approx(expected)
    two = torch.tensor([[True, True], [False, True]])
    expected = (-(math.log(3 / 4) + math.log(1 / 4)) / 2 - math.log(3 / 4)) / 2
    assert float(contrastive_loss(similarities, two)) == pytest.approx(expected)


@given(SIZES, st.integers(0, 2**31))
def test_contrastive_loss_is_that_of_the_reference(size: int, seed: int) -> None:
    """`loss_i2t` of blip_retrieval.py, with the image ids of its index rule."""
    generator = torch.Generator().manual_seed(seed)
    sim = torch.randn(size, size, generator=generator) / 0.07
    idx = torch.randint(3, (size, 1), generator=generator)
    pos_idx = torch.eq(idx, idx.t()).float()
    sim_targets = pos_idx / pos_idx.sum(1, keepdim=True)
    expected = -torch.sum(F.log_softmax(sim, dim=1) * sim_targets, dim=1).mean()
    torch.testing.assert_close(contrastive_loss(sim, find_positives(idx, idx[:, 0])), expected)


@given(SIZES, SIZES, st.integers(0, 2**31), st.floats(0, 1))
def test_a_negative_is_never_a_positive(rows: int, columns: int, seed: int, share: float) -> None:
    """Even if it is so unlike the image that the softmax over all columns is 0 for it."""
    generator = torch.Generator().manual_seed(seed)
    similarities = torch.randn(rows, columns, generator=generator) * 1000
    positives = torch.rand(rows, columns, generator=generator) < share
    negatives = draw_negatives(similarities + 2000 * positives, positives)
    for row, negative in enumerate(negatives.tolist()):
        assert (negative == -1) == bool(positives[row].all())
        assert negative == -1 or not positives[row, negative]


def test_no_columns_give_no_negatives() -> None:
    assert draw_negatives(torch.zeros(2, 0), torch.zeros(2, 0).bool()).tolist() == [-1, -1]


def test_negatives_are_drawn_as_in_the_reference() -> None:
    """With the frequencies of its softmax in which positives have the weight 0."""
    similarities = torch.tensor([2.0, 1.0, 0.5, -1.0])
    positives = torch.tensor([True, False, False, False])
    weights = F.softmax(similarities, dim=0).masked_fill(positives, 0)
    torch.manual_seed(0)
    drawn = draw_negatives(similarities.repeat(20_000, 1), positives.repeat(20_000, 1))
    frequencies = drawn.bincount(minlength=4) / 20_000
    torch.testing.assert_close(frequencies, weights / weights.sum(), atol=0.015, rtol=0)


def test_matching_loss_by_hand() -> None:
    """One pair that matches and three that do not, each with the same weight."""
    positive = torch.tensor([[0.0, math.log(4)]])  # 4/5 says "match"
    negative = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [0.0, math.log(9)]])
    expected = -(math.log(4 / 5) + math.log(1 / 2) + math.log(3 / 4) + math.log(1 / 10)) / 4
    assert float(matching_loss(positive, negative)) == pytest.approx(expected)
    alone = matching_loss(positive, negative[:0])
    assert float(alone) == pytest.approx(-math.log(4 / 5))
