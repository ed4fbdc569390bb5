"""Muon: steps of orthogonalized momentum for the matrices of layers (Jordan et al., 2024)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""coefficients of the quintic iteration, of https://kellerjordan.github.io/posts/muon/"""
NUM_ITERATIONS = 5


class Muon(torch.optim.AdamW):
    """Trains the matrices of groups with `muon` by Muon, and all other weights by AdamW.

    A matrix has one state, `momentum`. `torch.optim.Muon` needs PyTorch 2.9, and always multiplies
    in bf16, which is slow on a CPU that has no units for it.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take groups with `params`, `weight_decay` and `muon`.

        Args:
            groups: Groups of weights.
            lr: Learning rate of groups without one.
            betas: Those of AdamW.
            dtype: Data type of the products that orthogonalize momentum.
        """
        super().__init__(groups, lr=lr, betas=betas, fused=True)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step."""
        for group in self.param_groups:
            if group["muon"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._step_matrix(weight, weight.grad, group["lr"], group["weight_decay"])
                        weight.grad = None  # AdamW then leaves it as it is
        return super().step(closure)

    def _step_matrix(self, weight: Tensor, grad: Tensor, lr: float, decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(grad, 1 - MOMENTUM)
        update = orthogonalize(grad.lerp(momentum, MOMENTUM).to(self._dtype))  # Nesterov's
        rows, columns = weight.shape
        weight.mul_(1 - lr * decay)
        weight.add_(update.to(weight.dtype), alpha=-lr * max(1.0, rows / columns) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return a matrix (R, C) with the same singular vectors, and singular values near 1.

    Five Newton-Schulz iterations bring them to between about 0.7 and 1.2.
    """
    a, b, c = NEWTON_SCHULZ
    transposed = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if transposed else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if transposed else x
