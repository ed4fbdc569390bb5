"""Which processor computes, and in which precision."""

import resource
import sys
from pathlib import Path
from typing import Literal

import torch

from cutline.config import InferencePrecision
from cutline.errors import ConfigError


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one. Raises ConfigError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from None
    return device


def pick_precision(
    precision: InferencePrecision, device: torch.device
) -> Literal["fp32", "bf16", "int8"]:
    """`precision`, or for "auto" bf16 where `device` multiplies it in hardware, else fp32."""
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    if precision not in ("fp32", "bf16", "int8"):
        raise ConfigError(f"precision {precision!r} is not one of auto, fp32, bf16, int8")
    return precision


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` has units for bf16 products: without them bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def peak_memory(device: torch.device) -> int:
    """The most memory that this process has held so far, in bytes: on a GPU its tensors, else all of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path(
        "/proc/self/status"
    )  # where there is one: Linux hands `ru_maxrss` of a parent down to its children
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
