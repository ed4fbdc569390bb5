"""Stop a run that has diverged: whose loss, gradient or weights are NaN or infinite."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from cutline.distributed import all_reduce_sum
from cutline.errors import DivergedError
from cutline.training.loop.parallel import to_local


def require_finite_step(loss: float, norm: float, step: int) -> None:
    """Raise DivergedError if the loss or the gradient norm of a step is NaN or infinite."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise DivergedError(f"the loss became {loss} and the gradient norm {norm} at step {step}")


@torch.no_grad()
def require_finite_weights(
    tensors: Iterable[Tensor], compute_loss: Callable[[], Tensor], step: int
) -> None:
    """Check that all tensors of a run, and a loss, are finite; every process must call this.

    Weights can be finite but so large that every loss from now on is NaN.

    Args:
        tensors: Weights, and the moments of the optimizer.
        compute_loss: Computes a loss with these weights; it is not compiled for this.
        step: The step after which this is checked.

    Raises:
        DivergedError: They are not.
    """
    with torch.compiler.set_stance("force_eager"):
        loss = compute_loss()
    finite = _is_finite(loss) and all(_is_finite(to_local(tensor)) for tensor in tensors)
    (num_diverged,) = all_reduce_sum(not finite)
    if num_diverged:
        raise DivergedError(f"the weights after step {step} are NaN or too large")


def _is_finite(tensor: Tensor) -> bool:
    """Return whether no element is NaN or infinite."""
    return tensor.numel() == 0 or all(bool(bound.isfinite()) for bound in tensor.aminmax())
