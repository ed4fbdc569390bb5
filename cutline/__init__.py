"""cutline: train, run and measure BLIP image captioners.

The public interface is `__all__`. Its names are imported on first use, so that `import cutline`
does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutline.batching import Caption, CaptionRequest, TextEvent
    from cutline.captioner import Captioner, load
    from cutline.config import (
        CaptionConfig,
        Columns,
        DataSource,
        GenerationConfig,
        ImageConfig,
        MatchConfig,
        Recipe,
        TextConfig,
        VisionConfig,
        read_recipe,
    )
    from cutline.errors import (
        CheckpointError,
        ConfigError,
        CutlineError,
        DataError,
        DeadlineExceededError,
        DivergedError,
        GenerationError,
        ImageError,
        QueueFullError,
        RequestCancelledError,
        SchedulerClosedError,
    )
    from cutline.evaluation import Evaluation, evaluate
    from cutline.explanation import Explanation, WordMap, explain
    from cutline.image_to_text import pipeline
    from cutline.matcher import Matcher, MatchScores, load_matcher
    from cutline.retrieval import IndexSummary, SearchHit, SearchIndex, build_index, search
    from cutline.scheduler import CaptionScheduler
    from cutline.scoring import CaptionScore
    from cutline.training import Interrupted, train

__version__ = "0.1.0"

# Type checkers need the imports above and a literal __all__; __getattr__ needs the modules.
_MODULES = {
    "Caption": "cutline.batching",
    "CaptionConfig": "cutline.config",
    "CaptionRequest": "cutline.batching",
    "CaptionScheduler": "cutline.scheduler",
    "CaptionScore": "cutline.scoring",
    "Captioner": "cutline.captioner",
    "CheckpointError": "cutline.errors",
    "Columns": "cutline.config",
    "ConfigError": "cutline.errors",
    "CutlineError": "cutline.errors",
    "DataError": "cutline.errors",
    "DataSource": "cutline.config",
    "DeadlineExceededError": "cutline.errors",
    "DivergedError": "cutline.errors",
    "Evaluation": "cutline.evaluation",
    "Explanation": "cutline.explanation",
    "GenerationConfig": "cutline.config",
    "GenerationError": "cutline.errors",
    "ImageConfig": "cutline.config",
    "ImageError": "cutline.errors",
    "IndexSummary": "cutline.retrieval",
    "Interrupted": "cutline.training",
    "MatchConfig": "cutline.config",
    "MatchScores": "cutline.matcher",
    "Matcher": "cutline.matcher",
    "QueueFullError": "cutline.errors",
    "Recipe": "cutline.config",
    "RequestCancelledError": "cutline.errors",
    "SchedulerClosedError": "cutline.errors",
    "SearchHit": "cutline.retrieval",
    "SearchIndex": "cutline.retrieval",
    "TextConfig": "cutline.config",
    "TextEvent": "cutline.batching",
    "VisionConfig": "cutline.config",
    "WordMap": "cutline.explanation",
    "build_index": "cutline.retrieval",
    "evaluate": "cutline.evaluation",
    "explain": "cutline.explanation",
    "load": "cutline.captioner",
    "load_matcher": "cutline.matcher",
    "pipeline": "cutline.image_to_text",
    "read_recipe": "cutline.config",
    "search": "cutline.retrieval",
    "train": "cutline.training",
}

__all__ = [
    "Caption",
    "CaptionConfig",
    "CaptionRequest",
    "CaptionScheduler",
    "CaptionScore",
    "Captioner",
    "CheckpointError",
    "Columns",
    "ConfigError",
    "CutlineError",
    "DataError",
    "DataSource",
    "DeadlineExceededError",
    "DivergedError",
    "Evaluation",
    "Explanation",
    "GenerationConfig",
    "GenerationError",
    "ImageConfig",
    "ImageError",
    "IndexSummary",
    "Interrupted",
    "MatchConfig",
    "MatchScores",
    "Matcher",
    "QueueFullError",
    "Recipe",
    "RequestCancelledError",
    "SchedulerClosedError",
    "SearchHit",
    "SearchIndex",
    "TextConfig",
    "TextEvent",
    "VisionConfig",
    "WordMap",
    "build_index",
    "evaluate",
    "explain",
    "load",
    "load_matcher",
    "pipeline",
    "read_recipe",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cutline' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
