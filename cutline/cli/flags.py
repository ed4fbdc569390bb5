"""Flags that several commands share: settings dataclasses, flattened."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from tyro.conf import Positional, Suppress, arg

from cutline.config import (
    REPORT_IMAGES,
    CaptionerOptions,
    Columns,
    DataSource,
    DeviceConfig,
    GenerationConfig,
    LoadOptions,
    MatcherOptions,
    MergingOptions,
    RatioOptions,
    ReportConfig,
)
from cutline.errors import ConfigError
from cutline.files import check_writable, is_device

if TYPE_CHECKING:
    from cutline.captioner import Captioner
    from cutline.matcher import Matcher

S = TypeVar("S", CaptionerOptions, LoadOptions, MatcherOptions, RatioOptions)

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"

Flags = arg(name="")  # a dataclass whose fields are flags of the command itself
Output = Annotated[str, arg(aliases=["-o"], metavar="PATH")]
JsonOutput = Annotated[str, arg(name="json", metavar="FILE")]
ReportOutput = Annotated[str, arg(metavar="FILE")]
DataPathFlag = Annotated[str, arg(metavar="DATA")]
DATA_HELP = (
    "JSON Lines, COCO or Karpathy JSON, a table (CSV, TSV, Parquet), tar shards, or a folder "
    "that holds one of these, or images with .txt files beside them"
)
Data = Positional[Annotated[str, arg(metavar="DATA", help=DATA_HELP)]]


def check_outputs(*paths: str, inputs: Sequence[str] = ()) -> None:
    """Check that files can be written, before the work whose results go there.

    Args:
        *paths: The files; "" for one that is not requested.
        inputs: Files and folders that are read, and must not be overwritten.

    Raises:
        ConfigError: One of them is a folder, or an input, or is given twice.
        CutlineError: One of them cannot be written.
    """
    from cutline.data.find import find_index

    read = [Path(path) for path in inputs if path]
    read += [index for path in read if path.is_dir() and (index := find_index(path))]
    written: set[Path] = set()
    for path in map(Path, filter(None, paths)):
        if path.is_dir():
            raise ConfigError(f"{path}: a folder; name a file")
        if path.resolve() in written and not is_device(path):
            raise ConfigError(f"{path}: named for two outputs; name two files")
        written.add(path.resolve())
        if path.exists() and any(other.exists() and path.samefile(other) for other in read):
            raise ConfigError(f"{path}: would overwrite the data that is read; name another file")
        check_writable(path)


def check_report(path: str) -> None:
    """Check that a report can be written, if one is requested.

    Raises:
        ConfigError: It is no HTML file, or a folder.
        CutlineError: It cannot be written.
    """
    if path and not path.lower().endswith((".html", ".htm")):
        raise ConfigError(f"{path}: a report is an HTML file; name it report.html")
    check_outputs(path)


@dataclass(frozen=True)
class ReportFlags(ReportConfig):
    """Report: one HTML page, to search, filter and sort."""

    report: ReportOutput = ""
    """HTML report"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.report and self.report_images != REPORT_IMAGES:
            raise ConfigError(
                "--report-images is the number of images in a report: name one with --report, or "
                "remove --report-images"
            )


def select_settings(kind: type[S], flags: S) -> S:
    """Return the settings among the flags of a command, as processes and a manifest take them."""
    return kind(**{setting.name: getattr(flags, setting.name) for setting in fields(kind)})


def list_changed(settings: "GenerationConfig | ModelFlags") -> dict[str, Any]:
    """Return the settings that differ from their defaults, by name."""
    values = {setting.name: getattr(settings, setting.name) for setting in fields(settings)}
    defaults = type(settings)()
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}


@dataclass(frozen=True)
class ColumnFlags(Columns):
    """Column names of tables and JSON rows, where they differ from the defaults."""

    group_column: Suppress[str] = ""  # for commands that use groups


@dataclass(frozen=True)
class DataFlags:
    """Dataset: how to read it."""

    image_root: str = ""
    """folder that image paths are relative to (default: the folder of the data file)"""
    split: str = ""
    """split of a dataset_coco.json, such as val, or a subfolder or Parquet files of that name
    (default: all)"""
    columns: Annotated[ColumnFlags, Flags] = field(default_factory=ColumnFlags)

    def source(self, path: str) -> DataSource:
        """Return the dataset at `path`, with these settings."""
        return DataSource(path, self.image_root, self.split, self.columns)


@dataclass(frozen=True)
class GroupColumnFlags(ColumnFlags):
    """Column names of tables and JSON rows, where they differ from the defaults."""

    group_column: str = ""
    """column of groups, such as scenes, videos or regions"""


@dataclass(frozen=True)
class GroupedDataFlags(DataFlags):
    """Dataset: how to read it."""

    columns: Annotated[GroupColumnFlags, Flags] = field(default_factory=GroupColumnFlags)


@dataclass(frozen=True)
class CheckpointFlags(MergingOptions):
    """Captioner: which checkpoint to load."""

    model: Annotated[str, arg(aliases=["-m"], metavar="MODEL")] = ""
    """hub id, .pth, Hugging Face folder, cutline folder, training run or ONNX graphs (default:
    $CUTLINE_MODEL, else Salesforce/blip-image-captioning-base)"""

    @property
    def name(self) -> str:
        """Return the checkpoint to load."""
        return self.model or os.environ.get("CUTLINE_MODEL") or DEFAULT_MODEL

    def load(self, inference: DeviceConfig) -> "Captioner":
        """Load the captioner; without a calibration, unless there is a flag for it."""
        from cutline.captioner import load

        arguments = {"calibration": False, **self.arguments}
        return load(self.name, **inference.device_arguments, **arguments)


@dataclass(frozen=True)
class ModelFlags(CheckpointFlags, LoadOptions):
    """Captioner: which checkpoint to load."""


@dataclass(frozen=True)
class BatchedDeviceFlags(DeviceConfig):
    """Device, precision, engine and batching."""

    batch_size: int = 8
    """images per batch"""


@dataclass(frozen=True)
class MatcherFlags(MatcherOptions):
    """Matcher: which checkpoint to load."""

    matcher: Annotated[str, arg(metavar="MATCHER")] = ""
    """matcher: hub id, .pth, Hugging Face folder, cutline folder or training run"""

    def load(self, inference: DeviceConfig) -> "Matcher":
        """Load the matcher.

        Raises:
            ConfigError: None is named.
        """
        from cutline.matcher import load_matcher

        if not self.matcher:
            raise ConfigError("name the matcher to load, such as --matcher runs/matcher")
        arguments = inference.device_arguments | self.checkpoint_options.arguments
        return load_matcher(self.matcher, **arguments)
