"""Linear layers of int8 graphs, with the arithmetic of `cutline.engine.linear.Int8Linear`."""

import torch
from torch import Tensor, nn

from cutline.engine.linear import INPUT_LIMIT, WEIGHT_LIMIT
from cutline.engine.prepare import replace_linears
from cutline.model import CaptionModel


class QuantizedLinear(nn.Module):
    """A linear layer that multiplies 7-bit weights and 8-bit inputs in standard ONNX operators.

    Weights are scaled per output and inputs per row, so that no row depends on other rows. ONNX
    Runtime's own dynamic quantization has one scale for all rows of all images.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize weight (D', D); bias (D',) stays in fp32."""
        super().__init__()
        assert bias is not None  # every layer has one
        weight = weight.detach()
        scales = weight.abs().amax(1).clamp_min(1e-12) / WEIGHT_LIMIT  # (D',)
        quantized = (weight / scales[:, None]).round().to(torch.int8).t().contiguous()
        self.weight, self.bias = nn.Buffer(quantized), nn.Buffer(bias.detach())
        self.scales = nn.Buffer(scales / INPUT_LIMIT)
        self.input_scale = nn.Buffer(torch.tensor(1 / INPUT_LIMIT))
        self.input_zero = nn.Buffer(torch.tensor(INPUT_LIMIT + 1, dtype=torch.uint8))
        self.weight_zero = nn.Buffer(torch.tensor(0, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D')."""
        row_scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12)
        rows = torch.onnx.ops.symbolic(
            "QuantizeLinear",
            (x / row_scale, self.input_scale, self.input_zero),
            dtype=torch.uint8,
            shape=x.shape,
        )
        products = torch.onnx.ops.symbolic(
            "MatMulInteger",
            (rows, self.weight, self.input_zero, self.weight_zero),
            dtype=torch.int32,
            shape=(*x.shape[:-1], len(self.bias)),
        )
        return products.float() * self.scales * row_scale + self.bias


def quantize_model(model: CaptionModel) -> None:
    """Replace all linear layers of a model, and the projection of its LM head, in place."""
    replace_linears(model.vision, QuantizedLinear)
    replace_linears(model.text, QuantizedLinear)
