"""What the rehearsals share: a run in memory that nobody saves."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from cutline.config import Recipe
from cutline.data import Sample, stream_shards
from cutline.errors import ConfigError, DataError
from cutline.training.data.batch import Batch
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import RunSetup

LOOK_AHEAD = 1000  # of streamed samples


def make_trainer(recipe: Recipe, prepared: RunSetup) -> Trainer:
    """The run that `recipe` would begin, in memory alone."""
    return Trainer(recipe, prepared, Path(recipe.output), resume=False)


def require_one_process() -> None:
    """Raise ConfigError under `torchrun`."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("a rehearsal runs in a single process: leave out torchrun")


def samples_at_hand(prepared: RunSetup, recipe: Recipe) -> Sequence[Sample]:
    """The training samples, or the first of those that are streamed."""
    data = recipe.data
    if not data.stream:
        return prepared.train
    stream = stream_shards(
        data.train, seed=recipe.seed, epoch=0, part=0, parts=1, shuffle=data.shuffle_buffer
    )
    return list(islice(stream, LOOK_AHEAD))


def take_step(trainer: Trainer, batches: list[Batch], lr: float | None = None) -> float:
    """One optimiser step; returns its loss per token, from before it.

    Raises:
        DivergedError: the loss is not a number; the weights stay as they were.
        DataError: no image of the step can be read.
    """
    totals = trainer.total(batches, stop=False, save=False)
    if not totals.tokens:
        first = f"; the first: {totals.skipped[0]}" if totals.skipped else ""
        raise DataError(f"{trainer.recipe.data.train}: no image of a whole step can be read{first}")
    trainer.progress.loss_sum, trainer.progress.token_count = 0.0, 0
    trainer.train_step(batches, totals, lr)
    return trainer.progress.loss_sum / totals.tokens
