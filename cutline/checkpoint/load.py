"""Recognise a checkpoint by looking at it, and read or write it in any of the layouts."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from cutline.checkpoint.hub import fetch, is_hub_id
from cutline.checkpoint.huggingface import load_huggingface, save_huggingface
from cutline.checkpoint.native import FORMAT, load_native, save_native
from cutline.checkpoint.salesforce import read_salesforce, save_salesforce
from cutline.checkpoint.storage import read_json
from cutline.checkpoint.weights import Checkpoint, empty_model
from cutline.config import PRESETS, CaptionConfig, from_dict
from cutline.errors import CheckpointError
from cutline.model import CaptionModel, interpolate_positions
from cutline.tokenizer import Tokenizer

LayoutName = Literal["cutline", "salesforce", "huggingface"]

_SAVERS = {"cutline": save_native, "salesforce": save_salesforce, "huggingface": save_huggingface}


def load_checkpoint(
    path: str | Path,
    config: str | Path | CaptionConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    partial: bool = False,
) -> Checkpoint:
    """Read a captioner, whatever its layout.

    Args:
        path: cutline's own folder, a training run (its best checkpoint), a Hugging Face folder, a .pth of BLIP, or a hub id.
        config: for a .pth only, which carries no settings: a preset, a JSON file of settings or a CaptionConfig; by default sizes
            are guessed from the weights, right for every published model.
        tokenizer: vocab.txt, tokenizer.json or a folder; by default what lies with the weights.
        image_size: another image size, in pixels, to which positions are interpolated.
        partial: let the file hold more than a captioner, as BLIP's pre-trained models do; see `Checkpoint.left`.

    Raises:
        CheckpointError: it cannot be found or read, or its parts do not fit together.
        ConfigError: its settings make no sense.
    """
    place = _locate(path)
    if place.is_dir():
        if config is not None:
            raise CheckpointError(
                f"{path}: a folder brings its own config; leave `config` out, it is for .pth files"
            )
        checkpoint = _load_folder(place, tokenizer, partial)
    else:
        settings, weights, left = read_salesforce(
            place, read_config(config), any_size=bool(image_size), partial=partial
        )
        checkpoint = Checkpoint(
            settings, weights, Tokenizer.load(tokenizer or _vocabulary_beside(place)), left
        )
    pieces, rows = checkpoint.tokenizer.vocab_size, checkpoint.config.text.vocab_size
    if pieces != rows:
        raise CheckpointError(
            f"{tokenizer or path}: a vocabulary of {pieces} pieces, but the model knows {rows}; give the one it was trained with"
        )
    return _resized(checkpoint, image_size) if image_size else checkpoint


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The vocabulary of a captioner in any layout, whose weights are not read. Raises CheckpointError."""
    place = _locate(path)
    if place.is_file():
        return Tokenizer.load(_vocabulary_beside(place))
    return Tokenizer.load(
        place / "best"
        if (place / "best").is_dir() and not (place / "config.json").is_file()
        else place
    )


def save_checkpoint(
    path: str | Path, checkpoint: Checkpoint, layout: LayoutName = "cutline"
) -> None:
    """Write a captioner: a folder, or for "salesforce" a .pth with the vocabulary beside it, `model.pth` and `model.tokenizer.json`.

    Raises CheckpointError for a file where a folder belongs, or the other way round.
    """
    place = Path(path)
    if layout == "salesforce" and place.is_dir():
        raise CheckpointError(
            f"{path}: a folder, but the salesforce layout is one file; give a name such as {place / 'model.pth'}"
        )
    if layout != "salesforce" and place.is_file():
        raise CheckpointError(
            f"{path}: a file, but the {layout} layout is a folder; give the name of a folder"
        )
    if layout == "salesforce":
        checkpoint.tokenizer.save(place.with_suffix(".tokenizer.json"))
    _SAVERS[layout](place, checkpoint)


def build_model(checkpoint: Checkpoint) -> CaptionModel:
    """The network, in evaluation mode. It shares memory with `checkpoint.weights`: training it changes both."""
    model = empty_model(checkpoint.config)
    model.load_state_dict(checkpoint.weights, assign=True)
    return model.eval()


def read_config(config: str | Path | CaptionConfig | None) -> CaptionConfig | None:
    """A preset by its name, settings from a JSON file, or what is given. Raises CheckpointError or ConfigError."""
    if config is None or isinstance(config, CaptionConfig):
        return config
    if str(config) in PRESETS:
        return PRESETS[str(config)]
    if not Path(config).is_file():
        raise CheckpointError(
            f"{config}: neither a preset ({', '.join(PRESETS)}) nor a JSON file of settings; give one of them"
        )
    values = read_json(Path(config))
    return from_dict(
        CaptionConfig,
        values.get("config") if values.get("format") == FORMAT else values,
        str(config),
    )


def _locate(path: str | Path) -> Path:
    place = Path(path).expanduser()
    if (
        place.is_file()
        and place.suffix in (".safetensors", ".bin", ".json")
        and (place.parent / "config.json").is_file()
    ):
        return place.parent  # a file inside a model folder stands for the folder
    if place.exists():
        return place
    if is_hub_id(str(path)):
        return fetch(str(path))
    raise CheckpointError(
        f"{path}: no such file or folder; pass --model PATH to use a model on disk, or run `cutline demo` to train a small one"
    )


def _load_folder(folder: Path, tokenizer: str | Path | None, partial: bool) -> Checkpoint:
    if not (folder / "config.json").is_file():
        if (folder / "best" / "config.json").is_file():
            return load_native(folder / "best", tokenizer)
        raise CheckpointError(
            f"{folder}: holds neither config.json nor a trained model in best/; give a model's folder"
        )
    values = read_json(folder / "config.json")
    if values.get("format") == FORMAT:
        return load_native(folder, tokenizer)
    if values.get("model_type") == "blip":
        return load_huggingface(folder, tokenizer, partial)
    kind = values.get("model_type")
    raise CheckpointError(
        f"{folder / 'config.json'}: describes no BLIP captioner (model_type {kind}); give a captioner's folder"
    )


def _vocabulary_beside(file: Path) -> Path:
    for beside in (
        file.with_suffix(".tokenizer.json"),
        file.with_name("tokenizer.json"),
        file.with_name("vocab.txt"),
    ):
        if beside.is_file():
            return beside
    raise CheckpointError(
        f"{file}: brings no vocabulary; give tokenizer=, or put its vocab.txt or tokenizer.json beside it"
    )


def _resized(checkpoint: Checkpoint, image_size: int) -> Checkpoint:
    config = replace(
        checkpoint.config, vision=replace(checkpoint.config.vision, image_size=image_size)
    )
    name = "vision.pos_embed"
    positions = interpolate_positions(checkpoint.weights[name], config.vision.num_tokens)
    return replace(checkpoint, config=config, weights={**checkpoint.weights, name: positions})
