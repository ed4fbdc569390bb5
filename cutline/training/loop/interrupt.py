"""Ctrl-C and SIGTERM, answered between two steps."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; its text says how to go on."""


class StopSignal:
    """Within it, the first Ctrl-C or SIGTERM only sets `requested`; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._former = {}
        if (
            threading.current_thread() is threading.main_thread()
        ):  # Python allows handlers nowhere else
            self._former = {
                number: signal.signal(number, self._handle)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def watch(self, results: Iterable[T]) -> Iterator[T]:
        """Pass `results` on until a stop is requested."""
        for result in results:
            self.check()
            yield result

    def check(self) -> None:
        """Raise Interrupted if a stop was requested."""
        if self.requested:
            raise Interrupted
