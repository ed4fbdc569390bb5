"""The kinds of models, captioners and matchers, and how each format stores them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from cutline.checkpoint.names import (
    HUGGINGFACE,
    HUGGINGFACE_MATCHER,
    NATIVE,
    NATIVE_MATCHER,
    SALESFORCE,
    SALESFORCE_MATCHER,
    TEMPERATURE,
    WeightFormat,
)
from cutline.config import CaptionConfig, MatchConfig
from cutline.errors import CheckpointError, ConfigError, SettingName

AnyConfig = CaptionConfig | MatchConfig
C = TypeVar("C", bound=AnyConfig)


@dataclass(frozen=True)
class ModelKind(Generic[C]):
    """A kind of model, and how each format stores it."""

    name: str
    """"captioner" or "matcher", also in config.json of cutline folders"""
    adjective: str
    """what its checkpoints are called"""
    loader: str
    """the function that loads it"""
    config_class: type[C]
    architecture: str
    """class of transformers"""
    native: WeightFormat
    salesforce: WeightFormat
    huggingface: WeightFormat
    complete: Callable[[AnyConfig, Mapping[str, Tensor]], C]
    """makes the settings of a .pth, given sizes and the weights in the file"""


def _complete_captioner(config: AnyConfig, source: Mapping[str, Tensor]) -> CaptionConfig:
    assert isinstance(config, CaptionConfig)
    return config


def _complete_matcher(config: AnyConfig, source: Mapping[str, Tensor]) -> MatchConfig:
    """Return `config` with the width of the projections and the temperature in the file."""
    if isinstance(config, CaptionConfig):
        config = MatchConfig.from_caption_config(config)
    if "vision_proj.bias" in source:
        config = replace(config, projection_dim=source["vision_proj.bias"].numel())
    temperature = source.get(TEMPERATURE)
    if temperature is None:
        return config
    if temperature.numel() != 1 or not temperature.is_floating_point():
        raise ConfigError(f"{TEMPERATURE} is not a number")
    # 0.07 is another number in fp32; it is kept if it stands for that of the file
    is_same = torch.tensor(config.temperature) == temperature
    return config if is_same else replace(config, temperature=temperature.item())


CAPTIONER = ModelKind(
    "captioner",
    "captioning",
    "cutline.load",
    CaptionConfig,
    "BlipForConditionalGeneration",
    NATIVE,
    SALESFORCE,
    HUGGINGFACE,
    _complete_captioner,
)
MATCHER = ModelKind(
    "matcher",
    "retrieval",
    "cutline.load_matcher",
    MatchConfig,
    "BlipForImageTextRetrieval",
    NATIVE_MATCHER,
    SALESFORCE_MATCHER,
    HUGGINGFACE_MATCHER,
    _complete_matcher,
)
KINDS: tuple[ModelKind[Any], ...] = (CAPTIONER, MATCHER)


def kind_of(config: C) -> ModelKind[C]:
    """Return the kind of model that has these settings."""
    return cast(ModelKind[C], CAPTIONER if isinstance(config, CaptionConfig) else MATCHER)


def check_kind(found: Sequence[ModelKind[Any]], wanted: ModelKind[Any], where: str) -> None:
    """Raise CheckpointError if a file contains the other kind of model only."""
    if found and wanted not in found:
        raise CheckpointError(
            f"{where}: a {found[0].name}, not a {wanted.name}; load it with ",
            SettingName(found[0].name, found[0].loader),
            f", or use a {wanted.adjective} checkpoint",
        )
