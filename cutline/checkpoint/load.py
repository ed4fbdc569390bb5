"""Load a checkpoint in any format, which is detected, and save it in any format."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from cutline.checkpoint.hub import MODEL_HINT, download_model, is_hub_id
from cutline.checkpoint.huggingface import load_huggingface, save_huggingface
from cutline.checkpoint.huggingface_config import read_huggingface_config
from cutline.checkpoint.native import FORMAT, load_native, read_native_config, save_native
from cutline.checkpoint.salesforce import read_salesforce, save_salesforce
from cutline.checkpoint.weights import Checkpoint, build_empty_model
from cutline.config import PRESETS, CaptionConfig, from_dict
from cutline.errors import CheckpointError
from cutline.messages import format_name
from cutline.model import CaptionModel, interpolate_pos_embed
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer

CheckpointFormat = Literal["cutline", "salesforce", "huggingface"]

_SAVERS = {"cutline": save_native, "salesforce": save_salesforce, "huggingface": save_huggingface}


def load_checkpoint(
    path: str | Path,
    config: str | Path | CaptionConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    partial: bool = False,
) -> Checkpoint:
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
        partial: Whether the file may contain more than a captioner, as BLIP's pretrained models
            do; see `Checkpoint.extra_weights`.

    Returns:
        The checkpoint, with weights in fp32 on the CPU.

    Raises:
        CheckpointError: The checkpoint cannot be found or read, or its parts do not fit together.
        ConfigError: Its settings are invalid.
    """
    location = _locate(path)
    if location.is_dir():
        if config is not None:
            raise CheckpointError(
                f"{path}: a model folder contains its own config; "
                "remove `config`, which is for .pth files only"
            )
        checkpoint = _load_folder(location, tokenizer, partial)
    else:
        settings, weights, extra = read_salesforce(
            location, resolve_config(config), any_size=bool(image_size), partial=partial
        )
        loaded_tokenizer = Tokenizer.load(tokenizer or _find_vocabulary(location))
        checkpoint = Checkpoint(settings, weights, loaded_tokenizer, extra)
    _check_vocab_size(checkpoint, str(path), str(tokenizer or path))
    return _resize(checkpoint, image_size) if image_size else checkpoint


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
    location = _locate(path)
    if location.is_file():
        return resolve_config(config)
    folder, format = _find_model(location)
    read_config = read_native_config if format == "cutline" else read_huggingface_config
    return read_config(folder)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load the vocabulary of a captioner in any format without reading its weights.

    Raises:
        CheckpointError: The vocabulary cannot be found or read.
    """
    location = _locate(path)
    if location.is_file():
        return Tokenizer.load(_find_vocabulary(location))
    is_run = (location / "best").is_dir() and not (location / "config.json").is_file()
    return Tokenizer.load(location / "best" if is_run else location)


def save_checkpoint(
    path: str | Path, checkpoint: Checkpoint, format: CheckpointFormat = "cutline"
) -> None:
    """Save a captioner.

    Args:
        path: A folder; for the format "salesforce" a .pth file, beside which the vocabulary is
            written: `model.pth` and `model.tokenizer.json`.
        checkpoint: The captioner.
        format: Format of the files.

    Raises:
        CheckpointError: `path` is no name for the format (see `check_destination`), or cannot be
            written.
    """
    check_destination(path, format)
    _SAVERS[format](Path(path), checkpoint)


def check_destination(path: str | Path, format: CheckpointFormat) -> None:
    """Check the name of a file or folder that `save_checkpoint` shall write.

    Raises:
        CheckpointError: `path` is a file, but the format is a folder, or the reverse, or it has the
            suffix of another kind of file.
    """
    location = Path(path)
    if format == "salesforce" and location.is_dir():
        raise CheckpointError(
            f"{path}: a folder, but the salesforce format is a single file; "
            f"use a file name such as {location / 'model.pth'}"
        )
    if format != "salesforce" and location.is_file():
        raise CheckpointError(
            f"{path}: a file, but the {format} format is a folder; use the name of a folder"
        )
    if format == "salesforce" and location.suffix in (".safetensors", ".json", ".txt"):
        raise CheckpointError(
            f"{path}: the salesforce format is a pickle, not a {location.suffix} file; "
            "use a file name such as model.pth"
        )


def build_model(checkpoint: Checkpoint) -> CaptionModel:
    """Build the network in evaluation mode.

    It shares memory with `checkpoint.weights`: training it changes both.
    """
    model = build_empty_model(checkpoint.config)
    model.load_state_dict(checkpoint.weights, assign=True)
    return model.eval()


def resolve_config(config: str | Path | CaptionConfig | None) -> CaptionConfig | None:
    """Return the config that is given directly, by the name of a preset, or by a JSON file.

    Raises:
        CheckpointError: `config` is neither a preset nor a readable JSON file.
        ConfigError: The settings are invalid.
    """
    if config is None or isinstance(config, CaptionConfig):
        return config
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
    return from_dict(CaptionConfig, values, str(config))


def _locate(path: str | Path) -> Path:
    try:
        location = Path(path).expanduser()
        is_model_file = location.suffix in (".safetensors", ".bin", ".json")
        if is_model_file and location.is_file() and (location.parent / "config.json").is_file():
            return location.parent  # a file in a model folder selects the folder
        if location.exists():
            return location
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        raise CheckpointError(f"{path}: cannot be read ({error}); check the path") from None
    if is_hub_id(str(path)):
        return download_model(str(path))
    raise CheckpointError(f"{path}: no such file or folder; {MODEL_HINT}")


def _load_folder(location: Path, tokenizer: str | Path | None, partial: bool) -> Checkpoint:
    folder, format = _find_model(location)
    if format == "cutline":
        return load_native(folder, tokenizer)
    return load_huggingface(folder, tokenizer, partial)


def _find_model(location: Path) -> tuple[Path, CheckpointFormat]:
    """Return the folder of a model, which is `best` in a training run, and its format."""
    config_file = location / "config.json"
    if not config_file.is_file():
        if (location / "best" / "config.json").is_file():
            return location / "best", "cutline"
        raise CheckpointError(
            f"{location}: contains neither config.json nor a trained model in best/; "
            "use the folder of a model"
        )
    values = read_json(config_file)
    if values.get("format") == FORMAT:
        return location, "cutline"
    model_type = values.get("model_type")
    if model_type == "blip":
        return location, "huggingface"
    raise CheckpointError(
        f"{config_file}: not a BLIP captioner (model_type {format_name(model_type)}); "
        "use the folder of a captioner"
    )


def _find_vocabulary(file: Path) -> Path:
    candidates = (
        file.with_suffix(".tokenizer.json"),
        file.with_name("tokenizer.json"),
        file.with_name("vocab.txt"),
    )
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(
        f"{file}: contains no vocabulary; "
        "pass `tokenizer`, or put its vocab.txt or tokenizer.json beside it"
    )


def _check_vocab_size(checkpoint: Checkpoint, path: str, vocabulary: str) -> None:
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


def _resize(checkpoint: Checkpoint, image_size: int) -> Checkpoint:
    vision = replace(checkpoint.config.vision, image_size=image_size)
    name = "vision.pos_embed"
    positions = interpolate_pos_embed(checkpoint.weights[name], vision.num_tokens)
    return replace(
        checkpoint,
        config=replace(checkpoint.config, vision=vision),
        weights={**checkpoint.weights, name: positions},
    )
