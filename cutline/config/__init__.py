"""Every setting of cutline: frozen dataclasses, checked when they are made. No torch in here.

A recipe is YAML that becomes a `Recipe`; a model's sizes are a `CaptionConfig` that travels inside its checkpoint.
"""

from cutline.config.data import Cleaning, Columns, DataConfig
from cutline.config.generation import BeamScoring, GenerationConfig, GenerationKwargs
from cutline.config.inference import Engine, InferencePrecision
from cutline.config.metrics import ExtraMetric, MetricTokenizer
from cutline.config.model import PRESETS, CaptionConfig, ImageConfig, TextConfig, VisionConfig
from cutline.config.optim import LoraConfig, OptimConfig
from cutline.config.read import from_dict, read_recipe, to_dict
from cutline.config.recipe import EvalConfig, InitConfig, Precision, Recipe

__all__ = [
    "PRESETS",
    "BeamScoring",
    "CaptionConfig",
    "Cleaning",
    "Columns",
    "DataConfig",
    "Engine",
    "EvalConfig",
    "ExtraMetric",
    "GenerationConfig",
    "GenerationKwargs",
    "ImageConfig",
    "InferencePrecision",
    "InitConfig",
    "LoraConfig",
    "MetricTokenizer",
    "OptimConfig",
    "Precision",
    "Recipe",
    "TextConfig",
    "VisionConfig",
    "from_dict",
    "read_recipe",
    "to_dict",
]
