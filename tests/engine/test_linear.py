"""Linear layers of the engines against the plain one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cutline.engine.linear import Int8Linear, PackedLinear, UpcastLinear

quick = settings(max_examples=30, deadline=None, derandomize=True)
sizes = st.integers(1, 40)


def layer(seed: int, inputs: int, outputs: int, biased: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = (
        torch.randn(outputs, inputs, generator=generator),
        torch.randn(outputs, generator=generator),
    )
    return weight, bias if biased else None


@quick
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=2),
    sizes,
    sizes,
    st.booleans(),
    st.integers(0, 999),
)
def test_packed_is_the_same_product(
    rows: list[int], inputs: int, outputs: int, biased: bool, seed: int
) -> None:
    weight, bias = layer(seed, inputs, outputs, biased)
    x = torch.randn(*rows, inputs, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        PackedLinear(weight, bias)(x), F.linear(x, weight, bias), atol=2e-5, rtol=1e-5
    )


@quick
@given(sizes, sizes, st.booleans(), st.integers(0, 999))
def test_upcast_multiplies_rounded_weights_in_fp32(
    inputs: int, outputs: int, biased: bool, seed: int
) -> None:
    weight, bias = layer(seed, inputs, outputs, biased)
    x = torch.randn(3, inputs, generator=torch.Generator().manual_seed(seed))
    ours = UpcastLinear(weight, bias)
    assert ours.weight.dtype == torch.bfloat16
    torch.testing.assert_close(ours(x), F.linear(x, weight.bfloat16().float(), bias))


def eight_bits(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product of rounded numbers, written plainly: 7 bits a weight per output, 8 bits an input per row."""
    weight_scale = weight.abs().amax(1, keepdim=True) / 63
    scale = x.abs().amax(-1, keepdim=True) / 127
    return F.linear(
        (x / scale).round() * scale, (weight / weight_scale).round() * weight_scale, bias
    )


@quick
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=2),
    sizes,
    sizes,
    st.booleans(),
    st.integers(0, 999),
)
def test_int8_is_the_product_of_rounded_numbers(
    rows: list[int], inputs: int, outputs: int, biased: bool, seed: int
) -> None:
    weight, bias = layer(seed, inputs, outputs, biased)
    x = torch.randn(*rows, inputs, generator=torch.Generator().manual_seed(seed)) * 3
    expected = eight_bits(x, weight, bias)
    step = (
        x.abs().amax() / 127 * weight.abs().amax() + weight.abs().amax() / 63 * x.abs().amax()
    ).item()  # one rounding that fell the other way
    torch.testing.assert_close(Int8Linear(weight, bias)(x), expected, atol=step, rtol=1e-4)
    assert (Int8Linear(weight, bias)(x) - expected).abs().mean() < 0.05 * step


@pytest.mark.parametrize("rows", [1, 5])
def test_int8_does_not_overflow_where_all_numbers_are_large(rows: int) -> None:
    """255 * 127 twice would not fit into the 16 bits that processors without VNNI add in."""
    x, weight = torch.ones(rows, 64), torch.ones(8, 64)
    torch.testing.assert_close(Int8Linear(weight, None)(x), torch.full((rows, 8), 64.0))
    torch.testing.assert_close(Int8Linear(-weight, None)(x), torch.full((rows, 8), -64.0))


def test_int8_rows_do_not_depend_on_their_neighbours() -> None:
    weight, bias = layer(0, 48, 16, True)
    x = torch.randn(4, 48) * torch.tensor([1.0, 1000.0, 0.001, 0.0])[:, None]
    together = Int8Linear(weight, bias)(x)
    for row, out in zip(x, together, strict=True):
        torch.testing.assert_close(Int8Linear(weight, bias)(row[None])[0], out)
    assert bias is not None
    torch.testing.assert_close(together[3], bias)  # a row of zeros
