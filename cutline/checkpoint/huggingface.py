"""Hugging Face folders of `BlipForConditionalGeneration` and `BlipForImageTextRetrieval`."""

from pathlib import Path

from torch import Tensor

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.huggingface_config import (
    check_token_ids,
    make_huggingface_config,
    read_huggingface_config,
)
from cutline.checkpoint.huggingface_generation import make_generation_config
from cutline.checkpoint.huggingface_image import make_preprocessor_config
from cutline.checkpoint.kinds import CAPTIONER, AnyConfig, C, ModelKind, kind_of
from cutline.checkpoint.storage import (
    json_writer,
    read_weights,
    safetensors_writer,
    text_writer,
    write_model,
)
from cutline.checkpoint.weights import export_weights, import_model
from cutline.config import CaptionConfig
from cutline.errors import CheckpointError, blame_setting
from cutline.messages import format_value
from cutline.model_files import read_json
from cutline.tokenizer import Tokenizer

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""one file, or shards with an index of the same name plus .index.json"""


def load_huggingface(
    folder: str | Path,
    kind: ModelKind[C],
    tokenizer: str | Path | None = None,
    partial: bool = False,
) -> Checkpoint[C]:
    """Read a Hugging Face folder.

    Args:
        folder: The folder.
        kind: The kind of model that it shall contain.
        tokenizer: A vocabulary to use instead of the folder's.
        partial: Whether the folder may contain more weights than the model has.

    Raises:
        CheckpointError: A file cannot be read, or the parts do not fit together.
        ConfigError: The settings are invalid.
    """
    folder = Path(folder)
    config = read_huggingface_config(folder, kind)
    with blame_setting("tokenizer" if tokenizer else ""):
        loaded_tokenizer = Tokenizer.load(tokenizer or folder)
    # Another size is refused by `load_checkpoint`.
    if kind is CAPTIONER and loaded_tokenizer.vocab_size == config.text.vocab_size:
        check_token_ids(folder, loaded_tokenizer)
    source = _read_weights(folder)
    weights, extra = import_model(source, kind.huggingface, config, str(folder), partial)
    return Checkpoint(config, weights, loaded_tokenizer, extra)


def save_huggingface(folder: str | Path, checkpoint: Checkpoint[AnyConfig]) -> None:
    """Write a folder for transformers' class and `BlipProcessor`, all files or none.

    Raises:
        CheckpointError: A file cannot be written.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    max_length = {"model_max_length": config.text.max_positions}
    weights = export_weights(checkpoint.weights, kind_of(config).huggingface)
    files = {
        WEIGHT_FILES[0]: safetensors_writer(weights),
        "tokenizer.json": text_writer(tokenizer.to_json()),
        "tokenizer_config.json": json_writer(_TOKENIZER_CONFIG | max_length),
        "preprocessor_config.json": json_writer(make_preprocessor_config(config)),
    }
    if isinstance(config, CaptionConfig):
        generation = make_generation_config(config, tokenizer)
        files["generation_config.json"] = json_writer(generation)
    files["config.json"] = json_writer(make_huggingface_config(config, tokenizer))
    write_model({Path(folder) / name: write for name, write in files.items()})


def _read_weights(folder: Path) -> dict[str, Tensor]:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return read_weights(folder / name)
        if (index := folder / f"{name}.index.json").is_file():
            return _read_shards(index)
    raise CheckpointError(
        f"{folder}: contains neither {WEIGHT_FILES[0]} nor {WEIGHT_FILES[1]}; "
        "use a complete model folder"
    )


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index}: lists no weights; copy the file again")
    weights: dict[str, Tensor] = {}
    for file in sorted({str(file) for file in weight_map.values()}):
        if Path(file).name != file:
            raise CheckpointError(
                f"{index}: names the file {format_value(file)}, which is not in the same folder; "
                "use a complete model"
            )
        weights.update(read_weights(index.parent / file))
    return weights


_TOKENIZER_CONFIG = {
    # uses tokenizer.json unchanged, where BertTokenizer would rebuild parts of it
    "tokenizer_class": "PreTrainedTokenizerFast",
    "processor_class": "BlipProcessor",
    "clean_up_tokenization_spaces": True,  # "a dog's ball", not "a dog ' s ball"
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}
