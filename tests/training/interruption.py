"""Stop a run in the middle with a real signal."""

import os
import signal

import pytest

from cutline.training.data.batch import Batch
from cutline.training.loop.totals import StepTotals
from cutline.training.loop.trainer import Trainer


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send this process a real Ctrl-C during optimizer step `step`."""
    original = Trainer.train_step

    def train_step(self: Trainer, batches: list[Batch], totals: StepTotals) -> float:
        if self.state.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batches, totals)

    monkeypatch.setattr(Trainer, "train_step", train_step)
