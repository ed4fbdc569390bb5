"""An image and a job that kill their process, and a job that fails."""

import os
import signal
from typing import NoReturn

from cutline.bulk.engine import CaptionJob
from cutline.files import ImageRef


class DeadlyImage(ImageRef):
    """An image that kills the process that reads it."""

    def read(self) -> NoReturn:
        _die()

    def __str__(self) -> str:
        return "killer\n.png"


class DeadlyJob(CaptionJob):
    """Kills the process that loads the model."""

    def load(self, device: str = "") -> NoReturn:
        _die()


class BrokenJob(CaptionJob):
    """Fails to load the model, with an error that nobody expects."""

    def load(self, device: str = "") -> NoReturn:
        raise KeyError("weight")


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
