"""Linear layers of the engines compared with `nn.Linear`."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_vision import count_wrong_results, make_vision
from torch import Tensor
from torch.nn import functional as F

from cutline.device import has_only_avx512_bf16
from cutline.engine.linear import Int8Bf16Linear, Int8Linear, PackedLinear, UpcastLinear
from cutline.engine.prepare import MakeLinear, replace_linears

quick = settings(max_examples=30, deadline=None, derandomize=True)
sizes = st.integers(1, 40)
needs_vnni = pytest.mark.skipif(
    not has_only_avx512_bf16(), reason="Int8Bf16Linear is for CPUs with AVX-512 bf16 and VNNI"
)


def make_layer(
    seed: int, inputs: int, outputs: int, has_bias: bool
) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    return weight, bias if has_bias else None


@quick
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=2),
    sizes,
    sizes,
    st.booleans(),
    st.integers(0, 999),
)
def test_packed_equals_linear(
    rows: list[int], inputs: int, outputs: int, has_bias: bool, seed: int
) -> None:
    weight, bias = make_layer(seed, inputs, outputs, has_bias)
    x = torch.randn(*rows, inputs, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        PackedLinear(weight, bias)(x), F.linear(x, weight, bias), atol=2e-5, rtol=1e-5
    )


@quick
@given(sizes, sizes, st.booleans(), st.integers(0, 999))
def test_upcast_multiplies_bf16_weights_in_fp32(
    inputs: int, outputs: int, has_bias: bool, seed: int
) -> None:
    weight, bias = make_layer(seed, inputs, outputs, has_bias)
    x = torch.randn(3, inputs, generator=torch.Generator().manual_seed(seed))
    upcast = UpcastLinear(weight, bias)
    assert upcast.weight.dtype == torch.bfloat16
    torch.testing.assert_close(upcast(x), F.linear(x, weight.bfloat16().float(), bias))


def multiply_rounded(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply weights rounded to 7 bits per output and inputs rounded to 8 bits per row."""
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
def test_int8_multiplies_rounded_weights_and_inputs(
    rows: list[int], inputs: int, outputs: int, has_bias: bool, seed: int
) -> None:
    weight, bias = make_layer(seed, inputs, outputs, has_bias)
    x = torch.randn(*rows, inputs, generator=torch.Generator().manual_seed(seed)) * 3
    expected = multiply_rounded(x, weight, bias)
    # tolerate one input and one weight that are rounded the other way
    step = ((1 / 127 + 1 / 63) * x.abs().amax() * weight.abs().amax()).item()
    torch.testing.assert_close(Int8Linear(weight, bias)(x), expected, atol=step, rtol=1e-4)
    assert (Int8Linear(weight, bias)(x) - expected).abs().mean() < 0.05 * step


@pytest.mark.parametrize("rows", [1, 5])
def test_int8_does_not_overflow(rows: int) -> None:
    """Twice 255 * 127 would overflow the int16 accumulators of CPUs without VNNI."""
    x, weight = torch.ones(rows, 64), torch.ones(8, 64)
    torch.testing.assert_close(Int8Linear(weight, None)(x), torch.full((rows, 8), 64.0))
    torch.testing.assert_close(Int8Linear(-weight, None)(x), torch.full((rows, 8), -64.0))


def test_int8_rows_do_not_depend_on_each_other() -> None:
    weight, bias = make_layer(0, 48, 16, True)
    x = torch.randn(4, 48) * torch.tensor([1.0, 1000.0, 0.001, 0.0])[:, None]
    outputs = Int8Linear(weight, bias)(x)
    for row, out in zip(x, outputs, strict=True):
        torch.testing.assert_close(Int8Linear(weight, bias)(row[None])[0], out)
    assert bias is not None
    torch.testing.assert_close(outputs[3], bias)  # the row of zeros


@needs_vnni
@quick
@given(sizes, sizes, st.booleans(), st.integers(0, 999))
def test_int8_with_bf16_multiplies_rounded_weights_and_inputs(
    inputs: int, outputs: int, has_bias: bool, seed: int
) -> None:
    weight, bias = make_layer(seed, inputs, outputs, has_bias)
    x = (torch.randn(3, inputs, generator=torch.Generator().manual_seed(seed)) * 3).bfloat16()
    out, expected = Int8Bf16Linear(weight, bias)(x), F.linear(x.float(), weight, bias)
    assert out.dtype == torch.bfloat16
    # Each input and each weight is wrong by half a step, and bf16 has 8 bits.
    step = inputs**0.5 * x.float().abs().amax() * weight.abs().amax() / 126
    tolerance = (step + expected.abs().amax() / 128).item()
    torch.testing.assert_close(out.float(), expected, atol=tolerance, rtol=0)


@needs_vnni
def test_int8_with_bf16_does_not_overflow() -> None:
    """Whatever the largest input is, and however its inverse is rounded."""
    largest = torch.arange(128, 256).bfloat16()  # every significand
    x = torch.stack([largest, -largest, torch.zeros(128)], 1).bfloat16()
    for weight in (torch.eye(3), -torch.eye(3)):
        expected = x.float() @ weight
        out = Int8Bf16Linear(weight, None)(x).float()
        torch.testing.assert_close(out, expected, rtol=0.01, atol=0)


@needs_vnni
def test_int8_with_bf16_rows_do_not_depend_on_each_other() -> None:
    weight, bias = make_layer(0, 48, 16, True)
    x = (torch.randn(5, 48) * torch.tensor([1.0, 1e4, 1e-4, 0.0, torch.nan])[:, None]).bfloat16()
    layer = Int8Bf16Linear(weight, bias)
    outputs = layer(x)
    for row, out in zip(x[:4], outputs, strict=False):
        assert torch.equal(layer(row[None])[0], out)
    assert bias is not None
    assert torch.equal(outputs[3], bias.bfloat16())  # the row of zeros
    assert outputs[4].isnan().all()


@pytest.mark.parametrize(
    ("layer", "dtype"),
    [
        (PackedLinear, torch.float32),
        (PackedLinear, torch.bfloat16),
        (UpcastLinear, torch.float32),
        (Int8Linear, torch.float32),
        pytest.param(Int8Bf16Linear, torch.bfloat16, marks=needs_vnni),
    ],
)
def test_threads_can_share_layers(layer: MakeLinear, dtype: torch.dtype) -> None:
    vision = make_vision().to(dtype)
    replace_linears(vision, layer)
    assert not count_wrong_results(vision, dtype)


def test_threads_can_quantize_at_the_same_time() -> None:
    """The engine of quantized products is a setting of the whole process."""
    before = torch.backends.quantized.engine
    weight = torch.randn(64, 64)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: Int8Linear(weight, None), range(600)))
    assert torch.backends.quantized.engine == before
