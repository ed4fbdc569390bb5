"""Models on the Hugging Face hub: downloaded once, then read from the cache, also offline."""

import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from cutline.errors import CheckpointError, SettingName

TIMEOUT_S = 10.0
"""seconds that the hub may take to respond; without a limit, a firewall that drops packets would
block for minutes"""
SETTINGS_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
WEIGHT_PATTERNS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
)
"""file patterns by preference: the second group is used if the model has no file of the first"""

MODEL_HINT = (
    "name a model on disk with ",
    SettingName("model", "--model PATH or --matcher PATH"),
    ", or run `cutline demo` to train a small captioner",
)

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Return whether `name` looks like "owner/model"."""
    return bool(_ID.fullmatch(name)) and not name.startswith(".")


def download_model(name: str) -> Path:
    """Download the model `name` if the cache has no current copy, and return its cached folder.

    Raises:
        CheckpointError: The model does not exist or is gated, or the hub does not respond and the
            cache has no copy.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(name, timeout=TIMEOUT_S)
        patterns = _select_patterns(sibling.rfilename for sibling in info.siblings or ())
        return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=TIMEOUT_S))
    except GatedRepoError:
        raise CheckpointError(
            f"{name}: the hub requires you to accept the model's terms; "
            "accept them on its page and run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{name}: neither a local file or folder nor a model on the hub; "
            "use a path or the id of a model"
        ) from None
    except Exception as error:  # the types depend on the version of huggingface_hub
        return _find_cached(name, reason=(str(error).splitlines() or [type(error).__name__])[0])


def _select_patterns(files: Iterable[str]) -> list[str]:
    """Return the patterns of the settings, and of the weights in one format."""
    files = list(files)
    for patterns in WEIGHT_PATTERNS:
        if any(fnmatch(file, pattern) for file in files for pattern in patterns):
            return [*SETTINGS_FILES, *patterns]
    return [*SETTINGS_FILES]


def _find_cached(name: str, reason: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    if isinstance(config, str):
        folder = Path(config).parent
        if any(any(folder.glob(pattern)) for patterns in WEIGHT_PATTERNS for pattern in patterns):
            return folder
    raise CheckpointError(
        f"{name}: no such file or folder, and the Hugging Face hub cannot be reached ({reason}); ",
        *MODEL_HINT,
    )
