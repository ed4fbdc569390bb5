"""Reading an iterable in a thread of its own."""

import random
import signal
import sys
from threading import Thread
from types import FrameType

import pytest

from cutline.background import BackgroundReader
from cutline.interrupt import Interrupted


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    raise Interrupted("", number)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer signals")
def test_a_signal_in_release_does_not_block_close() -> None:
    reader = BackgroundReader[int]([], 1, print, lambda error: None, "reader")
    rng = random.Random(0)
    before = signal.signal(signal.SIGALRM, raise_interrupted)
    try:
        for _ in range(1000):
            with pytest.raises(Interrupted):  # noqa: PT012
                # The second one, much later, would end a release that blocks.
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 2e-4), 0.5)
                while True:
                    reader.release()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    closing = Thread(target=reader.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
