"""Write a captioner as ONNX graphs, with a script and a page that run them without cutline."""

from pathlib import Path

from cutline.checkpoint import Checkpoint, GraphPrecision, build_model, check_destination
from cutline.checkpoint.locate import ONNX_FORMAT
from cutline.checkpoint.native import CONFIG_FILE, TOKENIZER_FILE
from cutline.checkpoint.onnx_folder import VERSION
from cutline.checkpoint.storage import Writer, json_writer, text_writer, write_model
from cutline.config import CaptionConfig, GenerationConfig, to_dict
from cutline.engine.onnx import DECODER_FILE, ENCODER_FILE
from cutline.errors import CheckpointError, ConfigError
from cutline.model.text import LMHead
from cutline.model_files import read_json
from cutline.onnx_export.graphs import (
    SharedLMHead,
    check_exporter,
    export_decoder,
    export_encoder,
)
from cutline.onnx_export.int8 import quantize_model

ASSETS = ("caption.py", "index.html")
"""files that caption with the graphs: in Python, and in a browser"""


def save_onnx(
    folder: str | Path, checkpoint: Checkpoint[CaptionConfig], precision: GraphPrecision = "fp32"
) -> None:
    """Write a folder of ONNX graphs, all of its files or none.

    Args:
        folder: The folder.
        checkpoint: The captioner.
        precision: "fp32", or "int8" for weights of 7 bits and inputs of 8.

    Raises:
        ConfigError: A package is missing, or the prompt leaves no room for a caption.
        CheckpointError: The folder holds another model, a graph would be larger than a file may
            be, or a file cannot be written.
    """
    check_onnx_export(folder)
    settings = describe_graphs(checkpoint, precision)
    encoder, decoder = export_graphs(checkpoint, precision)
    writers: dict[str, Writer] = {
        ENCODER_FILE: lambda path: path.write_bytes(encoder),
        DECODER_FILE: lambda path: path.write_bytes(decoder),
        TOKENIZER_FILE: text_writer(checkpoint.tokenizer.to_json()),
        **{name: text_writer(read_asset(name)) for name in ASSETS},
        CONFIG_FILE: json_writer(settings),
    }
    write_model({Path(folder) / name: write for name, write in writers.items()})


def check_onnx_export(folder: str | Path) -> None:
    """Check that a folder can be written.

    Raises:
        ConfigError: A package is missing.
        CheckpointError: It is a file, or holds a model other than ONNX graphs.
    """
    check_exporter()
    check_destination(folder, "onnx")
    config_file = Path(folder) / CONFIG_FILE
    if config_file.exists() and read_json(config_file).get("format") != ONNX_FORMAT:
        raise CheckpointError(
            f"{folder}: holds another model, whose {CONFIG_FILE} would be overwritten; name "
            "another folder"
        )


def export_graphs(
    checkpoint: Checkpoint[CaptionConfig], precision: GraphPrecision
) -> tuple[bytes, bytes]:
    """Return the files of encoder and decoder; for errors, see `save_onnx`."""
    model = build_model(checkpoint).requires_grad_(False)
    if precision == "int8":
        quantize_model(model)
    else:
        assert isinstance(model.text.lm_head, LMHead)
        model.text.lm_head = SharedLMHead(model.text.lm_head)  # type: ignore[assignment]
    return export_encoder(model), export_decoder(model)


def describe_graphs(
    checkpoint: Checkpoint[CaptionConfig], precision: GraphPrecision
) -> dict[str, object]:
    """Return the content of config.json: settings, and what a greedy search without cutline needs.

    `generate` holds the tokens of the prompt, the end token, and the default limits of a caption.

    Raises:
        ConfigError: The prompt leaves no room for a caption.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    defaults = GenerationConfig()
    prompt_ids = tokenizer.encode_prompt(config.prompt)
    max_length = min(defaults.max_length, config.text.max_positions)
    if len(prompt_ids) >= max_length:
        raise ConfigError(
            f"the prompt of the model has {len(prompt_ids)} tokens, and {' and '.join(ASSETS)} end "
            f"a caption at {max_length}, prompt included: shorten `prompt` in its {CONFIG_FILE}"
        )
    return {
        "format": ONNX_FORMAT,
        "version": VERSION,
        "precision": precision,
        "fingerprint": checkpoint.fingerprint(),
        "config": to_dict(config),
        "generate": {
            "prompt_ids": prompt_ids,
            "end_id": tokenizer.sep_id,
            "min_length": defaults.min_length,
            "max_length": max_length,
        },
    }


def read_asset(name: str) -> str:
    """Return the text of a file that is written as it is."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")
