"""The standard streams: results go to stdout, messages to stderr, so that pipes work."""

import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO, cast

from cutline.errors import CutlineError, DataError
from cutline.messages import one_line
from cutline.progress import is_rank_zero

if TYPE_CHECKING:
    from rich.console import Console


def prepare_streams() -> None:
    """Make the standard streams usable, whatever they are connected to.

    A stream that the caller closed (`>&-`) is opened again, so that no other file takes its number:
    reading it finds nothing, and writing results to it fails. Characters that the encoding of a
    stream lacks are escaped.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest number that is free, which is this one
    sys.stdin = sys.stdin or _open_stream(0, "r")
    sys.stdout = sys.stdout or _open_stream(1, "w")
    sys.stderr = sys.stderr or _open_stream(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Surrogates stand for the bytes of file names that are not UTF-8.
            is_utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
            escape_bytes = is_utf8 and stream is sys.stdout
            stream.reconfigure(errors="surrogateescape" if escape_bytes else "backslashreplace")


def _open_stream(number: int, mode: str) -> TextIO:
    return cast(TextIO, open(number, mode, encoding="utf-8", closefd=False))


def read_stdin() -> bytes:
    """Read all of stdin.

    Raises:
        DataError: It is empty, or larger than an image file.
    """
    from cutline.data.sample import MAX_IMAGE_BYTES

    content = sys.stdin.buffer.read(MAX_IMAGE_BYTES + 1)  # some streams never end
    if not content:
        raise DataError("stdin is empty; give an image file, as in `cutline caption - < photo.jpg`")
    if len(content) > MAX_IMAGE_BYTES:
        raise DataError(f"stdin has more than {MAX_IMAGE_BYTES >> 20} MiB; give one image file")
    return content


def print_result(text: str) -> None:
    """Write to stdout, at once, for pipes.

    Raises:
        SystemExit: The reader of the pipe has ended, as in `cutline caption … | head`.
        CutlineError: stdout cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
        sys.exit(0)
    except OSError as error:
        discard(sys.stdout)
        raise CutlineError(
            f"stdout: cannot be written ({error.strerror}); redirect it to a file on a disk with "
            "free space"
        ) from None


def escape_name(name: str) -> str:
    """Return the name of a file without tabs and line ends, which separate results."""
    return name.translate({ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"})


def print_message(message: str) -> None:
    """Print a message to stderr; all processes of `torchrun` but the main one name their rank."""
    sender = "cutline" if is_rank_zero() else f"cutline, process {os.environ['RANK']}"
    try:
        sys.stderr.write(f"{sender}: {one_line(message)}\n")
    except OSError:  # nobody can be told
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discard what is still in the buffer of a stream, which would fail again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def stderr_console() -> "Console":
    """Return a console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


def program_name() -> str:
    """Return the command that runs this program."""
    return "cutline" if shutil.which("cutline") else sys.argv[0]
