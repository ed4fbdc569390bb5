"""cutline: train, run and measure BLIP image captioners.

The public interface is what this module names. It is imported on first use, so that `import cutline` stays quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutline.captioner import Caption, Captioner, CaptionScore, load
    from cutline.config import (
        CaptionConfig,
        GenerationConfig,
        ImageConfig,
        Recipe,
        TextConfig,
        VisionConfig,
        read_recipe,
    )
    from cutline.errors import CheckpointError, ConfigError, CutlineError, DataError, ImageError
    from cutline.evaluation import Evaluation, evaluate
    from cutline.training import train

__version__ = "0.1.0"

_HOMES = {
    "cutline.captioner": ("Caption", "CaptionScore", "Captioner", "load"),
    "cutline.config": (
        "CaptionConfig",
        "GenerationConfig",
        "ImageConfig",
        "Recipe",
        "TextConfig",
        "VisionConfig",
        "read_recipe",
    ),
    "cutline.errors": ("CheckpointError", "ConfigError", "CutlineError", "DataError", "ImageError"),
    "cutline.evaluation": ("Evaluation", "evaluate"),
    "cutline.training": ("train",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Caption",
    "CaptionConfig",
    "CaptionScore",
    "Captioner",
    "CheckpointError",
    "ConfigError",
    "CutlineError",
    "DataError",
    "Evaluation",
    "GenerationConfig",
    "ImageConfig",
    "ImageError",
    "Recipe",
    "TextConfig",
    "VisionConfig",
    "evaluate",
    "load",
    "read_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cutline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
