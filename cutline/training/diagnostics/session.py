"""Helpers shared by the diagnostics: a trainer that saves nothing, and its single steps."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from cutline.config import Recipe
from cutline.data import Sample, stream_shards
from cutline.errors import ConfigError, DataError
from cutline.training.data.batch import Batch
from cutline.training.data.stream import ShardDataset
from cutline.training.loop.totals import sync_totals
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import RunSetup

MAX_STREAMED_SAMPLES = 1000


def check_single_process() -> None:
    """Raise ConfigError under `torchrun`."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("diagnostics run in a single process: start them without torchrun")


def make_trainer(recipe: Recipe, setup: RunSetup) -> Trainer:
    """Return the trainer of a new run; it writes no files."""
    return Trainer(recipe, setup, Path(recipe.output), resume=False)


def peek_samples(setup: RunSetup, recipe: Recipe) -> Sequence[Sample]:
    """Return the training samples; of a stream, the first `MAX_STREAMED_SAMPLES`."""
    data = recipe.data
    if not data.stream:
        return setup.train_samples
    stream = stream_shards(
        data.train,
        seed=recipe.seed,
        epoch=0,
        reader=0,
        num_readers=1,
        shuffle_buffer=data.shuffle_buffer,
        allow_pipe=isinstance(setup.dataset, ShardDataset) and setup.dataset.allow_pipe,
    )
    return list(islice(stream, MAX_STREAMED_SAMPLES))


def take_step(trainer: Trainer, batches: list[Batch], lr: float | None = None) -> float:
    """Take one optimizer step.

    Args:
        trainer: The run.
        batches: The batches of the step.
        lr: Learning rate (default: the schedule's).

    Returns:
        The loss per token, pair or caption before the step.

    Raises:
        DivergedError: The loss is NaN or infinite; the weights are unchanged.
        DataError: No image of the step can be read.
    """
    totals = sync_totals(batches, stop=False, save=False)
    if not totals.targets:
        first = f"; the first error: {totals.skipped[0]}" if totals.skipped else ""
        raise DataError(
            f"data.train: {trainer.recipe.data.train}: none of the images of a step can be "
            f"read{first}"
        )
    trainer.state.reset_sums()
    trainer.train_step(batches, totals, lr)
    return trainer.state.loss_sum / totals.targets


def read_compared_loss(trainer: Trainer) -> float:
    """Return the part of the loss of the last step that `Task.compared_loss` names."""
    state = trainer.state
    return state.value_sums.get(trainer.task.compared_loss, state.loss_sum) / state.token_count
