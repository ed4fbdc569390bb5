"""`cutline review`."""

import webbrowser
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import print_message
from cutline.cli.flags import CheckpointFlags, DataFlags, Flags
from cutline.cli.serve import check_packages
from cutline.config import DeviceConfig
from cutline.errors import ConfigError

if TYPE_CHECKING:
    from cutline.serving.review.run import ReviewEnd
    from cutline.serving.review.session import ReviewSession
    from cutline.serving.service import ServedModels

SHOWN_ERRORS = 5
"""rows that cannot be read and are named"""


@dataclass(frozen=True)
class OptionalModelFlags(CheckpointFlags):
    """Captioner: which checkpoint to load, to caption images anew."""

    model: Annotated[str, arg(aliases=["-m"], metavar="MODEL")] = ""
    """hub id, .pth, Hugging Face folder, cutline folder or training run (default: none; then the
    page only changes captions that exist, or that you write)"""


def review_command(
    captions: Positional[Annotated[str, arg(metavar="FOLDER|CAPTIONS")]],
    *,
    port: int = 0,
    browser: bool = True,
    data: Annotated[DataFlags, Flags] = DataFlags(),
    model: Annotated[OptionalModelFlags, Flags] = OptionalModelFlags(),
    inference: Annotated[DeviceConfig, Flags] = DeviceConfig(),
) -> int:
    """Review captions on a local page: accept, edit, reject, replace, undo.

    Everything can be done with the keyboard: Enter accepts a caption, E edits it, X rejects it, Z
    undoes, ? lists the other keys. Every step goes at once to a journal, .cutline-review.jsonl
    beside the captions; the same command goes on from there, also after a crash. Text files beside
    images change with every step; a captions file is written when the review ends: with the button
    on the page, or with Ctrl-C.

    Examples:
        cutline review captions.jsonl

        cutline review photos --model runs/my-run

        cutline train recipe.yaml --data.train captions.jsonl

    Args:
        captions: A .jsonl, .csv, .tsv or .parquet file of captions, or a folder of images with .txt
            files beside them, or with a metadata.jsonl or captions.jsonl.
        port: Port of the page, on this machine only (0: any that is free).
        browser: Open the page in the browser.
    """
    if not 0 <= port <= 65_535:
        raise ConfigError(f"port must be from 0 to 65535, not {port}")
    check_packages()
    from cutline.serving.review.run import run_review
    from cutline.serving.service import choose_model_name

    def announce(address: str, session: "ReviewSession") -> None:
        print_start(address, session)
        if browser:
            # In a thread: a browser in a terminal would block.
            Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    def load_models() -> "ServedModels":
        from cutline.serving.service import ServedModels

        return ServedModels(model.load(inference))

    name = choose_model_name(model.model) if model.model else ""
    print_end(run_review(data.source(captions), port, name, load_models, announce))
    return 0


def print_start(address: str, session: "ReviewSession") -> None:
    """Print the address of the page, and what cannot be reviewed."""
    errors = session.review.errors
    for error in errors[:SHOWN_ERRORS]:
        print_message(f"left as it is: {error}")
    if len(errors) > SHOWN_ERRORS:
        print_message(f"left as they are: {len(errors) - SHOWN_ERRORS:,} more, for such reasons")
    counts = session.review.count_states()
    done = sum(counts.values()) - counts["not reviewed"]
    print_message(f"{session.name}: {done:,} of {sum(counts.values()):,} reviewed")
    print_message(f"review at {address}")
    print_message("Ctrl-C ends the review and writes the captions")


def print_end(end: "ReviewEnd") -> None:
    """Print what came of a review."""
    counts = ", ".join(f"{count:,} {state}" for state, count in end.counts.items())
    print_message(f"{end.written}: {counts}")
