"""The state that a stopped run goes on from: one file, written whole."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from cutline.checkpoint.storage import write_safetensors
from cutline.errors import CheckpointError


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """optimiser steps done"""
    batch: int = 0
    """batches read, over all epochs"""
    evaluated: int = 0
    """the step after which it was last evaluated"""
    best: float | None = None
    """best evaluation so far; higher is better"""
    loss_sum: float = 0.0
    """losses and tokens since the last line of the log"""
    token_count: int = 0
    epoch_loss_sum: float = 0.0
    """losses and tokens since the last evaluation"""
    epoch_token_count: int = 0
    pictures: int = 0
    """pictures trained on"""


def save_state(path: Path, model: nn.Module, average: nn.Module | None, optimizer: Optimizer, progress: Progress) -> None:
    """Write everything a run needs to go on as if never stopped."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optim.{index}.{name}": tensor for name, tensor in values.items()}
    write_safetensors(path, tensors, {"progress": json.dumps(asdict(progress))})


def load_state(path: Path, model: nn.Module, average: nn.Module | None, optimizer: Optimizer) -> Progress:
    """Read what `save_state` wrote into model, average and optimiser. Raises CheckpointError if it does not fit."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            progress = Progress(**json.loads(file.metadata()["progress"]))
        model.load_state_dict(_below(tensors, "model."))
        if average is not None:
            average.load_state_dict(_below(tensors, "average."))
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: the run's state cannot be read ({reason}); start anew with another `output`") from None
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, "optim.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return progress


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move `average` towards `model`: an exponential moving average whose decay grows to `decay` over the first steps.

    Polyak & Juditsky, 1992; the growth, (1 + step) / (10 + step), as in TensorFlow's ExponentialMovingAverage.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), weight)
