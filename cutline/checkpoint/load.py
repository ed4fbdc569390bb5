"""Load a checkpoint in any format, which is detected."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.hub import is_hub_id
from cutline.checkpoint.huggingface import load_huggingface
from cutline.checkpoint.huggingface_config import find_huggingface_kinds, read_huggingface_config
from cutline.checkpoint.kinds import CAPTIONER, KINDS, MATCHER, AnyConfig, C, ModelKind, check_kind
from cutline.checkpoint.locate import find_model, find_vocabulary, list_run_models, locate_model
from cutline.checkpoint.native import (
    TOKENIZER_FILE,
    find_native_kinds,
    load_native,
    read_native_config,
)
from cutline.checkpoint.onnx_folder import graphs_only_error, read_onnx_config
from cutline.checkpoint.salesforce import find_salesforce_kinds, read_salesforce
from cutline.checkpoint.salesforce_config import resolve_config
from cutline.config import CaptionConfig, MatchConfig
from cutline.errors import CheckpointError, SettingName, blame_setting
from cutline.model import interpolate_pos_embed
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer


def load_checkpoint(
    path: str | Path,
    config: str | Path | CaptionConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    merge_tokens: int | None = None,
    partial: bool = False,
) -> Checkpoint[CaptionConfig]:
    """Load a captioner in any format.

    Args:
        path: A cutline folder, a training run (its best checkpoint), a Hugging Face folder, a
            .pth file of BLIP, or a hub id.
        config: For a .pth file only, which contains no settings: a preset, a JSON file of settings
            or a CaptionConfig. By default, sizes are inferred from the weights, which is correct
            for every published model.
        tokenizer: A vocab.txt, tokenizer.json or folder (default: the vocabulary beside the
            weights).
        image_size: Another image size in pixels, to which position embeddings are interpolated.
        merge_tokens: Visual tokens to merge in each block (default: the checkpoint's own number).
        partial: Whether the file may contain more than a captioner, as BLIP's pretrained models
            do; see `Checkpoint.extra_weights`.

    Returns:
        The checkpoint, with weights in fp32 on the CPU.

    Raises:
        CheckpointError: The checkpoint cannot be found or read, or its parts do not fit together.
        ConfigError: Its settings are invalid.
    """
    checkpoint = _load(path, CAPTIONER, config, tokenizer, image_size, partial)
    if merge_tokens is None:
        return checkpoint
    return replace(checkpoint, config=replace(checkpoint.config, merge_tokens=merge_tokens))


def load_matcher_checkpoint(
    path: str | Path,
    config: str | Path | AnyConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    partial: bool = False,
) -> Checkpoint[MatchConfig]:
    """Load a matcher in any format.

    Args:
        path: As in `load_checkpoint`; also one of BLIP's pretrained models, of which only the
            matcher is loaded.
        config: As in `load_checkpoint`, or a MatchConfig. The width of the projections and the
            temperature are those of the file.
        tokenizer: As in `load_checkpoint`.
        image_size: As in `load_checkpoint`.
        partial: Whether the file may contain any other weights, too. What only training needs
            (momentum encoders and queues) and text decoders are always allowed in a .pth file.

    Returns:
        The checkpoint, with weights in fp32 on the CPU.

    Raises:
        CheckpointError: The checkpoint cannot be found or read, or its parts do not fit together.
        ConfigError: Its settings are invalid.
    """
    return _load(path, MATCHER, config, tokenizer, image_size, partial)


def is_matcher(path: str | Path) -> bool:
    """Return whether a path or hub id is that of a matcher, or of a model with a matcher in it.

    Raises:
        CheckpointError: It cannot be found or read.
    """
    return MATCHER in find_kinds(path)


def find_kinds(path: str | Path) -> list[ModelKind[Any]]:
    """Return the kinds of models at a path or hub id.

    Raises:
        CheckpointError: It cannot be found or read.
    """
    location = locate_model(path)
    if location.is_file():
        return find_salesforce_kinds(location)
    return [kind for kind in KINDS if kind in _find_folder_kinds(location, kind)]


def _find_folder_kinds(location: Path, kind: ModelKind[Any]) -> list[ModelKind[Any]]:
    """Return the kinds of models in the folder in which one of this kind would be."""
    folder, format = find_model(location, kind)
    if format == "onnx":
        return [CAPTIONER]
    values = read_json(folder / "config.json")
    return find_native_kinds(values) if format == "cutline" else find_huggingface_kinds(values)


def find_local_folder(path: str | Path) -> Path | None:
    """Return the folder of a captioner on this machine; None for a .pth file and for a hub id.

    Raises:
        CheckpointError: There is no such folder, it has no captioner, or it cannot be read.
    """
    if is_hub_id(str(path)) and not Path(path).expanduser().exists():
        return None
    location = locate_model(path)
    return None if location.is_file() else find_model(location, CAPTIONER)[0]


def load_config(
    path: str | Path, config: str | Path | CaptionConfig | None = None
) -> CaptionConfig | None:
    """Load the settings of a captioner in any format without reading its weights.

    Args:
        path: As in `load_checkpoint`.
        config: For a .pth file only, as in `load_checkpoint`.

    Returns:
        The settings, or None for a .pth file without `config`.

    Raises:
        CheckpointError: The settings cannot be found or read.
        ConfigError: The settings are invalid.
    """
    location = locate_model(path)
    if location.is_file():
        sizes = resolve_config(config, CAPTIONER)
        assert sizes is None or isinstance(sizes, CaptionConfig)
        return sizes
    folder, format = find_model(location, CAPTIONER)
    if format == "onnx":
        return read_onnx_config(folder)
    read_config = read_native_config if format == "cutline" else read_huggingface_config
    return read_config(folder, CAPTIONER)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load the vocabulary of a model in any format without reading its weights.

    Raises:
        CheckpointError: The vocabulary cannot be found or read.
    """
    location = locate_model(path)
    if location.is_file():
        return Tokenizer.load(find_vocabulary(location))
    if (location / "config.json").is_file():
        return Tokenizer.load(location)
    models = (folder for kind in KINDS for folder in list_run_models(location, kind))
    has_vocabulary = (each for each in models if (each / TOKENIZER_FILE).is_file())
    return Tokenizer.load(next(has_vocabulary, location))


def _load(
    path: str | Path,
    kind: ModelKind[C],
    config: str | Path | AnyConfig | None,
    tokenizer: str | Path | None,
    image_size: int | None,
    partial: bool,
) -> Checkpoint[C]:
    location = locate_model(path)
    if location.is_dir():
        if config is not None:
            raise own_config_error(path)
        checkpoint = _load_folder(path, location, kind, tokenizer, partial)
    else:
        sizes = resolve_config(config, kind)
        settings, weights, extra = read_salesforce(
            location, kind, sizes, any_size=bool(image_size), partial=partial
        )
        with blame_setting("tokenizer" if tokenizer else ""):
            loaded_tokenizer = Tokenizer.load(tokenizer or find_vocabulary(location))
        checkpoint = Checkpoint(settings, weights, loaded_tokenizer, extra)
    with blame_setting("tokenizer" if tokenizer else ""):
        _check_vocab_size(checkpoint, str(path), str(tokenizer or path))
    return _resize(checkpoint, image_size) if image_size else checkpoint


def own_config_error(path: str | Path) -> CheckpointError:
    """Return the error of sizes that are given with a model folder."""
    return CheckpointError(
        f"{path}: a model folder contains its own config; remove ",
        SettingName("config", "`config`"),
        ", which is for .pth files only",
    )


def _load_folder(
    path: str | Path,
    location: Path,
    kind: ModelKind[C],
    tokenizer: str | Path | None,
    partial: bool,
) -> Checkpoint[C]:
    folder, format = find_model(location, kind)
    if format == "onnx":
        check_kind([CAPTIONER], kind, str(folder))
        raise graphs_only_error(path, is_downloaded=not Path(path).expanduser().exists())
    if format == "cutline":
        checkpoint = load_native(folder, kind, tokenizer)
    else:
        checkpoint = load_huggingface(folder, kind, tokenizer, partial)
    return replace(checkpoint, folder=folder)


def _check_vocab_size(checkpoint: Checkpoint[AnyConfig], path: str, vocabulary: str) -> None:
    tokenizer, vocab_size = checkpoint.tokenizer, checkpoint.config.text.vocab_size
    surplus = set(range(vocab_size, tokenizer.vocab_size))
    # A BERT vocabulary becomes BLIP's when it is read: [DEC] and [ENC] are appended.
    if surplus and surplus == {tokenizer.dec_id, tokenizer.enc_id}:
        raise CheckpointError(
            f"{path}: the model has {vocab_size} embeddings, none of which is for [DEC], the token "
            "that captions start with; use a model that was trained with BLIP's [DEC] and [ENC]"
        )
    if tokenizer.vocab_size != vocab_size:
        raise CheckpointError(
            f"{vocabulary}: the vocabulary has {tokenizer.vocab_size} tokens, but the model has "
            f"{vocab_size}; use the vocabulary that the model was trained with"
        )


def _resize(checkpoint: Checkpoint[C], image_size: int) -> Checkpoint[C]:
    vision = replace(checkpoint.config.vision, image_size=image_size)
    name = "vision.pos_embed"
    positions = interpolate_pos_embed(checkpoint.weights[name], vision.num_tokens)
    return replace(
        checkpoint,
        config=replace(checkpoint.config, vision=vision),
        weights={**checkpoint.weights, name: positions},
    )
