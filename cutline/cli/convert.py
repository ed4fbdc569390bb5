"""`cutline convert`."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cutline.cli.console import print_message, print_result
from cutline.cli.flags import Flags
from cutline.config import MergingOptions
from cutline.errors import ConfigError
from cutline.files import check_writable


def convert_command(
    model: Positional[Annotated[str, arg(metavar="MODEL")]],
    out: Positional[Annotated[str, arg(metavar="OUT")]],
    to: Literal["cutline", "huggingface", "salesforce", "onnx"] = "cutline",
    *,
    int8: bool = False,
    options: Annotated[MergingOptions, Flags] = MergingOptions(),
) -> int:
    """Convert a captioner or a matcher to another format.

    Weights stay bit-identical, except with `--int8`.

    With `--to onnx`, a captioner becomes two ONNX graphs, which every command that captions reads,
    and a script and a page that caption without cutline: `python OUT/caption.py photo.jpg`, and
    OUT/index.html for a browser.

    With `--to huggingface`, five lines of Python are printed that load the folder in transformers.
    They caption an image as cutline does with `--beam-scoring huggingface`, or match it with a text
    if the model is a matcher.

    Examples:
        cutline convert runs/my-run exported --to huggingface

        cutline convert model.pth my-captioner --config base --tokenizer vocab.txt

        cutline convert model_base_retrieval_coco.pth my-matcher --tokenizer vocab.txt

        cutline convert runs/my-run graphs --to onnx --int8

    Args:
        model: Hub id, .pth, Hugging Face folder, cutline folder or training run.
        out: Folder to write, or a .pth file for salesforce.
        to: Format to write.
        int8: Quantize the ONNX graphs to int8: a third of the size; a few captions change.
    """
    from cutline.checkpoint import (
        check_destination,
        format_usage,
        is_matcher,
        load_checkpoint,
        load_matcher_checkpoint,
        save_checkpoint,
    )

    if int8 and to != "onnx":
        raise ConfigError("--int8 is for ONNX graphs: add --to onnx, or remove it")
    check_destination(out, to)
    check_writable(out)
    if to == "onnx":
        convert_to_onnx(model, out, int8, options)
        print_message(f"wrote {out}; try: python {Path(out) / 'caption.py'} IMAGE")
        return 0
    has_matcher, arguments = is_matcher(model), options.arguments
    if has_matcher:
        if options.merge_tokens is not None:
            raise ConfigError(
                "--merge-tokens is for captioners: a matcher merges no tokens; remove it"
            )
        del arguments["merge_tokens"]
    load = load_matcher_checkpoint if has_matcher else load_checkpoint
    checkpoint = load(model, **arguments)
    save_checkpoint(out, checkpoint, to)
    print_message(f"wrote {out}")
    if to == "huggingface":
        print_result(format_usage(out, checkpoint))
    return 0


def convert_to_onnx(model: str, out: str, int8: bool, options: MergingOptions) -> None:
    """Write a folder of ONNX graphs.

    Raises:
        ConfigError: The model is a matcher, or a package is missing.
        CheckpointError: The model cannot be read, or the folder not be written.
    """
    from cutline.checkpoint import is_matcher, load_checkpoint
    from cutline.onnx_export import check_onnx_export, save_onnx

    check_onnx_export(out)
    if is_matcher(model):
        raise ConfigError(
            f"{model}: a matcher, but ONNX export supports captioners only: name a captioner"
        )
    checkpoint = load_checkpoint(model, **options.arguments)
    print_message(f"exporting {model} to ONNX graphs: up to a few minutes …")
    save_onnx(out, checkpoint, "int8" if int8 else "fp32")
