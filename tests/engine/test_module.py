"""Models prepared for inference cannot be copied, saved or given other weights."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from random_captioner import make_captioner
from tiny_vision import CONFIG
from torch import nn

from cutline.captioner import Captioner
from cutline.config import InferencePrecision
from cutline.engine.compiled import CompiledVision
from cutline.engine.linear import UpcastLinear
from cutline.errors import ConfigError

EAGER = make_captioner()
PRECISIONS: tuple[InferencePrecision, ...] = ("fp32", "bf16", "int8")
MESSAGE = 'cannot be copied, saved or given other weights: load it again, .* engine="eager"'
REFUSED: dict[str, Callable[[nn.Module], object]] = {
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "torch.save": lambda model: torch.save(model, io.BytesIO()),
    "state_dict": lambda model: model.state_dict(),
    "load_state_dict": lambda model: model.load_state_dict({}, strict=False),
}


def prepare(precision: InferencePrecision) -> Captioner:
    return Captioner(copy.deepcopy(EAGER.model), EAGER.tokenizer, "cpu", precision, "packed")


@pytest.mark.parametrize("action", REFUSED)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_packed_models_refuse(precision: InferencePrecision, action: str) -> None:
    with pytest.raises(ConfigError, match=MESSAGE):
        REFUSED[action](prepare(precision).model)


@pytest.mark.parametrize("action", REFUSED)
@pytest.mark.parametrize("layer", ["upcast", "graph"])
def test_models_with_any_such_layer_refuse(layer: str, action: str) -> None:
    """Layers that not every machine has: those for CPUs without native bf16, and graphs."""
    model = copy.deepcopy(EAGER.model)
    replacement = (
        UpcastLinear(torch.zeros(2, 2), None)
        if layer == "upcast"
        else CompiledVision(CONFIG, torch.clone)
    )
    model.vision = replacement  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=MESSAGE):
        REFUSED[action](model)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_captioners_with_packed_layers_refuse(precision: InferencePrecision) -> None:
    captioner = prepare(precision)
    for action in (copy.deepcopy, pickle.dumps):
        with pytest.raises(ConfigError, match=MESSAGE):
            action(captioner)


def test_eager_captioners_can_be_copied_and_pickled() -> None:
    for captioner in (copy.deepcopy(EAGER), pickle.loads(pickle.dumps(EAGER))):
        weights = captioner.model.state_dict()
        for name, weight in EAGER.model.state_dict().items():
            assert torch.equal(weights[name], weight)
