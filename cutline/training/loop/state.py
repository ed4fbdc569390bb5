"""The state that a stopped run resumes from: one file, written atomically."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from cutline.checkpoint.storage import write_safetensors
from cutline.distributed import run_on_main
from cutline.errors import CheckpointError
from cutline.messages import first_line
from cutline.training.loop.parallel import gather_full_weights, load_weights, shard_like


@dataclass
class TrainerState:
    """How far a run has come."""

    step: int = 0
    """optimizer steps done"""
    examples_per_step: int = 0
    """examples of an optimizer step, over all processes"""
    last_eval_step: int = -1
    """the step after which the last evaluation took place; 0: before training; -1: there is none"""
    best_score: float | None = None
    """the best evaluation of trained weights so far; higher is better"""
    loss_sum: float = 0.0
    """summed loss since the last line of the log"""
    token_count: int = 0
    """tokens or pairs since the last line of the log"""
    epoch_loss_sum: float = 0.0
    """summed loss since the last evaluation"""
    epoch_token_count: int = 0
    """tokens or pairs since the last evaluation"""
    num_images: int = 0
    """images trained on"""
    value_sums: dict[str, float] = field(default_factory=dict)
    """other values of the loss by name, summed since the last line of the log"""

    def add_losses(self, loss: float, **values: float) -> None:
        """Add the summed loss of a step, and its other values by name."""
        self.loss_sum += loss
        self.epoch_loss_sum += loss
        for name, value in values.items():
            self.value_sums[name] = self.value_sums.get(name, 0.0) + value

    def count_step(self, targets: int, images: int) -> None:
        """Count a step with so many tokens or pairs, and images."""
        self.token_count += targets
        self.epoch_token_count += targets
        self.num_images += images
        self.step += 1

    def reset_sums(self) -> None:
        """Begin new sums, as for the next line of the log."""
        self.loss_sum, self.token_count, self.value_sums = 0.0, 0, {}


def save_state(
    path: Path,
    model: nn.Module,
    ema: Mapping[str, Tensor],
    optimizer: Optimizer,
    state: TrainerState,
) -> None:
    """Save all that a resumed run needs to be the same as an uninterrupted one.

    Every process must call this; the main process writes.

    Raises:
        CheckpointError: The file cannot be written.
    """
    tensors = gather_full_weights(saved_tensors(model, ema, optimizer))
    metadata = {"trainer_state": json.dumps(asdict(state))}
    run_on_main(lambda: write_safetensors(path, tensors, metadata))


def saved_tensors(
    model: nn.Module, ema: Mapping[str, Tensor], optimizer: Optimizer
) -> dict[str, Tensor]:
    """Return the tensors of a state by name: weights, their average, and moments."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in ema.items()}
    for name, weight in model.named_parameters():
        moments = optimizer.state.get(weight, {})
        tensors |= {f"optim.{name}.{key}": tensor for key, tensor in moments.items()}
    return tensors


def load_state(
    path: Path, model: nn.Module, ema: Mapping[str, Tensor], optimizer: Optimizer
) -> TrainerState:
    """Load what `save_state` wrote into model, average and optimizer.

    Raises:
        CheckpointError: The file cannot be read or does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = TrainerState(**json.loads(file.metadata()["trainer_state"]))
        load_weights(_strip_prefix(tensors, "model."), model.state_dict())
        load_weights(_strip_prefix(tensors, "ema."), ema)
        for name, weight in model.named_parameters():
            for key, tensor in _strip_prefix(tensors, f"optim.{name}.").items():
                if tensor.dtype != torch.float32 or tensor.shape not in (weight.shape, ()):
                    raise RuntimeError(f"{name}.{key} does not fit")  # AdamW would crash
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: the state of the run cannot be read ({first_line(error)}); "
            "start a new run with another `output`"
        ) from None
    for name, weight in model.named_parameters():
        if moments := _strip_prefix(tensors, f"optim.{name}."):
            # The moments are sharded as their weight is; AdamW's step counter is a plain scalar.
            optimizer.state[weight] = {
                key: shard_like(tensor, weight)
                if tensor.shape == weight.shape
                else tensor.to(weight.device)
                for key, tensor in moments.items()
            }
    return state


def _strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
