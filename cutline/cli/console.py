"""Messages to the user: on stderr, so that pipes work."""

import os
import shutil
import sys
from typing import TYPE_CHECKING

from cutline.progress import is_rank_zero

if TYPE_CHECKING:
    from rich.console import Console


def stderr_console() -> "Console":
    """Return a console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


def program_name() -> str:
    """Return the command that runs this program."""
    return "cutline" if shutil.which("cutline") else sys.argv[0]


def print_message(message: str) -> None:
    """Print a message to stderr; all processes of `torchrun` but the main one name their rank."""
    sender = "cutline" if is_rank_zero() else f"cutline, process {os.environ['RANK']}"
    sys.stderr.write(f"{sender}: {message}\n")
