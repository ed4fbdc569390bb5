"""Sizes of BLIP's .pth files, which contain none: they are inferred from the weights."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutline.checkpoint.kinds import MATCHER, AnyConfig, ModelKind
from cutline.checkpoint.native import FORMAT
from cutline.checkpoint.weights import solve_mlp_ratio, translate_name
from cutline.config import PRESETS, CaptionConfig, MatchConfig, TextConfig, VisionConfig, from_dict
from cutline.errors import CheckpointError, ConfigError, SettingName, blame_setting
from cutline.model_files import read_json

HEAD_DIM = 64
"""dimension of an attention head in every published model; weight shapes do not reveal it"""


def infer_config(source: Mapping[str, Tensor], where: str, kind: ModelKind[Any]) -> CaptionConfig:
    """Infer sizes from the shapes of the weights, assuming 64 dimensions per head.

    Raises:
        CheckpointError: The weights are not those of a model of this kind, or an embedding
            dimension is not a multiple of 64.
    """

    def read_shape(native: str, dims: int) -> torch.Size:
        (name,) = translate_name(native, kind.salesforce.names)
        if name not in source or source[name].dim() != dims:
            raise _not_blip(where, kind, f"{name} is missing or has another shape")
        return source[name].shape

    vision_dim, _, _, patch_size = read_shape("vision.patch_embed.weight", 4)
    vision_hidden_dim, _ = read_shape("vision.blocks.0.mlp.fc1.weight", 2)
    read_shape("vision.pos_embed", 3)
    vocab_size, text_dim = read_shape("text.token_embed.weight", 2)
    max_positions, _ = read_shape("text.pos_embed.weight", 2)
    mlp_dim, _ = read_shape("text.layers.0.mlp.fc1.weight", 2)
    for dim in (vision_dim, text_dim):
        if dim % HEAD_DIM or not dim:
            raise CheckpointError(
                f"{where}: the number of attention heads cannot be inferred from embed_dim {dim}; "
                "give sizes in ",
                SettingName("config", "`config`"),
            )
    with name_file(where, kind):
        vision = VisionConfig(
            image_size=infer_image_size(source, patch_size),
            patch_size=patch_size,
            embed_dim=vision_dim,
            depth=_infer_depth(source, kind, "vision.blocks.{}.mlp.fc1"),
            num_heads=vision_dim // HEAD_DIM,
            mlp_ratio=solve_mlp_ratio(vision_dim, vision_hidden_dim),
        )
        text = TextConfig(
            vocab_size=vocab_size,
            embed_dim=text_dim,
            depth=_infer_depth(source, kind, "text.layers.{}.mlp.fc1"),
            num_heads=text_dim // HEAD_DIM,
            mlp_dim=mlp_dim,
            max_positions=max_positions,
        )
    return CaptionConfig(vision=replace(vision, drop_path=_infer_drop_path(vision)), text=text)


def infer_image_size(source: Mapping[str, Tensor], patch_size: int) -> int:
    """Infer the image size from the position embeddings; return 0 if there are none."""
    positions = source.get("visual_encoder.pos_embed")
    if positions is None or positions.dim() != 3:
        return 0
    return math.isqrt(max(positions.shape[1] - 1, 0)) * patch_size


def _infer_depth(source: Mapping[str, Tensor], kind: ModelKind[Any], layer: str) -> int:
    name = str(kind.salesforce.names[layer])
    pattern = re.compile(re.escape(name.partition("{}")[0]) + r"(\d{1,9})\.")
    matches = (pattern.match(name) for name in source)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _infer_drop_path(vision: VisionConfig) -> float:
    """Return the drop path rate of the published model with these sizes, else 0."""
    sizes = {**asdict(vision), "drop_path": None, "image_size": None}
    for preset in PRESETS.values():
        if {**asdict(preset.vision), "drop_path": None, "image_size": None} == sizes:
            return preset.vision.drop_path
    return 0.0


def resolve_config(config: str | Path | AnyConfig | None, kind: ModelKind[Any]) -> AnyConfig | None:
    """Return the config that is given directly, by the name of a preset, or by a JSON file.

    Raises:
        CheckpointError: `config` is neither a preset nor a readable JSON file.
        ConfigError: The settings are invalid, or a captioner is given those of a matcher.
    """
    if isinstance(config, MatchConfig) and kind is not MATCHER:
        raise ConfigError(
            "config is that of a matcher: give a CaptionConfig, or load a matcher with "
            "cutline.load_matcher"
        )
    if config is None or isinstance(config, AnyConfig):
        return config
    with blame_setting("config"):
        return _find_config(config, kind)


def _find_config(config: str | Path, kind: ModelKind[Any]) -> AnyConfig:
    """Return the config with the name of a preset, or of a JSON file."""
    if str(config) in PRESETS:
        return PRESETS[str(config)]
    if not Path(config).is_file():
        raise CheckpointError(
            f"{config}: neither a preset nor a JSON file of settings; "
            f"use one of {', '.join(PRESETS)}, or the path of a file"
        )
    values = read_json(Path(config))
    if values.get("format") == FORMAT:
        values = values.get("config")  # type: ignore[assignment]
    return from_dict(_find_config_class(values, kind), values, str(config))


def _find_config_class(values: Any, kind: ModelKind[Any]) -> type[AnyConfig]:
    """Return the class of the settings in a file: a matcher's sizes may be those of a captioner."""
    own = {"projection_dim", "temperature"}
    is_own = kind is MATCHER and isinstance(values, dict) and not own.isdisjoint(values)
    return MatchConfig if is_own else CaptionConfig


@contextmanager
def name_file(where: str, kind: ModelKind[Any]) -> Iterator[None]:
    """Turn an error of sizes that come from the shapes of weights into one that names the file."""
    try:
        yield
    except ConfigError as error:
        raise _not_blip(where, kind, str(error)) from None


def _not_blip(where: str, kind: ModelKind[Any], problem: str) -> CheckpointError:
    return CheckpointError(
        f"{where}: not a BLIP {kind.name} ({problem}); use a {kind.adjective} checkpoint"
    )
