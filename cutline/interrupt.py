"""Ctrl-C, SIGTERM and SIGHUP: stop a command, or a training run between two steps."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import NoReturn, Self, TypeVar

T = TypeVar("T")

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP, which a closed terminal sends
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_raised: list[int] = []  # signals that stopped the command of this process


class Interrupted(KeyboardInterrupt):
    """A command or a run was stopped by a signal; the message of a run says how to resume it.

    Attributes:
        signal_number: The signal.
    """

    def __init__(self, message: str = "", signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def interrupt_on_signals() -> None:
    """Raise Interrupted at any stop signal, so that a command cleans up as after Ctrl-C.

    Signals that are ignored, as by `nohup`, stay so.
    """
    _raised.clear()  # an earlier command of this process may have been stopped
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_interrupted)


def _raise_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    _raised.append(number)
    raise Interrupted("", number)


def find_interrupt(error: Exception | KeyboardInterrupt) -> Exception | KeyboardInterrupt:
    """Return the error that ended a command, or Interrupted if that was a signal.

    A library in C that a signal meets, such as one that reads weights, may raise an error of its
    own instead.
    """
    if _raised and not isinstance(error, KeyboardInterrupt):
        return Interrupted("", _raised[0])
    return error


class StopSignal:
    """A context in which a stop signal sets `requested`, and a second one raises Interrupted.

    Attributes:
        requested: Whether to stop after the current step.
        forced: Whether a second signal came, perhaps within a step.
        signal_number: The first signal.
    """

    def __init__(self) -> None:
        self.requested = self.forced = self._waiting = False
        self.signal_number: int = signal.SIGINT

    def __enter__(self) -> Self:
        self._old_handlers = {}
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._old_handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self.forced = True
            raise Interrupted("", number)
        self.requested, self.signal_number = True, number
        if self._waiting:
            raise Interrupted("", number)

    def interrupt_waiting(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`, the next of which may never come.

        Raises:
            Interrupted: A stop was requested while the next item was awaited.
        """
        iterator = iter(items)
        while True:
            self._waiting = True
            try:
                if self.requested:  # since the last item
                    raise Interrupted("", self.signal_number)
                item = next(iterator)
            except StopIteration:
                return
            except Exception:
                if self.requested:  # see `find_interrupt`
                    raise Interrupted("", self.signal_number) from None
                raise
            finally:
                self._waiting = False
            yield item

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`.

        Raises:
            Interrupted: A stop was requested.
        """
        for item in items:
            if self.requested:
                raise Interrupted("", self.signal_number)
            yield item
