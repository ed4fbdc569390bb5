"""Stops a run in the middle."""

import os
import signal

import pytest

from cutline.training.loop.trainer import Totals, Trainer


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send this process a real Ctrl-C during optimiser step `step`."""
    original = Trainer.train_step

    def train_step(self: Trainer, batches: list, totals: Totals) -> float:
        if self.progress.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batches, totals)

    monkeypatch.setattr(Trainer, "train_step", train_step)
