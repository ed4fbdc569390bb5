"""`cutline caption`."""

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from cutline.cli.console import print_message
from cutline.cli.flags import Flags, ModelFlags, Output
from cutline.config import GenerationConfig, InferenceConfig
from cutline.errors import ConfigError, CutlineError
from cutline.progress import progress_bar

if TYPE_CHECKING:
    from cutline.batching import Caption


def caption_command(
    images: Positional[Annotated[list[str], arg(metavar="IMAGE [IMAGE …]")]],
    output: Output = "",
    *,
    prompt: str | None = None,
    model: Annotated[ModelFlags, Flags] = ModelFlags(),
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),
) -> int:
    """Caption images: `path<TAB>caption` lines on stdout, or a file.

    Examples:
        cutline caption photos --model runs/my-run -o captions.jsonl

        cutline caption 'photos/*.jpg' --num-beams 5 --num-captions 3

    Args:
        images: Files, folders, patterns such as 'photos/*.jpg', or - for one image on stdin.
        output: File or folder to write: captions.jsonl, captions.csv, a folder for one .txt per
            image, or .txt for one beside each image.
        prompt: Prompt of every caption (default: the model's own).
    """
    from cutline.batching import Caption
    from cutline.data import check_output, find_images, write_captions

    if not images:
        raise ConfigError(
            "name the images to caption: files, folders, patterns such as 'photos/*.jpg', "
            "or - for stdin"
        )
    if output:
        check_output(output)
    names = [name for path in images for name in (["-"] if path == "-" else find_images([path]))]
    sources = [sys.stdin.buffer.read() if name == "-" else name for name in names]
    stream = model.load(inference).stream(
        sources,
        prompt,
        batch_size=min(inference.batch_size, max(1, len(sources))),
        num_workers=inference.num_workers,
        **dataclasses.asdict(generation),
    )
    rows: list[dict[str, Any]] = []
    try:
        for name, result in zip(names, progress_bar(stream, len(names), "captioning"), strict=True):
            if not isinstance(result, Caption):
                print_message(f"skipped: {result}")
                continue
            rows.append(caption_row(name, result, generation.num_captions))
            if not output:
                print_captions(name, result)
    finally:  # also after Ctrl-C: keep the captions so far
        if output and rows:
            write_captions(output, rows)
    if not rows:
        raise CutlineError("no image could be captioned: the messages above say why")
    num_failed = len(names) - len(rows)
    if num_failed:
        print_message(
            f"{num_failed} of {len(names)} images could not be captioned; they are listed above"
        )
    return 3 if num_failed else 0


def print_captions(name: str, caption: "Caption") -> None:
    """Print a `name<TAB>caption` line for each alternative, at once, for pipes."""
    for alternative in caption.alternatives:
        sys.stdout.write(f"{name}\t{alternative.text}\n")
    sys.stdout.flush()


def caption_row(name: str, caption: "Caption", num_captions: int) -> dict[str, Any]:
    """Return a caption as a row of an output file."""
    row: dict[str, Any] = {
        "image": name,
        "caption": caption.text,
        "score": round(caption.score, 6),
    }
    if num_captions > 1:
        row["alternatives"] = [
            {"caption": alternative.text, "score": round(alternative.score, 6)}
            for alternative in caption.alternatives
        ]
    return row
