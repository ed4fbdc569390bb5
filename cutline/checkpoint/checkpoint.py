"""`Checkpoint`, all parts of a model, and the networks that are built from it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cutline.checkpoint.kinds import AnyConfig
from cutline.config import CaptionConfig, MatchConfig
from cutline.model import CaptionModel, MatchModel
from cutline.tokenizer import Tokenizer

C_co = TypeVar("C_co", bound=AnyConfig, covariant=True)
M = TypeVar("M", CaptionModel, MatchModel)

FINGERPRINT_VALUES = 64
"""values of each weight that a fingerprint depends on, at least"""


@dataclass(frozen=True)
class Checkpoint(Generic[C_co]):
    """All parts of a captioner or a matcher: sizes and settings, weights, and vocabulary."""

    config: C_co
    weights: dict[str, Tensor]
    """by the names of the network's `state_dict`, in fp32"""
    tokenizer: Tokenizer
    extra_weights: tuple[str, ...] = ()
    """names of further weights in the file, which `load_checkpoint(..., partial=True)` ignores"""
    folder: Path | None = None
    """the folder that it was read from; None for a single file, or if it was not read"""

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that tell this model from others.

        They depend on the settings, the vocabulary, and some values of each weight: training
        changes nearly all values.
        """
        digest = hashlib.sha256(f"{self.config} {self.tokenizer.to_json()}".encode())
        if isinstance(self.config, CaptionConfig) and self.config.merge_tokens:
            digest.update(f"merge_tokens {self.config.merge_tokens} ".encode())
        for name, weight in sorted(self.weights.items()):
            values = weight.reshape(-1)
            step = max(1, len(values) // FINGERPRINT_VALUES)
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(values[::step].contiguous().float().numpy().tobytes())
        return digest.hexdigest()[:16]


def build_model(checkpoint: Checkpoint[CaptionConfig]) -> CaptionModel:
    """Build the network of a captioner in evaluation mode.

    It shares memory with `checkpoint.weights`: training it changes both.
    """
    return _build(CaptionModel, checkpoint)


def build_matcher(checkpoint: Checkpoint[MatchConfig]) -> MatchModel:
    """Build the network of a matcher, as `build_model` does that of a captioner."""
    return _build(MatchModel, checkpoint)


def build_empty_model(config: AnyConfig) -> CaptionModel | MatchModel:
    """Build the network on the meta device, without storage or random initialization."""
    with torch.device("meta"), _SkipInitialization():
        return CaptionModel(config) if isinstance(config, CaptionConfig) else MatchModel(config)


@lru_cache(maxsize=8)  # several parts of a command load the same checkpoint
def compute_weight_shapes(config: AnyConfig) -> Mapping[str, torch.Size]:
    """Return name and shape of each weight of a model with these sizes."""
    weights = build_empty_model(config).state_dict()
    return MappingProxyType({name: weight.shape for name, weight in weights.items()})


def _build(network: type[M], checkpoint: Checkpoint[AnyConfig]) -> M:
    model = build_empty_model(checkpoint.config)
    assert isinstance(model, network)
    model.load_state_dict(checkpoint.weights, assign=True)
    return model.eval()


class _SkipInitialization(TorchFunctionMode):
    """Skips random initialization, for which torch would load its compiler on the meta device."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function.__name__ in ("normal_", "uniform_", "erfinv_"):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)
