"""Evaluation during training: metrics on the validation data, and the choice of the best weights.

The training model is not touched: all of this works on `Trainer.export_model`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from cutline.distributed import gather_results, rank, run_on_main, world_size
from cutline.errors import DataError, blame_setting
from cutline.evaluation import EvaluatedImage
from cutline.files import atomic_write
from cutline.image import open_thumbnail
from cutline.interrupt import StopSignal
from cutline.progress import Progress, no_progress
from cutline.training.data.batch import load_batches
from cutline.training.loop.trainer import Trainer
from cutline.training.run.directory import BEST, LOG_FILE, NUM_SAMPLES, sample_path
from cutline.training.run.log import RunLog
from cutline.training.tasks import TaskEvaluation

T = TypeVar("T")

SAMPLE_SIZE = 320
"""longer side of their copies in the run directory, in pixels"""


def evaluate_if_due(trainer: Trainer, log: RunLog, stop: StopSignal) -> None:
    """Evaluate, save the weights if they are the best so far, and save the state.

    Does nothing between two epochs that the recipe evaluates.

    Raises:
        DataError: No image of the training or validation data can be read.
        DivergedError: The weights are NaN or too large.
        Interrupted: A stop was requested.
    """
    if not _is_due(trainer):
        return
    trainer.check_weights()
    state, data = trainer.state, trainer.recipe.data
    if state.num_images == 0:
        raise DataError(
            f"data.train: {data.train}: none of the images can be read; "
            f"check `data.image_root`, and the errors in {trainer.directory / LOG_FILE}"
        )
    setting = "val" if data.val else "train"
    with log.exclude_time(), blame_setting(setting, trainer.recipe.setting_names):
        line, score = evaluate_model(trainer, log, stop)
    is_best = state.best_score is None or score > state.best_score
    if is_best:
        state.best_score = score
        trainer.save_checkpoint(BEST)
    state.last_eval_step, state.epoch_loss_sum, state.epoch_token_count = state.step, 0.0, 0
    epoch = math.ceil(state.step / trainer.steps_per_epoch)
    # The line comes before the state: with the state saved, the evaluation is not repeated.
    log.write({"step": state.step, "epoch": epoch, **line, "best": is_best})
    trainer.save()
    values = "  ".join(f"{name} {v:.3f}" for name, v in line.items() if isinstance(v, float))
    log.print(f"epoch {epoch}: {values}{'  (best so far)' if is_best else ''}")


def _is_due(trainer: Trainer) -> bool:
    state, config = trainer.state, trainer.recipe.eval
    if state.last_eval_step == state.step:
        return False
    if state.step == trainer.total_steps:
        return True
    epoch, steps_into_epoch = divmod(state.step, trainer.steps_per_epoch)
    first = config.start_epoch or config.every_epochs
    return not steps_into_epoch and epoch >= first and (epoch - first) % config.every_epochs == 0


def evaluate_model(trainer: Trainer, log: RunLog, stop: StopSignal) -> tuple[dict[str, Any], float]:
    """Evaluate the current weights.

    Returns:
        The metrics for the log, and the score by which the best checkpoint is selected; higher is
        better.
    """
    state, recipe = trainer.state, trainer.recipe
    train_loss = state.epoch_loss_sum / max(1, state.epoch_token_count)
    line: dict[str, Any] = {"train_loss": train_loss}
    if not trainer.setup.val_samples:
        return line, -train_loss
    if recipe.eval.select_by == "loss":
        line["val_loss"], skipped = compute_validation_loss(trainer, _track(log, stop))
        log.log_skipped(state.step, skipped)
        return line, -line["val_loss"]
    evaluation = evaluate_task(trainer, _track(log, stop))
    log.log_skipped(state.step, evaluation.skipped)
    line |= evaluation.metrics
    if images := evaluation.images[:NUM_SAMPLES]:
        line["samples"] = run_on_main(lambda: save_samples(trainer.directory, images))
    return line, evaluation.score


def _track(log: RunLog, stop: StopSignal) -> Progress:
    """Return a progress bar that raises Interrupted when a stop is requested."""

    def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
        return log.track(stop.watch(items), total, description)

    return track


def evaluate_task(trainer: Trainer, progress: Progress = no_progress) -> TaskEvaluation:
    """Evaluate the current weights as the task does; every process must call this.

    Raises:
        DataError: None of the images can be read.
    """
    model, setup = trainer.export_model(), trainer.setup
    return trainer.task.evaluate(model, setup.tokenizer, setup.val_samples, progress)


@torch.no_grad()
def compute_validation_loss(
    trainer: Trainer, progress: Progress = no_progress
) -> tuple[float, list[str]]:
    """Compute the mean loss of the validation captions; every process must call this.

    Images are not augmented. All captions of an image count, or as many as the task says.

    Returns:
        The loss per token or pair, and a message for each image that cannot be read.

    Raises:
        DataError: None of the images can be read.
    """
    recipe, setup, model = trainer.recipe, trainer.setup, trainer.export_model()
    count = trainer.task.validation_captions
    recipe = replace(recipe, data=replace(recipe.data, captions_per_image=count))
    dataset = setup.make_val_dataset(recipe, setup.val_samples)
    size = recipe.eval.batch_size
    keys = [(0, index) for index in range(len(dataset))]
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    batches = batches[rank() :: world_size()]

    def compute_share() -> tuple[float, int, list[str]]:
        loss_sum, targets = 0.0, 0
        skipped: list[str] = []
        torch.manual_seed(recipe.seed)  # negatives are drawn
        loaded = load_batches(dataset, iter(batches), setup.loader_config())
        for batch in progress(loaded, len(batches), "validating"):
            if batch.error:
                raise batch.error
            skipped += batch.skipped
            if len(batch.pixels):
                loss_sum += float(trainer.compute_loss(model, batch).loss)
                targets += batch.num_targets
        return loss_sum, targets, skipped

    loss_sums, target_counts, messages = zip(*gather_results(compute_share), strict=True)
    skipped = [message for share in messages for message in share]
    if not sum(target_counts):
        raise DataError(
            f"none of the {len(setup.val_samples)} validation images can be read; "
            f"the first error: {skipped[0]}"
        )
    return sum(loss_sums) / sum(target_counts), skipped


def save_samples(directory: Path, images: Sequence[EvaluatedImage]) -> list[dict[str, str]]:
    """Save small copies of a few validation images to the run directory.

    Returns:
        For each image its path in the directory, its id and its current caption.
    """
    samples = []
    for number, image in enumerate(images):
        path = sample_path(number)
        if not (directory / path).exists():  # every evaluation has the same images
            with atomic_write(directory / path) as temporary:
                open_thumbnail(image.sample.image, SAMPLE_SIZE).save(temporary, "JPEG")
        samples.append({"image": path, "id": image.sample.id, "caption": image.caption.text})
    return samples
