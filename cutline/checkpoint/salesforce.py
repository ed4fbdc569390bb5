"""BLIP's .pth files: {"model": weights}, without sizes and without a vocabulary."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutline.checkpoint.names import SALESFORCE
from cutline.checkpoint.pickles import read_pickle, unwrap_state_dict
from cutline.checkpoint.storage import read_safetensors, text_writer, write_model
from cutline.checkpoint.weights import (
    Checkpoint,
    export_weights,
    import_model,
    solve_mlp_ratio,
)
from cutline.config import PRESETS, CaptionConfig, TextConfig, VisionConfig, from_dict, to_dict
from cutline.errors import CheckpointError, ConfigError

SETTINGS_KEY = "cutline"
"""key beside "model" for cutline's settings; BLIP's code ignores it"""
HEAD_DIM = 64
"""dimension of an attention head in every published model; weight shapes do not reveal it"""

_EMBEDDINGS = "text_decoder.bert.embeddings"
_VISION_BLOCK = re.compile(r"visual_encoder\.blocks\.(\d{1,9})\.")
_TEXT_LAYER = re.compile(r"text_decoder\.bert\.encoder\.layer\.(\d{1,9})\.")


def save_salesforce(file: str | Path, checkpoint: Checkpoint) -> None:
    """Write a .pth file that BLIP's code loads, and beside it the vocabulary; both or none.

    Tied weights have both names, as in the published files. The settings are under "cutline".

    Raises:
        CheckpointError: A file cannot be written.
    """
    file = Path(file)
    weights = export_weights(checkpoint.weights, SALESFORCE)
    weights.update({copy: weights[original] for copy, original in SALESFORCE.copies.items()})
    positions = torch.arange(checkpoint.config.text.max_positions)[None]  # (1, max_positions)
    weights.update(dict.fromkeys(SALESFORCE.buffers, positions))
    content = {"model": weights, SETTINGS_KEY: to_dict(checkpoint.config)}
    write_model(
        {
            file: lambda path: torch.save(content, path),
            file.with_suffix(".tokenizer.json"): text_writer(checkpoint.tokenizer.to_json()),
        }
    )


def read_salesforce(
    file: Path, config: CaptionConfig | None = None, any_size: bool = False, partial: bool = False
) -> tuple[CaptionConfig, dict[str, Tensor], tuple[str, ...]]:
    """Read a .pth file.

    Args:
        file: A pickle of weights, inside "model" or bare, or a .safetensors file.
        config: Its settings. None takes those that `save_salesforce` wrote, or else infers them
            with `infer_config`. The "config" that BLIP's code writes is ignored.
        any_size: Whether to accept an image size in the file that differs from that of `config`.
        partial: Whether the file may contain more than a captioner, as BLIP's pretrained models
            do.

    Returns:
        The settings, the weights by native names, and the names of extra weights.

    Raises:
        CheckpointError: The file cannot be read, or its weights do not fit the settings.
        ConfigError: The settings in the file are invalid.
    """
    content: Mapping[str, Any] = (
        read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    )
    source = unwrap_state_dict(content, file)
    if config is None:
        settings = content.get(SETTINGS_KEY)
        config = (
            from_dict(CaptionConfig, settings, str(file))
            if isinstance(settings, dict)
            else infer_config(source, str(file))
        )
    config = _match_image_size(config, source, file, any_size)
    return config, *import_model(source, SALESFORCE, config, str(file), partial)


def infer_config(source: Mapping[str, Tensor], where: str) -> CaptionConfig:
    """Infer sizes from the shapes of the weights, assuming 64 dimensions per head.

    Raises:
        CheckpointError: The weights are not those of a captioner, or an embedding dimension is not
            a multiple of 64.
    """
    vision_dim, _, _, patch_size = _read_shape(
        source, "visual_encoder.patch_embed.proj.weight", 4, where
    )
    vision_hidden_dim, _ = _read_shape(source, "visual_encoder.blocks.0.mlp.fc1.weight", 2, where)
    _read_shape(source, "visual_encoder.pos_embed", 3, where)
    vocab_size, text_dim = _read_shape(source, f"{_EMBEDDINGS}.word_embeddings.weight", 2, where)
    max_positions, _ = _read_shape(source, f"{_EMBEDDINGS}.position_embeddings.weight", 2, where)
    mlp_dim, _ = _read_shape(
        source, "text_decoder.bert.encoder.layer.0.intermediate.dense.weight", 2, where
    )
    for dim in (vision_dim, text_dim):
        if dim % HEAD_DIM or not dim:
            raise CheckpointError(
                f"{where}: the number of attention heads cannot be inferred from embed_dim {dim}; "
                "pass `config`"
            )
    with _name_file(where):
        vision = VisionConfig(
            image_size=_infer_image_size(source, patch_size),
            patch_size=patch_size,
            embed_dim=vision_dim,
            depth=_infer_depth(source, _VISION_BLOCK),
            num_heads=vision_dim // HEAD_DIM,
            mlp_ratio=solve_mlp_ratio(vision_dim, vision_hidden_dim),
        )
        text = TextConfig(
            vocab_size=vocab_size,
            embed_dim=text_dim,
            depth=_infer_depth(source, _TEXT_LAYER),
            num_heads=text_dim // HEAD_DIM,
            mlp_dim=mlp_dim,
            max_positions=max_positions,
        )
    return CaptionConfig(vision=replace(vision, drop_path=_infer_drop_path(vision)), text=text)


def _match_image_size(
    config: CaptionConfig, source: Mapping[str, Tensor], file: Path, any_size: bool
) -> CaptionConfig:
    """Return `config` with the image size of the file.

    Unless `any_size`, a different image size in `config` is an error.
    """
    stored = _infer_image_size(source, config.vision.patch_size)
    configured = config.vision.image_size
    if not stored or stored == configured:
        return config
    if not any_size:
        raise CheckpointError(
            f"{file}: its position embeddings are for images of {stored} x {stored}, "
            f"but the config says {configured}; pass image_size={configured} to interpolate them, "
            f"or image_size={stored} to keep them"
        )
    with _name_file(str(file)):
        return replace(config, vision=replace(config.vision, image_size=stored))


@contextmanager
def _name_file(where: str) -> Iterator[None]:
    """Turn an error of sizes that come from the shapes of weights into one that names the file."""
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(
            f"{where}: not a BLIP captioner ({error}); use a captioning checkpoint"
        ) from None


def _infer_image_size(source: Mapping[str, Tensor], patch_size: int) -> int:
    """Infer the image size from the position embeddings; return 0 if there are none."""
    positions = source.get("visual_encoder.pos_embed")
    if positions is None or positions.dim() != 3:
        return 0
    return math.isqrt(max(positions.shape[1] - 1, 0)) * patch_size


def _read_shape(source: Mapping[str, Tensor], name: str, dims: int, where: str) -> torch.Size:
    if name not in source or source[name].dim() != dims:
        raise CheckpointError(
            f"{where}: not a BLIP captioner ({name} is missing or has another shape); "
            "use a captioning checkpoint"
        )
    return source[name].shape


def _infer_depth(source: Mapping[str, Tensor], layer: re.Pattern[str]) -> int:
    matches = (layer.match(name) for name in source)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _infer_drop_path(vision: VisionConfig) -> float:
    """Return the drop path rate of the published model with these sizes, else 0."""
    sizes = {**asdict(vision), "drop_path": None, "image_size": None}
    for preset in PRESETS.values():
        if {**asdict(preset.vision), "drop_path": None, "image_size": None} == sizes:
            return preset.vision.drop_path
    return 0.0
