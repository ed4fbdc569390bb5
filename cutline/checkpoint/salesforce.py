"""BLIP's .pth files: {"model": weights}, without sizes and without a vocabulary."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.kinds import KINDS, AnyConfig, C, ModelKind, check_kind, kind_of
from cutline.checkpoint.names import TEMPERATURE
from cutline.checkpoint.pickles import read_pickle, unwrap_state_dict
from cutline.checkpoint.salesforce_config import infer_config, infer_image_size, name_file
from cutline.checkpoint.storage import read_safetensors, text_writer, write_model
from cutline.checkpoint.weights import export_weights, import_model, translate_name
from cutline.config import MatchConfig, from_dict, to_dict
from cutline.errors import CheckpointError, SettingName

SETTINGS_KEY = "cutline"
"""key beside "model" for cutline's settings; BLIP's code ignores it"""


def save_salesforce(file: str | Path, checkpoint: Checkpoint[AnyConfig]) -> None:
    """Write a .pth file that BLIP's code loads, and beside it the vocabulary; both or none.

    Tied weights have both names, as in the published files. The settings are under "cutline".

    Raises:
        CheckpointError: A file cannot be written.
    """
    file, config = Path(file), checkpoint.config
    weight_format = kind_of(config).salesforce
    weights = export_weights(checkpoint.weights, weight_format)
    weights.update({copy: weights[original] for copy, original in weight_format.copies.items()})
    positions = torch.arange(config.text.max_positions)[None]  # (1, max_positions)
    weights.update(dict.fromkeys(weight_format.buffers, positions))
    if isinstance(config, MatchConfig):
        weights[TEMPERATURE] = torch.tensor(config.temperature)
    content = {"model": weights, SETTINGS_KEY: to_dict(config)}
    write_model(
        {
            file: lambda path: torch.save(content, path),
            file.with_suffix(".tokenizer.json"): text_writer(checkpoint.tokenizer.to_json()),
        }
    )


def read_salesforce(
    file: Path,
    kind: ModelKind[C],
    config: AnyConfig | None = None,
    any_size: bool = False,
    partial: bool = False,
) -> tuple[C, dict[str, Tensor], tuple[str, ...]]:
    """Read a .pth file.

    Args:
        file: A pickle of weights, inside "model" or bare, or a .safetensors file.
        kind: The kind of model that it shall contain.
        config: Its sizes. None takes the settings that `save_salesforce` wrote, or else infers
            sizes with `infer_config`. The "config" that BLIP's code writes is ignored.
        any_size: Whether to accept an image size in the file that differs from that of `config`.
        partial: Whether the file may contain more than the model, as BLIP's pretrained models do.

    Returns:
        The settings, the weights by native names, and the names of extra weights.

    Raises:
        CheckpointError: The file cannot be read, or its weights do not fit the settings.
        ConfigError: The settings in the file are invalid.
    """
    content, source = _read_file(file)
    check_kind(_find_kinds(source), kind, str(file))
    if config is None:
        settings = content.get(SETTINGS_KEY)
        config = (
            from_dict(kind.config_class, settings, str(file))
            if isinstance(settings, dict)
            else infer_config(source, str(file), kind)
        )
    with name_file(str(file), kind):
        complete = kind.complete(config, source)
    complete = _match_image_size(complete, source, file, any_size)
    return complete, *import_model(source, kind.salesforce, complete, str(file), partial)


def find_salesforce_kinds(file: Path) -> list[ModelKind[Any]]:
    """Return the kinds of models in a .pth file, both in BLIP's pre-trained ones.

    Raises:
        CheckpointError: The file cannot be read.
    """
    return _find_kinds(_read_file(file)[1])


def _read_file(file: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Return the content of a file, and the weights in it."""
    content: Mapping[str, Any] = (
        read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    )
    return content, unwrap_state_dict(content, file)


def _find_kinds(source: Mapping[str, Tensor]) -> list[ModelKind[Any]]:
    """Return the kinds of models that the weights are of."""
    return [
        kind
        for kind in KINDS
        if translate_name("text.token_embed.weight", kind.salesforce.names)[0] in source
    ]


def _match_image_size(config: C, source: Mapping[str, Tensor], file: Path, any_size: bool) -> C:
    """Return `config` with the image size of the file.

    Unless `any_size`, a different image size in `config` is an error.
    """
    stored = infer_image_size(source, config.vision.patch_size)
    configured = config.vision.image_size
    if not stored or stored == configured:
        return config
    if not any_size:
        raise CheckpointError(
            f"{file}: its position embeddings are for images of {stored} x {stored}, "
            f"but the config says {configured}; set ",
            SettingName("image_size", "image_size"),
            f" to {configured} to interpolate them, or to {stored} to keep them",
        )
    with name_file(str(file), kind_of(config)):
        return replace(config, vision=replace(config.vision, image_size=stored))
