"""`run.json`: the versions, machine, seed and data of every start of a run."""

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
from cutline.training.data.sampler import BatchSampler
from cutline.training.setup import RunSetup

PACKAGES = ("cutline", "torch", "numpy", "pillow", "tokenizers", "safetensors")


def collect_run_info(recipe: Recipe, setup: RunSetup) -> dict[str, Any]:
    """Return the information about one start of a run."""
    device = pick_device(recipe.device)
    cpu = platform.processor() or platform.machine()
    python = {"python": platform.python_version()}
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": python | {name: version(name) for name in PACKAGES},
        "machine": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "world_size": world_size(),
        "seed": recipe.seed,
        "num_params": sum(weight.numel() for weight in setup.model.parameters()),
        "steps_per_epoch": count_steps(recipe, setup),
        "data": {
            "train": summarize_data(setup.train_samples),
            "val": summarize_data(setup.val_samples),
        },
        "fingerprints": setup.task.list_fingerprints(),
    }


def count_steps(recipe: Recipe, setup: RunSetup) -> int:
    """Return the optimizer steps of an epoch."""
    return BatchSampler(
        num_examples=len(setup.dataset),
        batch_size=recipe.optim.batch_size,
        seed=recipe.seed,
        grad_accum_steps=recipe.optim.grad_accum_steps,
        world_size=world_size(),
    ).steps_per_epoch


def summarize_data(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the numbers of images and captions, and the fingerprint of a dataset."""
    return {
        "num_images": len(samples),
        "num_captions": sum(len(sample.captions) for sample in samples),
        "fingerprint": fingerprint_data(samples),
    }


def fingerprint_data(samples: Sequence[Sample]) -> str:
    """Return a hash of the images' ids and sizes in bytes, their captions, prompts and order.

    It does not depend on the folder that holds the dataset.
    """
    digest = hashlib.sha256()
    for sample in samples:
        fields = [sample.id, sample.prompt, sample.captions, _count_image_bytes(sample)]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()


def _count_image_bytes(sample: Sample) -> int:
    """Return the image's size in bytes; 0 for a missing file, a URL, or a part of a file."""
    if isinstance(sample.image, bytes):
        return len(sample.image)
    try:
        return os.stat(str(sample.image)).st_size  # noqa: PTH116  # Path.stat() is 3 times slower
    except (OSError, ValueError):  # ValueError: a NUL or half of a surrogate pair in the name
        return 0


def check_same_data(path: Path, info: dict[str, Any], resume: bool) -> None:
    """Raise ConfigError if a resumed run would continue on other data than it started with.

    Args:
        path: `run.json` of the run.
        info: What `collect_run_info` returned for this start.
        resume: Whether the run is resumed; a new run is not checked.
    """
    starts = read_run_info(path) if resume else []
    for part, name in (("train", "training"), ("val", "validation")):
        if not starts or starts[0]["data"][part] == info["data"][part]:
            continue
        old, new = (start["data"][part]["num_images"] for start in (starts[0], info))
        change = f"{old} images then, {new} now" if old != new else "same number of images"
        raise ConfigError(
            f"{path}: the {name} data has changed since the run started ({change}): "
            "restore it, or choose another `output`"
        )


def check_same_models(path: Path, info: dict[str, Any], resume: bool) -> None:
    """Raise ConfigError if a model that the loss depends on has changed; see `check_same_data`."""
    starts = read_run_info(path) if resume else []
    before = starts[0].get("fingerprints", {}) if starts else {}
    for name, fingerprint in info["fingerprints"].items():
        if before.get(name, fingerprint) != fingerprint:
            raise ConfigError(
                f"{path}: the model of `{name}` has changed since the run started, and the loss "
                "depends on it: restore it, or choose another `output`"
            )


def save_run_info(path: Path, info: dict[str, Any], resume: bool) -> None:
    """Append `info` to the starts in `run.json`, or write a new file if the run is not resumed."""
    starts = [*(read_run_info(path) if resume else []), info]
    write_text(path, json.dumps({"starts": starts}, indent=2, ensure_ascii=False) + "\n")


def read_run_info(path: Path) -> list[dict[str, Any]]:
    """Return the information about every start, oldest first; empty if there is no such file.

    Raises:
        ConfigError: The file is damaged.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["starts"])
    except (ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{path}: damaged; restore it, or remove it: reports then tell less about the run"
        ) from None
