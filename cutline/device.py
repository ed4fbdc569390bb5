"""Choose the device and the precision, and measure memory."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Any, Literal, get_args

import torch

from cutline.config import InferencePrecision
from cutline.config.inference import require_device
from cutline.config.validation import require_choice
from cutline.errors import ConfigError
from cutline.messages import first_line

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "could not create a memory",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)
"""parts of messages of PyTorch's allocator, C++, oneDNN, CUDA's libraries and others"""

_gpu_locks: dict[torch.device, AbstractContextManager[Any]] = {}


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`.

    Args:
        name: "cpu", "cuda", "cuda:1" or "mps"; "auto" is CUDA if available, else the CPU. MPS is
            never chosen automatically.

    Raises:
        ConfigError: The device is unknown or unavailable.
    """
    require_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except NotImplementedError:
        reason = "no such device was found, or this build of PyTorch does not support it"
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = first_line(error)
    else:
        return device
    raise ConfigError(
        f"device {name!r} cannot be used here: {reason}; choose auto, cpu, cuda, cuda:N or mps"
    )


def pick_precision(
    precision: InferencePrecision, device: torch.device
) -> Literal["fp32", "bf16", "int8"]:
    """Return `precision`; "auto" is bf16 if `device` has native bf16, else fp32.

    Raises:
        ConfigError: The precision is unknown.
    """
    if precision == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    require_choice("precision", precision, get_args(InferencePrecision))
    return precision


def has_native_bf16(device: torch.device) -> bool:
    """Return whether `device` multiplies bf16 natively; without that, bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def has_only_avx512_bf16() -> bool:
    """Return whether the CPU multiplies bf16 and 8-bit numbers with AVX-512, but not with AMX."""
    return (
        torch.cpu._is_avx512_bf16_supported()
        and torch.cpu._is_vnni_supported()
        and not torch.cpu._is_amx_tile_supported()
        and torch.backends.mkldnn.is_available()
    )


@contextmanager
def use_device(device: torch.device) -> Iterator[None]:
    """Make `device` the current one in this block.

    On a GPU, threads take turns: no step of another thread runs while one is captured.
    """
    if device.type != "cuda":
        yield
        return
    with _gpu_locks.setdefault(device, RLock()), torch.cuda.device(device):
        yield


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the device, or of the process, is full.

    PyTorch has a type of error for this on a GPU, but only a message on a CPU.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and any(sign in message for sign in _OUT_OF_MEMORY)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory of this process in bytes.

    On CUDA this is the peak of allocated tensors, elsewhere the peak resident set of the whole
    process; 0 where the operating system does not report it (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # On Linux, a child process inherits its parent's `ru_maxrss`, so /proc comes first. VmHWM is
    # the peak resident set size ("high water mark") in KiB.
    status = Path("/proc/self/status")
    if status.exists():
        peak = status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]
        return int(peak) * 1024
    try:
        import resource
    except ImportError:
        return 0
    max_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max_rss if sys.platform == "darwin" else max_rss * 1024


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that this process can use: those it uses now, and those that are free.

    Without /proc (macOS), this is all memory of the machine; None where the operating system does
    not report that either (Windows).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    available = _read_proc_bytes("/proc/meminfo", "MemAvailable")
    if available is not None:
        available = min(available, _free_in_container(available))
        return available + (_read_proc_bytes("/proc/self/status", "VmRSS") or 0)
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_container(default: int) -> int:
    """Return the bytes that are free within the limit of this process's control group, if any."""
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no limit is "max"
        used = int((group / "memory.current").read_text(encoding="ascii"))
        return max(0, int((group / "memory.max").read_text(encoding="ascii")) - used)
    return default


def _read_proc_bytes(path: str, name: str) -> int | None:
    """Return the bytes of the line "NAME: 123 kB" of a file; None if there is no such line."""
    with suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None
