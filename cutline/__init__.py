"""cutline: train, run and measure BLIP image captioners.

The public interface is `__all__`. Its names are imported on first use, so that `import cutline`
does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cutline.batching import Caption, CaptionRequest, TextEvent
    from cutline.calibration import CalibrationResult, calibrate
    from cutline.captioner import Captioner, load
    from cutline.client import AsyncClient, Client, ServedCaption, ServedText
    from cutline.confidence import Calibration, Word
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
    from cutline.evaluation import Evaluation, evaluate, evaluate_captions
    from cutline.explanation import Explanation, WordMap, explain
    from cutline.generation import LogitsProcessor
    from cutline.image_to_text import pipeline
    from cutline.matcher import Matcher, MatchScores, load_matcher
    from cutline.retrieval import IndexSummary, SearchHit, SearchIndex, build_index, search
    from cutline.scheduler import CaptionScheduler
    from cutline.scoring import CaptionScore, RankedCaption
    from cutline.training import Interrupted, train

__version__ = "0.1.0"

# Type checkers need the imports above and a literal __all__; __getattr__ needs the modules.
_MODULES = {
    "AsyncClient": "cutline.client",
    "Calibration": "cutline.confidence",
    "CalibrationResult": "cutline.calibration",
    "Caption": "cutline.batching",
    "CaptionConfig": "cutline.config",
    "CaptionRequest": "cutline.batching",
    "CaptionScheduler": "cutline.scheduler",
    "CaptionScore": "cutline.scoring",
    "Captioner": "cutline.captioner",
    "CheckpointError": "cutline.errors",
    "Client": "cutline.client",
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
    "LogitsProcessor": "cutline.generation",
    "MatchConfig": "cutline.config",
    "MatchScores": "cutline.matcher",
    "Matcher": "cutline.matcher",
    "QueueFullError": "cutline.errors",
    "RankedCaption": "cutline.scoring",
    "Recipe": "cutline.config",
    "RequestCancelledError": "cutline.errors",
    "SchedulerClosedError": "cutline.errors",
    "SearchHit": "cutline.retrieval",
    "SearchIndex": "cutline.retrieval",
    "ServedCaption": "cutline.client",
    "ServedText": "cutline.client",
    "TextConfig": "cutline.config",
    "TextEvent": "cutline.batching",
    "VisionConfig": "cutline.config",
    "Word": "cutline.confidence",
    "WordMap": "cutline.explanation",
    "build_index": "cutline.retrieval",
    "calibrate": "cutline.calibration",
    "evaluate": "cutline.evaluation",
    "evaluate_captions": "cutline.evaluation",
    "explain": "cutline.explanation",
    "load": "cutline.captioner",
    "load_matcher": "cutline.matcher",
    "pipeline": "cutline.image_to_text",
    "read_recipe": "cutline.config",
    "search": "cutline.retrieval",
    "train": "cutline.training",
}

__all__ = [
    "AsyncClient",
    "Calibration",
    "CalibrationResult",
    "Caption",
    "CaptionConfig",
    "CaptionRequest",
    "CaptionScheduler",
    "CaptionScore",
    "Captioner",
    "CheckpointError",
    "Client",
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
    "LogitsProcessor",
    "MatchConfig",
    "MatchScores",
    "Matcher",
    "QueueFullError",
    "RankedCaption",
    "Recipe",
    "RequestCancelledError",
    "SchedulerClosedError",
    "SearchHit",
    "SearchIndex",
    "ServedCaption",
    "ServedText",
    "TextConfig",
    "TextEvent",
    "VisionConfig",
    "Word",
    "WordMap",
    "build_index",
    "calibrate",
    "evaluate",
    "evaluate_captions",
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
