"""Activations that are computed again: the same numbers, and the dear operations only once."""

from collections import Counter
from typing import Any

import pytest
import torch
from tiny_model import pictures, texts, tiny_config, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from cutline.model import lm_labels
from cutline.model.activation_checkpointing import SAVED_OPS


class Counted(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.operations[function] += 1
        return function(*args, **(kwargs or {}))


def results(dropout: float, **settings: Any) -> tuple[list[torch.Tensor], Counter[Any]]:
    """Loss and gradients, and how often each operation ran."""
    model = tiny_model(
        tiny_config({"drop_path": dropout}, {"dropout": dropout, "attn_dropout": dropout})
    ).train()
    model.checkpoint_activations(**settings)
    ids, mask = texts([4, 6])
    torch.manual_seed(1)
    with Counted() as counted:
        loss = model(pictures(2), ids, mask, lm_labels(ids, mask, torch.tensor([1, 2]))).loss
        loss.backward()
    return [
        loss.detach(),
        *(weight.grad for weight in model.parameters() if weight.grad is not None),
    ], counted.operations


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    "settings", [{"cheap": True}, {"cheap": True, "vision_blocks": 1, "text": True}]
)
def test_no_number_changes(dropout: float, settings: dict[str, Any]) -> None:
    expected, found = results(dropout)[0], results(dropout, **settings)[0]
    assert len(expected) == len(found) > 50
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_only_what_is_cheap_is_computed_again() -> None:
    plain, cheap = results(0.0)[1], results(0.0, cheap=True)[1]
    dear = [operation for operation in SAVED_OPS if operation in plain]
    assert torch.ops.aten.addmm.default in dear
    assert [cheap[operation] for operation in dear] == [plain[operation] for operation in dear]
    for operation in (torch.ops.aten.gelu.default, torch.ops.aten.native_layer_norm.default):
        assert cheap[operation] >= 1.5 * plain[operation]
