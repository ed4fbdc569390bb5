"""`cutline caption`."""

import dataclasses
import sys
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cutline.cli.console import progress, warn
from cutline.cli.flags import Flags, ModelFlags, Output
from cutline.config import GenerationConfig
from cutline.errors import ConfigError, CutlineError


def caption(
    photos: Positional[Annotated[list[str], arg(metavar="PHOTO [PHOTO …]")]],
    output: Output = "",
    *,
    prompt: str | None = None,
    batch_size: int = 8,
    workers: int = 0,
    which: Annotated[ModelFlags, Flags] = ModelFlags(),  # frozen
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),  # frozen
) -> int:
    """Caption images: `path<TAB>caption` lines on stdout, or a file.

    Args:
        photos: files, folders, patterns such as 'photos/*.jpg', or - for one image on stdin.
        output: captions.jsonl, captions.csv, a folder for one .txt per image, or .txt for one beside each image.
        prompt: what captions begin with (default: the model's own).
        batch_size: images that are captioned together.
        workers: processes that open images, for a GPU that waits for them (0: threads of this process).
    """
    from cutline.captioner import Caption
    from cutline.data import check_output, find_images, write_captions

    if not photos:
        raise ConfigError(
            "name the images to caption: files, folders, patterns such as 'photos/*.jpg', or - for stdin"
        )
    if output:
        check_output(output)
    names = [name for photo in photos for name in (["-"] if photo == "-" else find_images([photo]))]
    sources = [sys.stdin.buffer.read() if name == "-" else name for name in names]
    captioner = which.load()
    rows: list[dict[str, Any]] = []
    failed = 0
    try:
        together = min(batch_size, max(1, len(sources)))
        stream = captioner.stream(
            sources, prompt, batch_size=together, workers=workers, **dataclasses.asdict(generation)
        )
        for name, result in zip(names, progress(stream, len(names), "captioning"), strict=True):
            if not isinstance(result, Caption):
                failed += 1
                warn(f"skipped: {result}")
                continue
            rows.append(as_row(name, result, generation.num_captions))
            if not output:
                for one in result.alternatives:
                    sys.stdout.write(f"{name}\t{one.text}\n")
                sys.stdout.flush()
    finally:  # Ctrl-C too keeps what is done
        if output and rows:
            write_captions(output, rows)
    if not rows:
        raise CutlineError("no image could be captioned")
    if failed:
        warn(f"{failed} of {len(names)} images could not be read; they are listed above")
    return 3 if failed else 0


def as_row(name: str, result: Any, num_captions: int) -> dict[str, Any]:
    """A caption as a row of a file."""
    row: dict[str, Any] = {"image": name, "caption": result.text, "score": round(result.score, 6)}
    if num_captions > 1:
        row["alternatives"] = [
            {"caption": one.text, "score": round(one.score, 6)} for one in result.alternatives
        ]
    return row
