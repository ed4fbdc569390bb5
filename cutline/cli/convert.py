"""`cutline convert`."""

from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cutline.cli.console import print_message, print_result
from cutline.cli.flags import Flags
from cutline.config import CheckpointOptions
from cutline.files import check_writable


def convert_command(
    model: Positional[Annotated[str, arg(metavar="MODEL")]],
    out: Positional[Annotated[str, arg(metavar="OUT")]],
    to: Literal["cutline", "huggingface", "salesforce"] = "cutline",
    *,
    options: Annotated[CheckpointOptions, Flags] = CheckpointOptions(),
) -> int:
    """Convert a captioner or a matcher to another format; weights stay bit-identical.

    With `--to huggingface`, five lines of Python are printed that load the folder in transformers.
    They caption an image as cutline does with `--beam-scoring huggingface`, or match it with a text
    if the model is a matcher.

    Examples:
        cutline convert runs/my-run exported --to huggingface

        cutline convert model.pth my-captioner --config base --tokenizer vocab.txt

        cutline convert model_base_retrieval_coco.pth my-matcher --tokenizer vocab.txt

    Args:
        model: Hub id, .pth, Hugging Face folder, cutline folder or training run.
        out: Folder to write, or a .pth file for salesforce.
        to: Format to write.
    """
    from cutline.checkpoint import (
        check_destination,
        format_usage,
        is_matcher,
        load_checkpoint,
        load_matcher_checkpoint,
        save_checkpoint,
    )

    check_destination(out, to)
    check_writable(out)
    load = load_matcher_checkpoint if is_matcher(model) else load_checkpoint
    checkpoint = load(model, **options.arguments)
    save_checkpoint(out, checkpoint, to)
    print_message(f"wrote {out}")
    if to == "huggingface":
        print_result(format_usage(out, checkpoint))
    return 0
