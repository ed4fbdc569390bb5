"""Stop a run in the middle: with a real signal, or by a log that cannot be written."""

import os
import signal

import pytest

from cutline.config import Recipe
from cutline.training import Interrupted, train
from cutline.training.data.batch import Batch
from cutline.training.loop.totals import StepTotals
from cutline.training.loop.trainer import Trainer
from cutline.training.run.directory import LOG_FILE


def block_log_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Put a folder in the place of the log before optimizer step `step`."""
    original = Trainer.train_step

    def train_step(self: Trainer, batches: list[Batch], totals: StepTotals) -> float:
        if self.state.step + 1 == step:
            log = self.directory / LOG_FILE
            log.unlink()
            log.mkdir()  # which cannot be written to, not even by root
        return original(self, batches, totals)

    monkeypatch.setattr(Trainer, "train_step", train_step)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send this process a real Ctrl-C during optimizer step `step`."""
    original = Trainer.train_step

    def train_step(self: Trainer, batches: list[Batch], totals: StepTotals) -> float:
        if self.state.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batches, totals)

    monkeypatch.setattr(Trainer, "train_step", train_step)


def train_interrupted(recipe: Recipe, step: int) -> None:
    """Start a run, which a Ctrl-C stops during optimizer step `step`."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(Interrupted):
            train(recipe, show_progress=False)
