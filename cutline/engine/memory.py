"""Options of glibc's malloc for the memory of freed tensors; other C libraries have none."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MAX_MMAP_THRESHOLD = 32 * 2**20  # bytes, the maximum of glibc
LARGE_TENSOR = 8 * 2**20  # bytes


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for later ones, in the whole process.

    By default, every large tensor is allocated by the operating system, zeroed page by page, and
    returned when freed, which takes a sixth of the time of a batch on a CPU.
    """
    _set_malloc_option(M_MMAP_THRESHOLD, MAX_MMAP_THRESHOLD)
    _set_malloc_option(M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Let glibc return the memory of large tensors when they are freed, in the whole process.

    By default, glibc adapts and keeps tensors of up to 32 MiB, which fragments memory: a training
    step then needs a tenth more.
    """
    _set_malloc_option(M_MMAP_THRESHOLD, LARGE_TENSOR)


def _set_malloc_option(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has it
        if mallopt is not None:
            mallopt(option, value)
