"""Folders of Hugging Face's `BlipForConditionalGeneration`, computed as it computes them."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cutline.checkpoint.names import HUGGINGFACE
from cutline.checkpoint.storage import read_json, read_weights, write_json, write_safetensors
from cutline.checkpoint.weights import (
    Checkpoint,
    export_weights,
    import_weights,
    left_over,
    mlp_ratio,
    weight_shapes,
)
from cutline.config import CaptionConfig, ImageConfig, from_dict, to_dict
from cutline.errors import CheckpointError
from cutline.tokenizer import Tokenizer

ARCHITECTURE = "BlipForConditionalGeneration"
OWN_KEY = "cutline"
"""in config.json, where `save_huggingface` leaves what their settings have no place for; transformers carries it along"""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""alone, or in shards with an index of the same name and .index.json"""

Table = Mapping[str, tuple[str, Any]]

# our setting -> theirs, and their default (transformers' BlipVisionConfig, BlipTextConfig)
VISION: Table = {
    "image_size": ("image_size", 384),
    "patch_size": ("patch_size", 16),
    "embed_dim": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "layer_norm_eps": ("layer_norm_eps", 1e-5),
}
TEXT: Table = {
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


def load_huggingface(
    folder: str | Path, tokenizer: str | Path | None = None, partial: bool = False
) -> Checkpoint:
    """Read the folder; `tokenizer` overrules its vocabulary. Raises CheckpointError or ConfigError."""
    folder = Path(folder)
    config = config_from_huggingface(read_json(folder / "config.json"), str(folder / "config.json"))
    config = replace(config, image=_read_image_config(folder, config.vision.image_size))
    theirs = _read_weights(folder)
    shapes = weight_shapes(config)
    weights = import_weights(theirs, HUGGINGFACE, shapes, str(folder), partial)
    return Checkpoint(
        config,
        weights,
        Tokenizer.load(tokenizer or folder),
        tuple(left_over(theirs, HUGGINGFACE, shapes)),
    )


def save_huggingface(folder: str | Path, checkpoint: Checkpoint) -> None:
    """Write a folder that transformers' `BlipForConditionalGeneration` and `BlipProcessor` load, the weights last."""
    folder = Path(folder)
    settings = {
        "config.json": config_to_huggingface(checkpoint.config, checkpoint.tokenizer),
        "preprocessor_config.json": _preprocessor(checkpoint.config),
        "tokenizer_config.json": _TOKENIZER_CONFIG
        | {"model_max_length": checkpoint.config.text.max_positions},
    }
    for name, values in settings.items():
        write_json(folder / name, values)
    checkpoint.tokenizer.save(folder / "tokenizer.json")
    write_safetensors(folder / WEIGHTS[0], export_weights(checkpoint.weights, HUGGINGFACE))


def config_from_huggingface(values: Mapping[str, Any], where: str) -> CaptionConfig:
    """Settings from a config.json, missing ones by transformers' defaults. Raises CheckpointError or ConfigError.

    Their `encoder_hidden_size` is not read: transformers, too, overrules it by the vision side's width.
    """
    names = values.get("architectures") or [ARCHITECTURE]
    if ARCHITECTURE not in names:
        raise CheckpointError(
            f"{where}: the model is a {', '.join(map(str, names))}; give a captioner, {ARCHITECTURE}"
        )
    vision, text = _section(values, "vision_config", where), _section(values, "text_config", where)
    ours = {
        side: {name: _value(theirs, *entry) for name, entry in table.items()}
        for side, theirs, table in _sides(vision, text)
    }
    for name in ("image_size", "patch_size"):
        ours["vision"][name] = _square(ours["vision"][name], name, where)
    own = values.get(OWN_KEY)
    own = own if isinstance(own, dict) else {}
    ours["vision"]["drop_path"] = own.get("drop_path", 0.0)
    kept = {"prompt": own["prompt"]} if "prompt" in own else {}
    config = from_dict(
        CaptionConfig,
        {**ours, **kept, "label_smoothing": _value(text, "label_smoothing", 0.0)},
        where,
    )
    hidden = _value(vision, "intermediate_size", 3072)
    if not isinstance(hidden, int):
        raise CheckpointError(
            f"{where}: vision_config.intermediate_size is {hidden!r}; write a whole number"
        )
    return replace(
        config, vision=replace(config.vision, mlp_ratio=mlp_ratio(config.vision.embed_dim, hidden))
    )


def config_to_huggingface(config: CaptionConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """A config.json from which transformers builds the same network."""
    vision = {theirs: getattr(config.vision, ours) for ours, (theirs, _) in VISION.items()}
    text = {theirs: getattr(config.text, ours) for ours, (theirs, _) in TEXT.items()}
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
        OWN_KEY: {"prompt": config.prompt, "drop_path": config.vision.drop_path},
    }


def _sides(
    vision: Mapping[str, Any], text: Mapping[str, Any]
) -> tuple[tuple[str, Mapping[str, Any], Table], ...]:
    return ("vision", vision, VISION), ("text", text, TEXT)


def _section(values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    section = (
        values.get(name) or values.get(f"{name}_dict") or {}
    )  # `..._dict`: the first transformers with BLIP
    if not isinstance(section, dict):
        raise CheckpointError(f"{where}: {name} is not an object; copy the file again")
    if _value(section, "hidden_act", "gelu") != "gelu":
        raise CheckpointError(
            f"{where}: {name} says hidden_act {section['hidden_act']!r}, but BLIP's is gelu; give another model"
        )
    return section


def _value(section: Mapping[str, Any], name: str, default: Any) -> Any:
    return default if section.get(name) is None else section[name]


def _square(size: Any, name: str, where: str) -> Any:
    """Their sizes may be pairs."""
    if not isinstance(size, list):
        return size
    if len(set(size)) != 1:
        raise CheckpointError(
            f"{where}: {name} {size} is not square; give a model of square images"
        )
    return size[0]


def _read_weights(folder: Path) -> dict[str, Tensor]:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_weights(folder / name)
        if (index := folder / f"{name}.index.json").is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict):
                raise CheckpointError(f"{index}: lists no weights; copy the file again")
            files = sorted({str(file) for file in shards.values()})
            return {
                name: tensor
                for file in files
                for name, tensor in read_weights(folder / file).items()
            }
    raise CheckpointError(
        f"{folder}: holds neither {WEIGHTS[0]} nor {WEIGHTS[1]}; give a whole model folder"
    )


def _read_image_config(folder: Path, image_size: int) -> ImageConfig:
    """Mean and standard deviation; what else the file says of images is fixed here, and only warned of."""
    file, values = folder / "preprocessor_config.json", {}
    if file.is_file():
        values = read_json(file)
    elif (
        newer := folder / "processor_config.json"
    ).is_file():  # transformers 5 writes all processors into one
        file, values = newer, read_json(newer).get("image_processor") or {}
    size = values.get("size", image_size)
    size = {size.get("height"), size.get("width")} if isinstance(size, dict) else {size}
    if size != {image_size}:
        logging.getLogger(__name__).warning(
            "%s: images of %s, but the model takes %d: %d it is",
            file,
            size,
            image_size,
            image_size,
        )
    if values.get("do_normalize") is False:
        return ImageConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    default = to_dict(ImageConfig())
    found = {
        ours: _value(values, theirs, default[ours])
        for ours, theirs in (("mean", "image_mean"), ("std", "image_std"))
    }
    return from_dict(ImageConfig, found, str(file))


def _preprocessor(config: CaptionConfig) -> dict[str, Any]:
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


_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is; BertTokenizer has a will of its own
    "processor_class": "BlipProcessor",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}
