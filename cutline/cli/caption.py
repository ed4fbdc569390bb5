"""`cutline caption`."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from cutline.cli.console import print_message, print_result, read_stdin
from cutline.cli.flags import Flags, ModelFlags, Output
from cutline.config import GenerationConfig, InferenceConfig
from cutline.errors import ConfigError, CutlineError, DataError
from cutline.files import check_writable
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
    from cutline.data import check_output

    if not images:
        raise ConfigError(
            "name the images to caption: files, folders, patterns such as 'photos/*.jpg', "
            "or - for stdin"
        )
    if output:
        check_output(output)
    names, num_missing = find_inputs(images)
    if output:
        check_caption_output(output, names)
    sources = [read_stdin() if name == "-" else name for name in names]
    stream = model.load(inference).stream(
        sources,
        prompt,
        batch_size=min(inference.batch_size, max(1, len(sources))),
        num_workers=inference.num_workers,
        **dataclasses.asdict(generation),
    )
    results = zip(names, progress_bar(stream, len(names), "captioning"), strict=True)
    num_captioned = write_results(results, output, generation.num_captions)
    num_inputs = len(names) + num_missing
    if num_captioned == num_inputs:
        return 0
    print_message(
        f"{num_inputs - num_captioned} of {num_inputs} images could not be captioned; "
        "they are listed above"
    )
    return 3


def find_inputs(paths: Sequence[str]) -> tuple[list[str], int]:
    """Find the images to caption.

    Returns:
        The images, - for stdin among them, and how many of `paths` have none, which are listed.

    Raises:
        DataError: There is no image.
    """
    from cutline.data import find_images

    names: dict[str, str] = {}  # by normalized path
    num_missing = 0
    for path in paths:
        try:
            found = [path] if path == "-" else find_images([path])
        except DataError as error:
            if len(paths) == 1:
                raise
            print_message(f"skipped: {error}")
            found, num_missing = [], num_missing + 1
        for name in found:
            names.setdefault(os.path.normpath(name), name)
    if not names:
        raise DataError("there is no image to caption: the messages above say why")
    return list(names.values()), num_missing


def check_caption_output(output: str, names: Sequence[str]) -> None:
    """Raise CutlineError if the captions of the images `names` cannot be written to `output`."""
    from cutline.data import check_output, list_sidecars

    beside_images = check_output(output) == "sidecars"
    for path in {text.parent for text in list_sidecars(names)} if beside_images else {output}:
        check_writable(path)


def write_results(
    results: "Iterable[tuple[str, Caption | CutlineError]]", output: str, num_captions: int
) -> int:
    """Print captions as they come, or write them to `output` at the end or after Ctrl-C.

    Returns:
        The number of images that were captioned; the others are listed.

    Raises:
        CutlineError: No image could be captioned, or `output` cannot be written: then the captions
            are printed.
    """
    from cutline.batching import Caption
    from cutline.data import write_captions

    captions: list[tuple[str, Caption]] = []
    try:
        for name, result in results:
            if not isinstance(result, Caption):
                print_message(f"skipped: {result}")
                continue
            captions.append((name, result))
            if not output:
                print_captions(name, result)
    finally:  # also after Ctrl-C: keep the captions so far
        if output and captions:
            try:
                rows = [caption_row(name, caption, num_captions) for name, caption in captions]
                write_captions(output, rows)
            except DataError:
                for name, caption in captions:
                    print_captions(name, caption)
                raise
    if not captions:
        raise CutlineError("no image could be captioned: the messages above say why")
    return len(captions)


def print_captions(name: str, caption: "Caption") -> None:
    """Print a `name<TAB>caption` line for each alternative."""
    name = name.translate({ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"})
    print_result("".join(f"{name}\t{each.text}\n" for each in caption.alternatives))


def caption_row(name: str, caption: "Caption", num_captions: int) -> dict[str, Any]:
    """Return a caption as a row of an output file."""
    row: dict[str, Any] = {"image": name, **caption_values(caption)}
    if num_captions > 1:
        row["alternatives"] = list(map(caption_values, caption.alternatives))
    return row


def caption_values(caption: "Caption") -> dict[str, Any]:
    """Return the values that a row has of a caption, and of each of its alternatives."""
    values: dict[str, Any] = {"caption": caption.text, "score": round(caption.score, 6)}
    if caption.token_log_probs:
        values["token_log_probs"] = [round(value, 6) for value in caption.token_log_probs]
    return values
