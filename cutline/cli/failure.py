"""Errors that end a command: a message of one sentence, and an exit code."""

import errno
import signal
import sys

from cutline.cli.console import print_message
from cutline.errors import ConfigError, CutlineError
from cutline.interrupt import Interrupted
from cutline.messages import first_line


def report_failure(error: Exception | KeyboardInterrupt) -> int:
    """Print the message of an error that ended a command, and return the exit code."""
    print_message(_explain(error))
    if isinstance(error, KeyboardInterrupt):
        stopped_by = error.signal_number if isinstance(error, Interrupted) else signal.SIGINT
        return 128 + stopped_by  # as a shell reports a process that a signal ended
    return 2 if isinstance(error, ConfigError) else 1


def _explain(error: Exception | KeyboardInterrupt) -> str:
    match error:
        case CutlineError():
            return str(error)
        case KeyboardInterrupt():
            return str(error) or "stopped"
        case OSError(errno=errno.ENOSPC):
            return f"{error.filename or 'a file'}: {error.strerror}; free some disk space"
        case OSError(strerror=str(reason)):
            return f"{error.filename or 'a file'}: {reason}; check the path and its permissions"
    if _is_out_of_memory(error):
        return "not enough memory; lower the batch size or num_workers, or close other programs"
    return (
        f"an internal error occurred ({type(error).__name__}: {first_line(error)}); "
        "run the command again with --debug, and report the traceback"
    )


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules:  # which takes a second to import
        return False
    from cutline.device import is_out_of_memory

    return is_out_of_memory(error)
