"""BLIP's own .pth files: {"model": weights}, without sizes and without a vocabulary."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutline.checkpoint.names import SALESFORCE
from cutline.checkpoint.storage import read_pickle, read_safetensors, unwrapped
from cutline.checkpoint.weights import (
    Checkpoint,
    export_weights,
    import_weights,
    left_over,
    mlp_ratio,
    weight_shapes,
)
from cutline.config import PRESETS, CaptionConfig, TextConfig, VisionConfig, from_dict, to_dict
from cutline.errors import CheckpointError
from cutline.files import atomic_write

OWN_KEY = "cutline"
"""beside "model", where `save_salesforce` leaves the settings: the reference does not look there"""
HEAD_WIDTH = 64
"""width of an attention head in every published model: no weight's shape tells it"""

_EMBEDDINGS = "text_decoder.bert.embeddings"
_VISION_BLOCK = re.compile(r"visual_encoder\.blocks\.(\d+)\.")
_TEXT_LAYER = re.compile(r"text_decoder\.bert\.encoder\.layer\.(\d+)\.")


def save_salesforce(file: str | Path, checkpoint: Checkpoint) -> None:
    """Write a .pth that the reference loads: what is tied twice, as in the published files, and the settings under "cutline"."""
    weights = export_weights(checkpoint.weights, SALESFORCE)
    weights.update({copy: weights[original] for copy, original in SALESFORCE.copies.items()})
    positions = torch.arange(checkpoint.config.text.max_positions)[None]  # (1, max_positions)
    weights.update(dict.fromkeys(SALESFORCE.buffers, positions))
    with atomic_write(file) as temporary:
        torch.save({"model": weights, OWN_KEY: to_dict(checkpoint.config)}, temporary)


def read_salesforce(
    file: Path, config: CaptionConfig | None = None, any_size: bool = False, partial: bool = False
) -> tuple[CaptionConfig, dict[str, Tensor], tuple[str, ...]]:
    """Read a .pth: its settings, its weights by our names, and the names of what is left in it.

    Args:
        file: a pickle of weights, inside "model" or bare; or the same in a .safetensors.
        config: its settings; None takes those that `save_salesforce` left in it, or else guesses them with `guess_config`. The
            pickle's own "config" is not believed.
        any_size: take the image size from the file, whatever `config` says.
        partial: let it hold more than a captioner, as BLIP's pre-trained models do.

    Raises:
        CheckpointError: the file cannot be read, or its weights do not fit the settings.
    """
    content: Mapping[str, Any] = (
        read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    )
    theirs = unwrapped(content, file)
    if config is None:
        left_there = content.get(OWN_KEY)
        config = (
            from_dict(CaptionConfig, left_there, str(file))
            if isinstance(left_there, dict)
            else guess_config(theirs, str(file))
        )
    pictures = _image_size(theirs, config.vision.patch_size)
    if pictures and pictures != config.vision.image_size:
        if not any_size:
            raise CheckpointError(
                f"{file}: its positions are for images of {pictures} x {pictures}, the config says {config.vision.image_size}; "
                f"give image_size={config.vision.image_size} to interpolate them, or image_size={pictures} to keep them"
            )
        config = replace(config, vision=replace(config.vision, image_size=pictures))
    shapes = weight_shapes(config)
    weights = import_weights(theirs, SALESFORCE, shapes, str(file), partial)
    return config, weights, tuple(left_over(theirs, SALESFORCE, shapes))


def _image_size(theirs: Mapping[str, Tensor], patch_size: int) -> int:
    """The image size that the positions are for; 0 where they are none."""
    positions = theirs.get("visual_encoder.pos_embed")
    return (
        math.isqrt(positions.shape[1] - 1) * patch_size
        if positions is not None and positions.dim() == 3
        else 0
    )


def guess_config(theirs: Mapping[str, Tensor], where: str) -> CaptionConfig:
    """Sizes from the shapes of the weights; heads are 64 wide, as in every published model. Raises CheckpointError if that cannot be."""
    vision_dim, _, _, patch_size = _shape(
        theirs, "visual_encoder.patch_embed.proj.weight", 4, where
    )
    _shape(theirs, "visual_encoder.pos_embed", 3, where)
    vocab_size, text_dim = _shape(theirs, f"{_EMBEDDINGS}.word_embeddings.weight", 2, where)
    for width in (vision_dim, text_dim):
        if width % HEAD_WIDTH:
            raise CheckpointError(
                f"{where}: width {width} does not write_outputs how many attention heads there are; give a config"
            )
    vision = VisionConfig(
        image_size=_image_size(theirs, patch_size),
        patch_size=patch_size,
        embed_dim=vision_dim,
        depth=_depth(theirs, _VISION_BLOCK),
        num_heads=vision_dim // HEAD_WIDTH,
        mlp_ratio=mlp_ratio(
            vision_dim, _shape(theirs, "visual_encoder.blocks.0.mlp.fc1.weight", 2, where)[0]
        ),
    )
    text = TextConfig(
        vocab_size=vocab_size,
        embed_dim=text_dim,
        depth=_depth(theirs, _TEXT_LAYER),
        num_heads=text_dim // HEAD_WIDTH,
        mlp_dim=_shape(
            theirs, "text_decoder.bert.encoder.layer.0.intermediate.dense.weight", 2, where
        )[0],
        max_positions=_shape(theirs, f"{_EMBEDDINGS}.position_embeddings.weight", 2, where)[0],
    )
    return CaptionConfig(vision=replace(vision, drop_path=_drop_path(vision)), text=text)


def _shape(theirs: Mapping[str, Tensor], name: str, dims: int, where: str) -> torch.Size:
    if name not in theirs or theirs[name].dim() != dims:
        raise CheckpointError(
            f"{where}: no BLIP captioner ({name} is missing or odd); give a captioning checkpoint"
        )
    return theirs[name].shape


def _depth(theirs: Mapping[str, Tensor], layer: re.Pattern[str]) -> int:
    return 1 + max((int(found[1]) for name in theirs if (found := layer.match(name))), default=-1)


def _drop_path(vision: VisionConfig) -> float:
    """Stochastic depth has no weights either: that of the published model of these sizes, or none."""
    sizes = {**asdict(vision), "drop_path": None, "image_size": None}
    same = (
        each.vision.drop_path
        for each in PRESETS.values()
        if {**asdict(each.vision), "drop_path": None, "image_size": None} == sizes
    )
    return next(same, 0.0)
