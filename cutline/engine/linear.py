"""Linear layers with weights laid out for the processor at hand, once. All take (..., D) and return (..., D').

They stand in for nn.Linear when a model is only run: their weights cannot be trained or saved.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT_LIMIT = 63  # 7 bits: without VNNI, two products of 8-bit numbers are added in 16 bits, and more would not fit
INPUT_LIMIT = 127


class PackedLinear(nn.Module):
    """Weights in oneDNN's own order, which products of few rows read two to four times as fast."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """weight (D', D), bias (D',), in fp32 or bf16."""
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self.bias = None if bias is None else bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]


class UpcastLinear(nn.Module):
    """Weights kept in bf16 and multiplied in fp32, for processors that cannot multiply bf16 fast."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """weight (D', D), bias (D',)."""
        super().__init__()
        self.weight = weight.detach().bfloat16()
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        return F.linear(x, self.weight.float(), self.bias)


class Int8Linear(nn.Module):
    """Weights and inputs in 8 bits: weights scaled per output, inputs per row, so that no row depends on its neighbours."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """weight (D', D), bias (D',), in fp32."""
        super().__init__()
        weight = weight.detach().float()
        scales = weight.abs().amax(1).clamp_min(1e-12).double() / WEIGHT_LIMIT
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with (
            fbgemm(),
            warnings.catch_warnings(),
        ):  # this kind of tensor is deprecated, but no other can be packed for this product
            warnings.filterwarnings(
                "ignore", message="torch.quantize_per_tensor", category=UserWarning
            )
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(quantized, None)
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12)
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        out: Tensor = multiply(x / scale, 1 / INPUT_LIMIT, INPUT_LIMIT + 1, self.packed)
        return (
            out.mul_(scale) if self.bias is None else torch.addcmul(self.bias, out, scale, out=out)
        )


@contextmanager
def fbgemm() -> Iterator[None]:
    """With fbgemm as the library of 8-bit products, whatever else is set: of few rows it is the quickest by far."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


class Head(nn.Module):
    """The LM head with a projection of its own, where the plain one borrows the token embedding."""

    def __init__(self, dense: nn.Module, norm: nn.Module, project: nn.Module) -> None:
        super().__init__()
        self.dense, self.norm, self.project = dense, norm, project

    def forward(self, x: Tensor, token_embed: Tensor) -> Tensor:
        """x (..., D) -> logits (..., V)."""
        return self.project(self.norm(F.gelu(self.dense(x))))  # type: ignore[no-any-return]
