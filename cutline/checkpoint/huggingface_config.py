"""Settings of a Hugging Face folder: config.json and preprocessor_config.json."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cutline.checkpoint.weights import format_names, solve_mlp_ratio
from cutline.config import CaptionConfig, ImageConfig, from_dict, to_dict
from cutline.errors import CheckpointError, ConfigError
from cutline.messages import format_name, format_value
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer

ARCHITECTURE = "BlipForConditionalGeneration"
SETTINGS_KEY = "cutline"
"""key in config.json for settings that transformers does not have; transformers preserves it"""

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


def read_huggingface_config(folder: Path) -> CaptionConfig:
    """Read the settings of a Hugging Face folder.

    Raises:
        CheckpointError: A file cannot be read.
        ConfigError: The settings are invalid.
    """
    config_file = folder / "config.json"
    config = parse_huggingface_config(read_json(config_file), str(config_file))
    return replace(config, image=_read_image_config(folder, config.vision.image_size))


def parse_huggingface_config(values: Mapping[str, Any], where: str) -> CaptionConfig:
    """Convert the content of a config.json; missing settings have transformers' defaults.

    `encoder_hidden_size` is ignored: transformers also replaces it with the vision encoder's width.

    Args:
        values: Content of the file.
        where: The file's name in errors.

    Raises:
        CheckpointError: It is not a BLIP captioner.
        ConfigError: The settings are invalid.
    """
    names = values.get("architectures") or [ARCHITECTURE]
    names = names if isinstance(names, list) else [names]
    if ARCHITECTURE not in names:
        raise CheckpointError(
            f"{where}: the model is a {format_names(map(format_name, names))}; "
            f"use a captioner, {ARCHITECTURE}"
        )
    vision_section = _read_section(values, "vision_config", where)
    text_section = _read_section(values, "text_config", where)
    vision = {native: _lookup(vision_section, *entry) for native, entry in VISION.items()}
    text = {native: _lookup(text_section, *entry) for native, entry in TEXT.items()}
    for name in ("image_size", "patch_size"):
        vision[name] = _unpack_square(vision[name], name, where)
    extra = values.get(SETTINGS_KEY)
    extra = extra if isinstance(extra, dict) else {}
    settings: dict[str, Any] = {
        "vision": {**vision, "drop_path": extra.get("drop_path", 0.0)},
        "text": text,
        "label_smoothing": _lookup(text_section, "label_smoothing", 0.0),
    }
    if "prompt" in extra:
        settings["prompt"] = extra["prompt"]
    config = from_dict(CaptionConfig, settings, where)
    hidden_dim = _lookup(vision_section, "intermediate_size", 3072)
    try:
        mlp_ratio = solve_mlp_ratio(config.vision.embed_dim, hidden_dim)
        return replace(config, vision=replace(config.vision, mlp_ratio=mlp_ratio))
    except (ConfigError, TypeError, OverflowError):
        raise CheckpointError(
            f"{where}: vision_config.intermediate_size is {format_value(hidden_dim)}; "
            "use an integer, the width of the MLP"
        ) from None


def check_token_ids(folder: Path, tokenizer: Tokenizer) -> None:
    """Check that transformers starts and ends captions with the same tokens as cutline.

    Raises:
        CheckpointError: config.json has another token for one of them.
    """
    config_file = folder / "config.json"
    text_section = _read_section(read_json(config_file), "text_config", str(config_file))
    ids = {"bos_token_id": tokenizer.dec_id, "sep_token_id": tokenizer.sep_id}
    for name, (default, token, use) in TOKEN_IDS.items():
        value = _lookup(text_section, name, default)
        if value != ids[name]:
            raise CheckpointError(
                f"{config_file}: text_config.{name} is {format_value(value)}, but captions {use} "
                f"with {token}, which is {ids[name]} in the vocabulary; use a model that was "
                "trained with it, or correct the setting"
            )


def make_huggingface_config(config: CaptionConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Make the content of a config.json from which transformers builds the same network."""
    vision = {name: getattr(config.vision, native) for native, (name, _) in VISION.items()}
    text = {name: getattr(config.text, native) for native, (name, _) in TEXT.items()}
    return {
        "architectures": [ARCHITECTURE],
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
            "is_decoder": True,
            "tie_word_embeddings": True,
            "encoder_hidden_size": config.vision.embed_dim,
            "label_smoothing": config.label_smoothing,
            "bos_token_id": tokenizer.dec_id,
            "eos_token_id": tokenizer.sep_id,
            "sep_token_id": tokenizer.sep_id,
            "pad_token_id": tokenizer.pad_id,
            **text,
        },
        "tie_word_embeddings": True,
        SETTINGS_KEY: {"prompt": config.prompt, "drop_path": config.vision.drop_path},
    }


def _read_section(values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    # the first versions of transformers with BLIP wrote `..._dict`
    section = values.get(name) or values.get(f"{name}_dict") or {}
    if not isinstance(section, dict):
        raise CheckpointError(f"{where}: {name} is not an object; copy the file again")
    activation = _lookup(section, "hidden_act", "gelu")
    if activation != "gelu":
        raise CheckpointError(
            f"{where}: {name} has hidden_act {format_value(activation)}, but BLIP's is 'gelu'; "
            "use another model"
        )
    return section


def _lookup(section: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return a setting; a null counts as missing."""
    return default if section.get(name) is None else section[name]


def _unpack_square(size: Any, name: str, where: str) -> Any:
    """Return the side of a square, which transformers may store as a pair."""
    if not isinstance(size, list):
        return size
    if not size or any(side != size[0] for side in size):
        raise CheckpointError(
            f"{where}: {name} {format_value(size)} is not square; use a model of square images"
        )
    return size[0]


def _read_image_config(folder: Path, image_size: int) -> ImageConfig:
    """Read mean and standard deviation; an image size unlike the model's causes only a warning."""
    file, values = _read_preprocessor_config(folder)
    size = values.get("size", image_size)
    sizes = [size.get("height"), size.get("width")] if isinstance(size, dict) else [size]
    if any(side != image_size for side in sizes):
        logging.getLogger(__name__).warning(
            "%s: the image size is %s, but the model needs %d: using %d",
            *(file, format_value(size), image_size, image_size),
        )
    if values.get("do_normalize") is False:
        return ImageConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    default = to_dict(ImageConfig())
    names = {"mean": "image_mean", "std": "image_std"}
    settings = {native: _lookup(values, name, default[native]) for native, name in names.items()}
    return from_dict(ImageConfig, settings, str(file))


def _read_preprocessor_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    file = folder / "preprocessor_config.json"
    if file.is_file():
        return file, read_json(file)
    combined = folder / "processor_config.json"  # transformers 5 writes all processors to one file
    if combined.is_file():
        return combined, _read_section(read_json(combined), "image_processor", str(combined))
    return file, {}


def make_preprocessor_config(config: CaptionConfig) -> dict[str, Any]:
    """Make the content of a preprocessor_config.json for transformers."""
    return {
        "image_processor_type": "BlipImageProcessor",
        "processor_class": "BlipProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": config.vision.image_size, "width": config.vision.image_size},
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.image.mean),
        "image_std": list(config.image.std),
    }
