"""What the rehearsals share: a run in memory that nobody saves."""

import os
from pathlib import Path

from cutline.config import Recipe
from cutline.errors import ConfigError, DataError
from cutline.training.batch import Batch
from cutline.training.prepare import Prepared
from cutline.training.trainer import Trainer


def set_stage(recipe: Recipe, prepared: Prepared) -> Trainer:
    """The run that `recipe` would begin, in memory alone."""
    return Trainer(recipe, prepared, Path(recipe.output), resume=False)


def require_one_process() -> None:
    """Raise ConfigError under `torchrun`."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("a rehearsal runs in a single process: leave out torchrun")


def take_step(trainer: Trainer, batches: list[Batch], lr: float | None = None) -> float:
    """One optimiser step; returns its loss per token, from before it.

    Raises:
        DivergedError: the loss is not a number; the weights stay as they were.
        DataError: no picture of the step can be read.
    """
    totals = trainer.total(batches, stop=False, save=False)
    if not totals.tokens:
        first = f"; the first: {totals.skipped[0]}" if totals.skipped else ""
        raise DataError(f"{trainer.recipe.data.train}: no picture of a whole step can be read{first}")
    trainer.progress.loss_sum, trainer.progress.token_count = 0.0, 0
    trainer.train_step(batches, totals, lr)
    return trainer.progress.loss_sum / totals.tokens
