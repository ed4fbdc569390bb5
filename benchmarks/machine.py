"""The machine that ran a benchmark."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from cutline.device import has_native_bf16


def describe_machine() -> dict[str, Any]:
    """Return the CPU and GPU, the number of threads, and versions."""
    names = ("cutline", "torch", "transformers", "openvino", "onnxruntime", "numpy")
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "native_bf16": has_native_bf16(torch.device("cpu")),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in names if (version := package_version(name))},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def cpu_model() -> str:
    """Return the name of the CPU."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )


def package_version(name: str) -> str:
    """Return the version of a package, or "" if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
