"""Memory and disk: what a run needs, and what the machine has."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from cutline.checkpoint import Checkpoint
from cutline.model.momentum import PREFIX
from cutline.training.loop.trainer import Trainer

_STEP_COUNTER_BYTES = 4  # AdamW counts the steps of each tensor in an fp32 scalar


@dataclass(frozen=True)
class TensorMemory:
    """Bytes of the tensors that a run holds from its first step to its last."""

    weights: int
    """those of the model"""
    gradients: int
    optimizer: int
    """state of AdamW, two moments and a step counter per tensor, and of Muon, one momentum"""
    ema: int
    """moving average of the weights, if the recipe has one"""
    momentum: int = 0
    """momentum encoders and their queues, if the recipe has any"""

    @property
    def total(self) -> int:
        """Return the sum of all."""
        return self.weights + self.gradients + self.optimizer + self.ema + self.momentum


def count_tensor_memory(trainer: Trainer) -> TensorMemory:
    """Count the bytes of weights, gradients and optimizer state, before the first step."""
    state = trainer.model.state_dict()
    momentum = sum(tensor.nbytes for name, tensor in state.items() if name.startswith(PREFIX))
    groups = trainer.optimizer.param_groups
    gradients = sum(weight.nbytes for group in groups for weight in group["params"])
    adamw = [weight for group in groups if not group["muon"] for weight in group["params"]]
    moments = gradients + sum(weight.nbytes for weight in adamw)
    return TensorMemory(
        weights=sum(tensor.nbytes for tensor in state.values()) - momentum,
        gradients=gradients,
        optimizer=moments + _STEP_COUNTER_BYTES * len(adamw),
        ema=sum(tensor.nbytes for tensor in trainer.ema.values()),
        momentum=momentum,
    )


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak that `cutline.device.peak_memory` returns, if the operating system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    # Only Linux can. Elsewhere the peak remains that of the whole life of the process.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def estimate_disk_usage(trainer: Trainer) -> int:
    """Return the peak size of a run's files in bytes.

    These are two checkpoints (best and last) and two copies of the state: a new state is written
    beside the old one, which it then replaces. Log and report are not counted.
    """
    model, memory = trainer.model, count_tensor_memory(trainer)
    trained = Checkpoint(model.config, model.state_dict(), trainer.setup.tokenizer)
    checkpoints = trainer.task.make_checkpoints(trained)
    saved = sum(tensor.nbytes for each in checkpoints.values() for tensor in each.weights.values())
    state = memory.weights + memory.momentum + memory.optimizer + memory.ema
    return 2 * saved + 2 * state


def measure_free_disk(directory: Path) -> int:
    """Return the free bytes of the disk that holds `directory`, which need not exist yet."""
    directory = directory.absolute()
    parents = (directory, *directory.parents)
    return shutil.disk_usage(next(path for path in parents if path.exists())).free
