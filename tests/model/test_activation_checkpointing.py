"""Activation checkpointing: equal numbers, and expensive operations run only once."""

from collections import Counter
from typing import Any

import pytest
import torch
from tiny_model import make_config, make_images, make_model, make_texts
from torch.utils._python_dispatch import TorchDispatchMode

from cutline.model import make_lm_labels
from cutline.model.activation_checkpointing import SAVED_OPS


class OperationCounter(TorchDispatchMode):
    """Counts how often each operation runs."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.operations[function] += 1
        return function(*args, **(kwargs or {}))


def train_step(dropout: float, **settings: Any) -> tuple[list[torch.Tensor], Counter[Any]]:
    """Return loss and gradients, and how often each operation ran."""
    model = make_model(
        make_config({"drop_path": dropout}, {"dropout": dropout, "attn_dropout": dropout})
    ).train()
    model.checkpoint_activations(**settings)
    ids, mask = make_texts([4, 6])
    labels = make_lm_labels(ids, mask, torch.tensor([1, 2]))
    torch.manual_seed(1)
    with OperationCounter() as counter:
        loss = model(make_images(2), ids, mask, labels).loss
        loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return [loss.detach(), *gradients], counter.operations


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    "settings", [{"selective": True}, {"selective": True, "vision_blocks": 1, "text": True}]
)
def test_checkpointing_keeps_loss_and_gradients(dropout: float, settings: dict[str, Any]) -> None:
    expected, actual = train_step(dropout)[0], train_step(dropout, **settings)[0]
    assert len(expected) == len(actual) > 50
    assert all(torch.equal(left, right) for left, right in zip(expected, actual, strict=True))


def test_selective_policy_recomputes_only_cheap_operations() -> None:
    plain, selective = train_step(0.0)[1], train_step(0.0, selective=True)[1]
    saved = [operation for operation in SAVED_OPS if operation in plain]
    assert torch.ops.aten.addmm.default in saved
    assert all(selective[operation] == plain[operation] for operation in saved)
    for operation in (torch.ops.aten.gelu.default, torch.ops.aten.native_layer_norm.default):
        assert selective[operation] >= 1.5 * plain[operation]
