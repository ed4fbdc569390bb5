"""Linear layers whose weights are repacked once for the CPU; all map (..., D) to (..., D').

They replace `nn.Linear` in models for inference: their weights cannot be trained or saved.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.engine.module import InferenceModule

# CPUs without VNNI add two products of 8-bit numbers in an int16 accumulator. Weights of 7 bits
# (times inputs of up to 255) cannot overflow it.
WEIGHT_LIMIT = 63
INPUT_LIMIT = 127
BF16_INPUT_LIMIT = 126  # one less than 127: the bf16 factor may be rounded up

_engine_lock = Lock()


class PackedLinear(InferenceModule):
    """A linear layer with weights in oneDNN's blocked format.

    Products of few rows are two to four times as fast with it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Pack weight (D', D) and bias (D',), in fp32 or bf16."""
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self.bias = None if bias is None else bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D')."""
        multiply = torch.ops.mkldnn._linear_pointwise
        out: Tensor = multiply(x, self.weight, self.bias, "none", [], "")
        return out


class UpcastLinear(InferenceModule):
    """A linear layer that stores weights in bf16 and multiplies in fp32.

    For CPUs without native bf16.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Convert weight (D', D) to bf16 and bias (D',) to fp32."""
        super().__init__()
        self.weight = weight.detach().bfloat16()
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D')."""
        return F.linear(x, self.weight.float(), self.bias)


class Int8Linear(InferenceModule):
    """A linear layer that multiplies 8-bit weights and 8-bit inputs.

    Weights are scaled per output and inputs per row, so that no row depends on other rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize weight (D', D); bias (D',) stays in fp32."""
        super().__init__()
        weight = weight.detach().float()
        scales = weight.abs().amax(1).clamp_min(1e-12).double() / WEIGHT_LIMIT
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with use_fbgemm(), warnings.catch_warnings():
            # PyTorch deprecates quantized tensors, but this product takes no other kind.
            warnings.filterwarnings(
                "ignore", message="torch.quantize_per_tensor", category=UserWarning
            )
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(quantized, None)
        self.bias = None if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D')."""
        # Each row is divided by its own scale, so that one input scale fits all rows.
        scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12)
        # Scale 1 / 127 and zero point 128 map [-1, 1] to 1 ... 255.
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        out: Tensor = multiply(x / scale, 1 / INPUT_LIMIT, INPUT_LIMIT + 1, self.packed)
        if self.bias is None:
            return out.mul_(scale)
        return torch.addcmul(self.bias, out, scale, out=out)


class Int8Bf16Linear(InferenceModule):
    """An `Int8Linear` whose inputs and outputs are bf16, for CPUs with AVX-512 bf16 and VNNI.

    VNNI adds products in 32 bits, so that weights may have 8 bits.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Quantize weight (D', D) and convert bias (D',) to bf16."""
        super().__init__()
        weight = weight.detach().float()
        self.scales = weight.abs().amax(1).clamp_min(1e-12) / INPUT_LIMIT
        quantized = (weight / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(quantized, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        self.bias = None if bias is None else bias.detach().bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D')."""
        x, shape = x.reshape(-1, x.shape[-1]), x.shape[:-1]
        # Without their signs, floating-point numbers are in the order of their bits as integers.
        largest = (x.view(torch.int16) & 0x7FFF).amax(-1, keepdim=True).view(torch.bfloat16)
        factor = BF16_INPUT_LIMIT / largest.clamp_min(1e-12)
        signed = (x * factor).round_().to(torch.int8)
        shifted = signed.view(torch.uint8).bitwise_xor_(128)  # adds 128, the zero point
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(shifted, 1.0, 128, self.packed, self.scales, self.zeros, None),
            *(1.0, 0, torch.bfloat16, "none", [], "none"),
        )
        scale = 1 / factor
        if self.bias is None:
            out = out.mul_(scale)
        else:
            out = torch.addcmul(self.bias, out, scale, out=out)
        return out.view(*shape, -1)


@contextmanager
def use_fbgemm() -> Iterator[None]:
    """Use fbgemm for 8-bit products in this block, which is by far the fastest for few rows."""
    with _engine_lock:  # the engine is a setting of the whole process
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = "fbgemm"
        try:
            yield
        finally:
            torch.backends.quantized.engine = before


class UntiedLMHead(nn.Module):
    """An LM head with its own projection, where `LMHead` uses the token embedding."""

    def __init__(self, dense: nn.Module, norm: nn.Module, project: nn.Module) -> None:
        super().__init__()
        self.dense, self.norm, self.project = dense, norm, project

    def forward(self, x: Tensor, token_embed: Tensor) -> Tensor:
        """Map x (..., D) to logits (..., V); token_embed is not used."""
        return self.project(self.norm(F.gelu(self.dense(x))))  # type: ignore[no-any-return]
