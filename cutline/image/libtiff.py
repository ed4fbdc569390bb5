"""Name the file in the errors of libtiff, which prints them without it."""

import ctypes
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec

logger = logging.getLogger(__name__)

_MAX_MESSAGES = 3  # of one image: libtiff may complain about each of its lines
_LENGTH = 500  # bytes of a message
_thread = threading.local()


@contextmanager
def name_libtiff_errors(name: str) -> Iterator[None]:
    """Give the errors that libtiff reports in this thread the name of an image.

    They become the message of the exception, if there is one, else warnings in the log. Where
    libtiff's functions cannot be called from Python, it prints its errors, as without this.
    """
    _replace_handler()
    messages: list[str] = []
    _thread.messages = messages
    try:
        yield
    except Exception as error:
        if messages and not isinstance(error, MemoryError):
            raise OSError("; ".join(messages)) from error
        raise
    else:
        for message in messages:
            logger.warning("%s: %s", name, message)
    finally:
        _thread.messages = None


def _handle_error(module: bytes | None, template: bytes, arguments: int) -> None:
    """Handle an error of libtiff; `arguments` is a C va_list."""
    buffer = ctypes.create_string_buffer(_LENGTH)
    ctypes.pythonapi.PyOS_vsnprintf(
        buffer, ctypes.c_size_t(_LENGTH), ctypes.c_char_p(template), ctypes.c_void_p(arguments)
    )
    message = f"{(module or b'libtiff').decode(errors='replace')}: "
    message += buffer.value.decode(errors="replace")
    messages: list[str] | None = getattr(_thread, "messages", None)
    if messages is None:  # an image that cutline did not open
        logger.warning("%s", message)
    elif len(messages) < _MAX_MESSAGES:
        messages.append(message)


_C_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(
    _handle_error
)


@cache
def _replace_handler() -> None:
    """Replace the function that prints errors, in the library that Pillow has loaded."""
    pillow = find_spec("PIL._imaging")
    with suppress(OSError, AttributeError):  # linked statically, or not exported
        ctypes.CDLL(pillow.origin if pillow else None).TIFFSetErrorHandler(_C_HANDLER)
