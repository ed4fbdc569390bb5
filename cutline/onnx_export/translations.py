"""Operators of PyTorch that are translated to ONNX in another way than the exporter does."""

from collections.abc import Callable, Mapping
from typing import Any

import torch


def translate_attention(
    q: Any,
    k: Any,
    v: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Return the nodes of attention, of which ONNX Runtime fuses the transposition with a product.

    The exporter's own copy all keys. Every query attends to some key.
    """
    from onnx_ir import DataType
    from onnxscript import opset20 as op

    scaled = op.Mul(q, op.Constant(value_float=q.shape[-1] ** -0.5))
    scores = op.MatMul(scaled, op.Transpose(k, perm=[0, 1, 3, 2]))
    if attn_mask is not None and attn_mask.dtype != DataType.BOOL:
        scores = op.Add(scores, attn_mask)
    elif attn_mask is not None:
        scores = op.Where(attn_mask, scores, op.Constant(value_float=-torch.inf))
    return op.MatMul(op.Softmax(scores, axis=-1), v)


def translate_sort(
    x: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Any:
    """Return the nodes of a sort; of equal values, `TopK` puts those of lower index first."""
    from onnxscript import opset20 as op

    count: Any = op.Constant(value_ints=[x.shape[dim]])
    return op.TopK(x, count, axis=dim, largest=int(descending), sorted=1)


TRANSLATIONS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.scaled_dot_product_attention.default: translate_attention,
    torch.ops.aten.sort.stable: translate_sort,
}
"""operator -> its translation"""
