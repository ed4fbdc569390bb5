"""The state that a stopped run goes on from: one file, written whole."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from cutline.checkpoint.storage import write_safetensors
from cutline.distributed import gather_results, is_main_process
from cutline.errors import CheckpointError
from cutline.training.loop.parallel import full_weights, piece, put


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """optimiser steps done"""
    rows_per_step: int = 0
    """rows of data that one step takes, over all processes"""
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
    """images trained on"""


def save_state(
    path: Path,
    model: nn.Module,
    average: Mapping[str, Tensor],
    optimizer: Optimizer,
    progress: Progress,
) -> None:
    """Write everything a run needs to go on as if never stopped: every process calls, the first writes. Raises CheckpointError."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for name, weight in model.named_parameters():
        tensors |= {
            f"optim.{name}.{key}": tensor for key, tensor in optimizer.state.get(weight, {}).items()
        }
    tensors = full_weights(tensors)
    gather_results(
        lambda: (
            write_safetensors(path, tensors, {"progress": json.dumps(asdict(progress))})
            if is_main_process()
            else None
        )
    )


def load_state(
    path: Path, model: nn.Module, average: Mapping[str, Tensor], optimizer: Optimizer
) -> Progress:
    """Read what `save_state` wrote into model, average and optimiser. Raises CheckpointError if it does not fit."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # not a dict
            progress = Progress(**json.loads(file.metadata()["progress"]))
        put(_below(tensors, "model."), model.state_dict())
        put(_below(tensors, "average."), average)
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: the run's state cannot be read ({reason}); start anew with another `output`"
        ) from None
    for name, weight in model.named_parameters():
        if moments := _below(tensors, f"optim.{name}."):
            optimizer.state[weight] = {
                key: piece(tensor, weight)
                if tensor.shape == weight.shape
                else tensor.to(weight.device)
                for key, tensor in moments.items()
            }
    return progress


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
