"""Every setting of cutline: frozen dataclasses that validate themselves, without torch.

A recipe is YAML that becomes a `Recipe`; a `CaptionConfig` is saved in the checkpoint of its model.
"""

from cutline.config.calibration import CalibrationConfig
from cutline.config.capfilt import (
    CaptionerOptions,
    FilterConfig,
    MatchFilterConfig,
    MatchScore,
    RatioOptions,
)
from cutline.config.client import ClientConfig
from cutline.config.collection import (
    CaptionStyle,
    Existing,
    OutputConfig,
    RunConfig,
    SourceConfig,
)
from cutline.config.data import (
    AugmentConfig,
    CaptionText,
    Cleaning,
    Columns,
    DataConfig,
    DataSource,
)
from cutline.config.explain import ExplainConfig, ExplainMethod
from cutline.config.generation import BeamScoring, GenerationConfig, GenerationKwargs
from cutline.config.inference import (
    CheckpointOptions,
    DeviceConfig,
    Engine,
    InferenceConfig,
    InferencePrecision,
    LoadOptions,
    MatcherOptions,
    MergingOptions,
)
from cutline.config.match import MatchConfig
from cutline.config.metrics import ExtraMetric, MetricConfig, MetricTokenizer
from cutline.config.model import (
    PRESETS,
    CaptionConfig,
    ImageConfig,
    ModelSettings,
    TextConfig,
    TextSettings,
    VisionConfig,
    VisionSettings,
)
from cutline.config.optim import DistributedConfig, LoraConfig, MemoryConfig, OptimConfig
from cutline.config.read import from_dict, read_recipe, to_dict
from cutline.config.recipe import EvalConfig, InitConfig, Recipe, TrainingPrecision
from cutline.config.renames import reject_renamed_keywords
from cutline.config.report import MAX_REPORT_IMAGES, REPORT_IMAGES, ReportConfig
from cutline.config.rerank import RerankConfig, check_keep
from cutline.config.scst import ScstConfig
from cutline.config.serve import ClientText, ServeConfig, ServeLimits
from cutline.config.task import MAX_TEXT_TOKENS, CaptionTaskConfig, MatchTaskConfig, TaskName
from cutline.config.urls import UrlPolicy

__all__ = [
    "MAX_REPORT_IMAGES",
    "MAX_TEXT_TOKENS",
    "PRESETS",
    "REPORT_IMAGES",
    "AugmentConfig",
    "BeamScoring",
    "CalibrationConfig",
    "CaptionConfig",
    "CaptionStyle",
    "CaptionTaskConfig",
    "CaptionText",
    "CaptionerOptions",
    "CheckpointOptions",
    "Cleaning",
    "ClientConfig",
    "ClientText",
    "Columns",
    "DataConfig",
    "DataSource",
    "DeviceConfig",
    "DistributedConfig",
    "Engine",
    "EvalConfig",
    "Existing",
    "ExplainConfig",
    "ExplainMethod",
    "ExtraMetric",
    "FilterConfig",
    "GenerationConfig",
    "GenerationKwargs",
    "ImageConfig",
    "InferenceConfig",
    "InferencePrecision",
    "InitConfig",
    "LoadOptions",
    "LoraConfig",
    "MatchConfig",
    "MatchFilterConfig",
    "MatchScore",
    "MatchTaskConfig",
    "MatcherOptions",
    "MemoryConfig",
    "MergingOptions",
    "MetricConfig",
    "MetricTokenizer",
    "ModelSettings",
    "OptimConfig",
    "OutputConfig",
    "RatioOptions",
    "Recipe",
    "ReportConfig",
    "RerankConfig",
    "RunConfig",
    "ScstConfig",
    "ServeConfig",
    "ServeLimits",
    "SourceConfig",
    "TaskName",
    "TextConfig",
    "TextSettings",
    "TrainingPrecision",
    "UrlPolicy",
    "VisionConfig",
    "VisionSettings",
    "check_keep",
    "from_dict",
    "read_recipe",
    "reject_renamed_keywords",
    "to_dict",
]
