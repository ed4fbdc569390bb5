"""Memory and disk: what a run needs, and what there is."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from cutline.training.loop.trainer import Trainer

_COUNTER = 4  # bytes of AdamW's count of steps, one for each tensor that learns


@dataclass(frozen=True)
class Counted:
    """Bytes that follow from the parameters alone."""

    weights: int
    gradients: int
    moments: int
    """AdamW's two averages of gradients, and its counts of steps"""
    average: int
    """the moving average of the weights, where the recipe has one"""

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.moments + self.average


def count_bytes(trainer: Trainer) -> Counted:
    """What the tensors of a run take, before its first step as after it."""
    weights = [*trainer.model.parameters(), *trainer.model.buffers()]
    learning = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    gradients = sum(weight.nbytes for weight in learning)
    average = sum(tensor.nbytes for tensor in trainer.average.values())
    return Counted(
        sum(weight.nbytes for weight in weights),
        gradients,
        2 * gradients + _COUNTER * len(learning),
        average,
    )


def reset_peak(device: torch.device) -> None:
    """Let the peak that `cutline.device.peak_memory` tells begin anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    # Only Linux can reset the peak; elsewhere it is that of the process's whole life.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that this process can hold: those it has now and those that are free.

    Without /proc (macOS), this is all memory of the machine; None where the operating system does
    not report that either (Windows).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    available = _read_kilobytes("/proc/meminfo", "MemAvailable")
    if available is not None:
        return available + (_read_kilobytes("/proc/self/status", "VmRSS") or 0)
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read_kilobytes(path: str, name: str) -> int | None:
    """Return the bytes of the line "NAME: 123 kB" of a file; None if there is no such line."""
    with suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None


def disk_needed(trainer: Trainer) -> int:
    """Bytes of the run's files at their most: the best and the last checkpoint, the state, and its successor written beside it."""
    model: int = sum(tensor.nbytes for tensor in trainer.model.state_dict().values())
    counted = count_bytes(trainer)
    return 2 * (model + counted.moments + counted.average) + 2 * model


def disk_free(folder: Path) -> int:
    """Bytes free where `folder` is, or would be made."""
    folder = folder.absolute()
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
