"""Settings of a Hugging Face folder: config.json."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutline.checkpoint.huggingface_image import read_image_config
from cutline.checkpoint.huggingface_json import lookup, read_section
from cutline.checkpoint.kinds import KINDS, AnyConfig, C, ModelKind, check_kind, kind_of
from cutline.checkpoint.weights import format_names, solve_mlp_ratio
from cutline.config import CaptionConfig, MatchConfig, from_dict
from cutline.errors import CheckpointError, ConfigError
from cutline.messages import format_name, format_value
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer

SETTINGS_KEY = "cutline"
"""key in config.json for settings that transformers does not have; transformers preserves it"""

OWN_SETTINGS = {"captioner": ("prompt",), "matcher": ("temperature",)}
"""settings of each kind of model that are under this key, besides drop_path"""

SettingsTable = Mapping[str, tuple[str, Any]]

# Native setting -> its name and default in transformers' BlipVisionConfig and BlipTextConfig.
VISION: SettingsTable = {
    "image_size": ("image_size", 384),
    "patch_size": ("patch_size", 16),
    "embed_dim": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "layer_norm_eps": ("layer_norm_eps", 1e-5),
}
TEXT: SettingsTable = {
    "vocab_size": ("vocab_size", 30524),
    "embed_dim": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 8),
    "mlp_dim": ("intermediate_size", 3072),
    "max_positions": ("max_position_embeddings", 512),
    "dropout": ("hidden_dropout_prob", 0.0),
    "attn_dropout": ("attention_probs_dropout_prob", 0.0),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
}

# Setting of BlipTextConfig -> its default, the token that has this id in BLIP, and its use.
TOKEN_IDS = {
    "bos_token_id": (30522, "[DEC]", "start"),
    "sep_token_id": (102, "[SEP]", "end"),
}


def read_huggingface_config(folder: Path, kind: ModelKind[C]) -> C:
    """Read the settings of a Hugging Face folder.

    Raises:
        CheckpointError: A file cannot be read, or the folder contains another kind of model.
        ConfigError: The settings are invalid.
    """
    config_file = folder / "config.json"
    config = parse_huggingface_config(read_json(config_file), str(config_file), kind)
    return replace(config, image=read_image_config(folder, config.vision.image_size))


def parse_huggingface_config(values: Mapping[str, Any], where: str, kind: ModelKind[C]) -> C:
    """Convert the content of a config.json; missing settings have transformers' defaults.

    `encoder_hidden_size` is ignored: transformers also replaces it with the vision encoder's width.

    Args:
        values: Content of the file.
        where: The file's name in errors.
        kind: The kind of model that it shall be.

    Raises:
        CheckpointError: It is another kind of model.
        ConfigError: The settings are invalid.
    """
    names = _read_architectures(values) or [kind.architecture]
    if kind.architecture not in names:
        check_kind(find_huggingface_kinds(values), kind, where)
        raise CheckpointError(
            f"{where}: the model is a {format_names(map(format_name, names))}; "
            f"use a {kind.name}, {kind.architecture}"
        )
    vision_section = read_section(values, "vision_config", where)
    text_section = read_section(values, "text_config", where)
    vision = {native: lookup(vision_section, *entry) for native, entry in VISION.items()}
    text = {native: lookup(text_section, *entry) for native, entry in TEXT.items()}
    for name in ("image_size", "patch_size"):
        vision[name] = _unpack_square(vision[name], name, where)
    extra = values.get(SETTINGS_KEY)
    extra = extra if isinstance(extra, dict) else {}
    settings: dict[str, Any] = {
        "vision": {**vision, "drop_path": extra.get("drop_path", 0.0)},
        "text": text,
    }
    if kind.config_class is MatchConfig:
        settings["projection_dim"] = lookup(values, "image_text_hidden_size", 256)
    else:
        settings["label_smoothing"] = lookup(text_section, "label_smoothing", 0.0)
    settings |= {name: extra[name] for name in OWN_SETTINGS[kind.name] if name in extra}
    config = from_dict(kind.config_class, settings, where)
    hidden_dim = lookup(vision_section, "intermediate_size", 3072)
    try:
        mlp_ratio = solve_mlp_ratio(config.vision.embed_dim, hidden_dim)
        return replace(config, vision=replace(config.vision, mlp_ratio=mlp_ratio))
    except (ConfigError, TypeError, OverflowError):
        raise CheckpointError(
            f"{where}: vision_config.intermediate_size is {format_value(hidden_dim)}; "
            "use an integer, the width of the MLP"
        ) from None


def find_huggingface_kinds(values: Mapping[str, Any]) -> list[ModelKind[Any]]:
    """Return the kinds of models that a config.json says it is of."""
    names = _read_architectures(values)
    return [kind for kind in KINDS if kind.architecture in names]


def _read_architectures(values: Mapping[str, Any]) -> list[Any]:
    names = values.get("architectures") or []
    return names if isinstance(names, list) else [names]


def check_token_ids(folder: Path, tokenizer: Tokenizer) -> None:
    """Check that transformers starts and ends captions with the same tokens as cutline.

    Raises:
        CheckpointError: config.json has another token for one of them.
    """
    config_file = folder / "config.json"
    text_section = read_section(read_json(config_file), "text_config", str(config_file))
    ids = {"bos_token_id": tokenizer.dec_id, "sep_token_id": tokenizer.sep_id}
    for name, (default, token, use) in TOKEN_IDS.items():
        value = lookup(text_section, name, default)
        if value != ids[name]:
            raise CheckpointError(
                f"{config_file}: text_config.{name} is {format_value(value)}, but captions {use} "
                f"with {token}, which is {ids[name]} in the vocabulary; use a model that was "
                "trained with it, or correct the setting"
            )


def make_huggingface_config(config: AnyConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Make the content of a config.json from which transformers builds the same network."""
    vision = {name: getattr(config.vision, native) for native, (name, _) in VISION.items()}
    text = {name: getattr(config.text, native) for native, (name, _) in TEXT.items()}
    kind = kind_of(config)
    own = {name: getattr(config, name) for name in OWN_SETTINGS[kind.name]}
    text_settings, settings = {}, {}
    if isinstance(config, CaptionConfig):
        text_settings["label_smoothing"] = config.label_smoothing
    else:
        settings["image_text_hidden_size"] = config.projection_dim
    return {
        "architectures": [kind.architecture],
        "model_type": "blip",
        "vision_config": {
            "model_type": "blip_vision_model",
            "hidden_act": "gelu",
            "intermediate_size": int(config.vision.embed_dim * config.vision.mlp_ratio),
            **vision,
        },
        "text_config": {
            "model_type": "blip_text_model",
            "hidden_act": "gelu",
            "is_decoder": True,  # a matcher has cross-attention as well
            "tie_word_embeddings": True,
            "encoder_hidden_size": config.vision.embed_dim,
            **text_settings,
            "bos_token_id": tokenizer.dec_id,
            "eos_token_id": tokenizer.sep_id,
            "sep_token_id": tokenizer.sep_id,
            "pad_token_id": tokenizer.pad_id,
            **text,
        },
        **settings,
        "tie_word_embeddings": True,
        SETTINGS_KEY: {**own, "drop_path": config.vision.drop_path},
    }


def _unpack_square(size: Any, name: str, where: str) -> Any:
    """Return the side of a square, which transformers may store as a pair."""
    if not isinstance(size, list):
        return size
    if not size or any(side != size[0] for side in size):
        raise CheckpointError(
            f"{where}: {name} {format_value(size)} is not square; use a model of square images"
        )
    return size[0]
