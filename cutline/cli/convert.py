"""`cutline convert`."""

from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cutline.cli.console import warn


def convert(
    model: Positional[Annotated[str, arg(metavar="MODEL")]],
    out: Positional[Annotated[str, arg(metavar="OUT")]],
    to: Literal["cutline", "huggingface", "salesforce"] = "cutline",
    *,
    config: str = "",
    tokenizer: str = "",
    image_size: int = 0,
) -> int:
    """Write a captioner in another layout; no weight changes by a bit.

    Args:
        model: hub id, .pth, Hugging Face folder, own folder or training run.
        out: folder to write, or for salesforce a .pth file.
        to: cutline, huggingface or salesforce.
        config: sizes of a .pth, which carries none: base, large, tiny or a JSON file.
        tokenizer: vocabulary of a .pth, which carries none: vocab.txt or tokenizer.json.
        image_size: another image size, in pixels; positions are interpolated (0: the model's own).
    """
    from cutline.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(
        out, load_checkpoint(model, config or None, tokenizer or None, image_size or None), to
    )
    warn(f"wrote {out}")
    return 0
