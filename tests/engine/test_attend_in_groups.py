"""Unfused attention, compared with PyTorch's."""

import pytest
import torch
from torch import Tensor

from cutline.engine.attention import MAX_SCORES, attend_in_groups
from cutline.model.attention import attend

HEADS, WIDTH = 5, 8
MANY = 700  # more queries and keys than are computed at once
assert MANY**2 * HEADS > MAX_SCORES


def draw(rows: int, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw queries, keys and values in bf16, as views with strides like those of a layer."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(rows, tokens, HEADS, WIDTH, generator=generator).bfloat16().transpose(1, 2)
        for tokens in (queries, keys, keys)
    )
    return q, k, v


def make_mask(kind: str, rows: int, queries: int, keys: int) -> Tensor | None:
    """Make a mask that differs between rows."""
    generator = torch.Generator().manual_seed(1)
    if kind == "bias":
        return torch.rand(rows, 1, 1, keys, generator=generator) * 3
    if kind == "bool":
        mask = torch.rand(rows, 1, queries, keys, generator=generator) < 0.5
        mask[..., 0] = True
        return mask
    return None


@pytest.mark.parametrize("size", [3, MANY])
@pytest.mark.parametrize("kind", ["none", "bias", "bool", "causal"])
def test_it_computes_attention(size: int, kind: str) -> None:
    q, k, v = draw(2, size, size)
    mask, causal = make_mask(kind, 2, size, size), kind == "causal"
    out = attend_in_groups(q, k, v, 0.0, mask, causal)
    expected = attend(q.float(), k.float(), v.float(), 0.0, mask, causal)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("queries", [3, MANY])
@pytest.mark.parametrize("kind", ["none", "bias"])
def test_a_row_does_not_depend_on_other_rows(queries: int, kind: str) -> None:
    q, k, v = draw(3, queries, MANY)
    mask = make_mask(kind, 3, queries, MANY)
    out = attend_in_groups(q, k, v, 0.0, mask, False)
    for row in range(3):
        one = slice(row, row + 1)
        row_mask = None if mask is None else mask[one]
        alone = attend_in_groups(q[one], k[one], v[one], 0.0, row_mask, False)
        assert torch.equal(alone, out[one])


def test_queries_take_the_data_type_of_the_keys() -> None:
    q, k, v = draw(1, MANY, MANY)
    out = attend_in_groups(q.float(), k, v, 0.0, None, False)
    assert out.dtype == torch.float32
    assert torch.equal(out, attend_in_groups(q, k, v, 0.0, None, False).float())
