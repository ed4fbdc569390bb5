"""Models on the Hugging Face hub: fetched once, then read from the cache, network or not."""

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from cutline.errors import CheckpointError

SECONDS = 10.0
"""how long the hub may take to answer at all; without a bound a firewall that drops packets is minutes of silence"""
SETTINGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
"""either the first or, where the hub has none of those, the second"""

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Whether `name` looks like "owner/model"."""
    return bool(_ID.fullmatch(name)) and not name.startswith(".")


def fetch(name: str) -> Path:
    """The folder of the model `name` in the hub's cache, downloaded if the hub has something newer.

    Raises:
        CheckpointError: there is no such model, or the hub does not answer within seconds and the cache does not hold it.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(name, timeout=SECONDS)
        files = _wanted(sibling.rfilename for sibling in info.siblings or ())
        return Path(snapshot_download(name, allow_patterns=files, etag_timeout=SECONDS))
    except GatedRepoError:
        raise CheckpointError(
            f"{name}: the hub asks you to accept the model's terms; do so there and run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{name}: neither a file or folder here nor a model on the hub; give the path or the id of a model"
        ) from None
    except (
        Exception
    ) as error:  # the hub's client changes its HTTP library, and so its errors, between versions
        return _cached(name, why=(str(error).splitlines() or [type(error).__name__])[0])


def _wanted(files: Iterable[str]) -> list[str]:
    """The settings, and the weights in one form."""
    there = list(files)
    weights = next(
        (
            patterns
            for patterns in WEIGHTS
            if any(fnmatch(file, pattern) for file in there for pattern in patterns)
        ),
        (),
    )
    return [*SETTINGS, *weights]


def _cached(name: str, why: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    folder = Path(config).parent if isinstance(config, str) else None
    if folder is None or not any(
        True for patterns in WEIGHTS for pattern in patterns for _ in folder.glob(pattern)
    ):
        raise CheckpointError(
            f"{name}: no such file or folder, and the Hugging Face hub cannot be reached ({why}); "
            "pass --model PATH to use a model on disk, or run `cutline demo` to train a small one"
        )
    return folder
