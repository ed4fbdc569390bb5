"""What a run was made of: versions, machine, seed and data, for whoever looks at it later, and for its resume."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cutline.config import Recipe
from cutline.data import Sample
from cutline.device import pick_device
from cutline.distributed import world_size
from cutline.errors import ConfigError
from cutline.files import write_text
from cutline.training.setup import RunSetup

RECORD = "run.json"
PACKAGES = ("cutline", "torch", "numpy", "pillow", "tokenizers", "safetensors")


def describe_start(recipe: Recipe, prepared: RunSetup) -> dict[str, Any]:
    """One start of a run."""
    device = pick_device(recipe.device)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "machine": platform.platform(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "processes": world_size(),
        "seed": recipe.seed,
        "weights": sum(weight.numel() for weight in prepared.model.parameters()),
        "data": {"train": describe_data(prepared.train), "val": describe_data(prepared.val)},
    }


def describe_data(samples: Sequence[Sample]) -> dict[str, Any]:
    """How much a data set holds, and its fingerprint_data."""
    return {
        "images": len(samples),
        "captions": sum(len(s.captions) for s in samples),
        "fingerprint_data": fingerprint_data(samples),
    }


def fingerprint_data(samples: Sequence[Sample]) -> str:
    """Changes with the images' ids and sizes in bytes, their captions, prompts and order; not with the folder they lie in."""
    found = hashlib.sha256()
    for sample in samples:
        found.update(
            json.dumps([sample.id, sample.prompt, sample.captions, picture_size(sample)]).encode()
        )
    return found.hexdigest()


def picture_size(sample: Sample) -> int:
    """Bytes of an image; 0 where its path leads nowhere, or to a part of a file."""
    if isinstance(sample.image, bytes):
        return len(sample.image)
    try:
        return os.stat(str(sample.image)).st_size  # a Path is three times slower
    except OSError:
        return 0


def check_start(path: Path, start: dict[str, Any], resumed: bool) -> None:
    """Raise ConfigError where a run is resumed on data that are not those it began with."""
    for part, data in start["data"].items():
        for first in read_starts(path)[:1] if resumed else []:
            if first["data"][part] != data:
                raise ConfigError(
                    f"{path}: the {'training' if part == 'train' else 'validation'} data are not those that the run began with "
                    f"({first['data'][part]['pictures']} images then, {data['pictures']} now, or others of them): "
                    "bring them back, or start anew with another `output`"
                )


def record_start(path: Path, start: dict[str, Any], resumed: bool) -> None:
    """Add `start` to the run's record, or begin a new one."""
    starts = read_starts(path) if resumed else []
    write_text(path, json.dumps({"starts": [*starts, start]}, indent=2, ensure_ascii=False) + "\n")


def read_starts(path: Path) -> list[dict[str, Any]]:
    """The starts that a run's record tells of."""
    return list(json.loads(path.read_text(encoding="utf-8"))["starts"]) if path.exists() else []
