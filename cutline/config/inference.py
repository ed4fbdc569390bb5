"""Settings of inference: device, precision, engine and batching."""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from cutline.config.limits import (
    MAX_BATCH_SIZE,
    MAX_IMAGE_SIZE,
    MAX_MERGED_TOKENS,
    MAX_WORKERS,
)
from cutline.config.validation import Settings, reject, require_at_least, require_between
from cutline.errors import SettingError
from cutline.messages import format_value

InferencePrecision = Literal["auto", "fp32", "bf16", "int8"]
"""auto is that of ONNX graphs, else bf16 where the hardware has native bf16, else fp32; int8 is for
CPUs"""

Engine = Literal["auto", "eager", "packed", "compiled", "openvino", "onnx"]
"""auto is onnx for ONNX graphs, else packed; eager leaves the model as it is; packed repacks its
weights for the CPU, and runs decoding steps as CUDA graphs on a GPU; compiled also compiles the
vision encoder with torch.compile; openvino (CPU only) also runs it in OpenVINO; onnx runs, on the
CPU, the graphs that `cutline convert --to onnx` writes, and nothing else"""

_DEVICE = re.compile(r"auto|cpu|cuda(:\d\d?)?|mps")


def require_device(name: str, settings: type | None = None) -> None:
    """Raise SettingError unless `name` is a device that captioners can run on."""
    if not _DEVICE.fullmatch(name):
        problem = f"{format_value(name)} is not one of auto, cpu, cuda, cuda:N, mps"
        raise SettingError(settings, "device", problem)


@dataclass(frozen=True)
class DeviceConfig(Settings):
    """Device, precision and engine."""

    device: str = "auto"
    """cpu, cuda, cuda:N or mps (auto: cuda if available, else cpu)"""
    precision: InferencePrecision = "auto"
    """fp32, bf16 or int8 (auto: that of ONNX graphs, else bf16 where the hardware has native bf16,
    else fp32)"""
    engine: Engine = "auto"
    """auto (onnx for ONNX graphs, else packed), packed (weights repacked for the CPU, CUDA graphs
    on a GPU), compiled or openvino (these also compile the vision encoder; openvino: CPU only),
    eager (the model unchanged), or onnx (ONNX graphs)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_device(self.device, type(self))

    @property
    def device_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `cutline.load` for device, precision and engine."""
        return {"device": self.device, "precision": self.precision, "engine": self.engine}


@dataclass(frozen=True)
class InferenceConfig(DeviceConfig):
    """Device, precision, engine and batching."""

    batch_size: int = 8
    """images per batch"""
    num_workers: int = 0
    """processes that decode images, if decoding is the bottleneck (0: threads of this process)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "batch_size", maximum=MAX_BATCH_SIZE)
        require_at_least(self, 0, "num_workers", maximum=MAX_WORKERS)


@dataclass(frozen=True)
class CheckpointOptions(Settings):
    """Checkpoint options: what a .pth does not contain, and another image size."""

    config: str = ""
    """sizes of a .pth: base, large, tiny or a JSON file (default: inferred from the weights)"""
    tokenizer: str = ""
    """vocabulary of a .pth: vocab.txt, tokenizer.json or a folder with one of them"""
    image_size: int = 0
    """another image size in pixels; position embeddings are interpolated (0: the model's own)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "image_size", maximum=MAX_IMAGE_SIZE)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `cutline.load`."""
        return {
            "config": self.config or None,
            "tokenizer": self.tokenizer or None,
            "image_size": self.image_size or None,
        }


@dataclass(frozen=True)
class MergingOptions(CheckpointOptions):
    """Checkpoint options of a captioner: what a .pth does not contain, and changes to the model."""

    merge_tokens: int | None = None
    """token merging (ToMe): number of similar visual tokens that each block of the vision encoder
    merges, at most half; captions may change. At base size (577 tokens), 23 is about 1.3 and 45
    about 1.8 times as fast (default: the model's own, usually 0)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, 0, MAX_MERGED_TOKENS, "merge_tokens")

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `cutline.load`."""
        return {**super().arguments, "merge_tokens": self.merge_tokens}


@dataclass(frozen=True)
class LoadOptions(MergingOptions):
    """What `cutline.load` takes to caption: options of the checkpoint, and a calibration."""

    calibration: str = ""
    """calibration.json of `cutline calibrate`, which makes confidence a probability (default: that
    in the model's folder, if there is one)"""

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `cutline.load`."""
        return {**self.checkpoint_arguments, "calibration": self.calibration or None}

    @property
    def checkpoint_arguments(self) -> dict[str, Any]:
        """Return those of them that `load_checkpoint` takes, too."""
        return super().arguments


class ModelOptions(Settings):
    """Which checkpoint to load as `kind`, and its options, whose names start with `kind`."""

    kind: ClassVar[str]
    options_class: ClassVar[type[CheckpointOptions]] = CheckpointOptions

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, f"{self.kind}_image_size", maximum=MAX_IMAGE_SIZE)
        for name, value in self._list_options().items():
            if value and not getattr(self, self.kind):
                reject(self, name, f"has no effect without a {self.kind}: name one")

    @property
    def checkpoint_options(self) -> CheckpointOptions:
        """Return the options of the checkpoint."""
        return self.options_class(*self._list_options().values())

    def _list_options(self) -> dict[str, Any]:
        names = [f"{self.kind}_{option.name}" for option in fields(self.options_class)]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class MatcherOptions(ModelOptions):
    """Matcher: which checkpoint to load, and `CheckpointOptions` of its own."""

    kind = "matcher"
    matcher: str = ""
    """matcher: hub id, .pth, Hugging Face folder, cutline folder or training run"""
    matcher_config: str = ""
    """sizes of a matcher's .pth: base, large, tiny or a JSON file (default: inferred from the
    weights)"""
    matcher_tokenizer: str = ""
    """vocabulary of a matcher's .pth: vocab.txt, tokenizer.json or a folder with one of them"""
    matcher_image_size: int = 0
    """another image size of the matcher in pixels; position embeddings are interpolated (0: its
    own)"""
