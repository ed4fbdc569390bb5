"""Layer normalization whose scale is constant in gradients, for relevance."""

from torch import Tensor, nn


def normalize_fixed_scale(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Return norm(x), of which the gradient takes the scale, 1 / std, as a constant.

    Products of gradients and activations then add up to the output, layer by layer, instead of
    canceling out: the LN-rule of Ali et al., 2022, arXiv 2202.07304, section 4.

    Args:
        norm: The layer.
        x: (..., D).

    Returns:
        (..., D), equal to norm(x) but for rounding, and exactly where there is no gradient.
    """
    if not x.requires_grad:
        out: Tensor = norm(x)
        return out
    centered = x - x.mean(-1, keepdim=True)
    scale = (centered.square().mean(-1, keepdim=True) + norm.eps).rsqrt().detach()
    return centered * scale * norm.weight + norm.bias
