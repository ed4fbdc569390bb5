"""Evaluation before and during training: metrics on the validation data, and the best weights.

The training model is not touched: all of this works on `Trainer.export_model`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from cutline.config.data import MAX_CAPTIONS_PER_IMAGE
from cutline.distributed import gather_results, is_main_process, rank, run_on_main, world_size
from cutline.errors import CutlineError, DataError, blame_setting
from cutline.evaluation import EvaluatedImage
from cutline.files import atomic_write
from cutline.image import open_thumbnail
from cutline.interrupt import StopSignal
from cutline.progress import Progress, no_progress
from cutline.training.data.batch import load_batches
from cutline.training.loop.trainer import Trainer
from cutline.training.run.directory import BEST, LOG_FILE, NUM_SAMPLES, sample_path
from cutline.training.run.log import RunLog
from cutline.training.run.report import write_run_report
from cutline.training.tasks import TaskEvaluation

T = TypeVar("T")

SAMPLE_SIZE = 320
"""longer side of their copies in the run directory, in pixels"""
MAX_REFERENCES = 5
"""reference captions of an image in the log"""


def evaluate_if_due(trainer: Trainer, log: RunLog, stop: StopSignal) -> None:
    """Evaluate, save the weights if they are the best so far, and save the state.

    Does nothing between two epochs that the recipe evaluates. Before the first step, it evaluates
    the initial weights and saves none.

    Raises:
        DataError: No image of the training or validation data can be read.
        DivergedError: The weights are NaN or too large.
        Interrupted: A stop was requested.
    """
    if not _is_due(trainer):
        return
    trainer.check_weights()
    state, data = trainer.state, trainer.recipe.data
    if state.step and state.num_images == 0:
        raise DataError(
            f"data.train: {data.train}: none of the images can be read; "
            f"check `data.image_root`, and the errors in {trainer.directory / LOG_FILE}"
        )
    setting = "val" if data.val else "train"
    with log.exclude_time(), blame_setting(setting, trainer.recipe.setting_names):
        line, score = evaluate_model(trainer, log, stop)
    is_best = state.step > 0 and (state.best_score is None or score > state.best_score)
    if is_best:
        state.best_score = score
        trainer.save_checkpoint(BEST)
    state.last_eval_step, state.epoch_loss_sum, state.epoch_token_count = state.step, 0.0, 0
    epoch = math.ceil(state.step / trainer.steps_per_epoch)
    # The line comes before the state: with the state saved, the evaluation is not repeated.
    log.write({"step": state.step, "epoch": epoch, **line, "best": is_best})
    if state.step:
        trainer.save()
    values = "  ".join(f"{name} {v:.3f}" for name, v in line.items() if isinstance(v, float))
    moment = f"epoch {epoch}" if epoch else "before training"
    log.print(f"{moment}: {values}{'  (best so far)' if is_best else ''}")
    with log.exclude_time():
        update_report(trainer.directory, log)


def _is_due(trainer: Trainer) -> bool:
    state, config = trainer.state, trainer.recipe.eval
    if state.last_eval_step == state.step:
        return False
    if state.step == 0:
        return config.before_training and bool(trainer.setup.val_samples)
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
    state = trainer.state
    line: dict[str, Any] = {}
    if state.step:
        line["train_loss"] = state.epoch_loss_sum / max(1, state.epoch_token_count)
    if not trainer.setup.val_samples:
        return line, -line["train_loss"]
    line |= measure_loss(trainer, log, stop)
    if trainer.recipe.eval.select_by == "loss":
        return line, -line["val_loss"]
    evaluation = evaluate_task(trainer, _track(log, stop))
    log.log_skipped(state.step, evaluation.skipped)
    line |= evaluation.metrics
    if images := evaluation.images[:NUM_SAMPLES]:
        is_new = trainer.saved_step is None  # files in the directory may be those of another run
        line["samples"] = run_on_main(lambda: save_samples(trainer.directory, images, is_new))
    return line, evaluation.score


def measure_loss(trainer: Trainer, log: RunLog, stop: StopSignal) -> dict[str, float]:
    """Return the validation loss for the log.

    If it does not select the best checkpoint, captions that have no loss, such as those whose
    prompts are too long, are no reason to end the run.
    """
    try:
        val_loss, skipped = compute_validation_loss(trainer, _track(log, stop))
    except CutlineError as error:
        if trainer.recipe.eval.select_by == "loss":
            raise
        log.print(f"there is no validation loss: {error}")
        return {}
    log.log_skipped(trainer.state.step, skipped)
    return {"val_loss": val_loss}


def update_report(directory: Path, log: RunLog) -> None:
    """Write the report of the run so far; the end of the run tells if that still fails."""
    try:
        if is_main_process():
            write_run_report(directory)
    except Exception as error:  # whatever it is, training is worth more than its report
        log.print(f"the report could not be written: {error}")


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
    count, size = group_captions(trainer)
    recipe = replace(recipe, data=replace(recipe.data, captions_per_image=count))
    dataset = setup.make_val_dataset(recipe, setup.val_samples)
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
                loss = trainer.compute_loss(model, batch)
                loss_sum += float(loss.loss)
                targets += batch.num_targets if loss.num_targets is None else loss.num_targets
        return loss_sum, targets, skipped

    loss_sums, target_counts, messages = zip(*gather_results(compute_share), strict=True)
    skipped = [message for share in messages for message in share]
    if not sum(target_counts):
        raise DataError(
            f"none of the {len(setup.val_samples)} validation images can be read; "
            f"the first error: {skipped[0]}"
        )
    return sum(loss_sums) / sum(target_counts), skipped


def group_captions(trainer: Trainer) -> tuple[int, int]:
    """Return `data.captions_per_image` of the validation loss, and examples per batch.

    An image is encoded once for all of its captions, unless one has more than fit into a batch.
    """
    size = trainer.recipe.eval.batch_size
    if count := trainer.task.validation_captions:
        return count, size
    most = max(len(sample.captions) for sample in trainer.setup.val_samples)
    return (most, size // most) if most <= min(size, MAX_CAPTIONS_PER_IMAGE) else (0, size)


def save_samples(
    directory: Path, images: Sequence[EvaluatedImage], overwrite: bool
) -> list[dict[str, Any]]:
    """Save small copies of a few validation images to the run directory.

    Args:
        directory: The run directory.
        images: The images; those of every evaluation of a run are the same.
        overwrite: Whether to write copies that exist already.

    Returns:
        For each image its path in the directory, its id, its current caption, and its references.
    """
    samples = []
    for number, image in enumerate(images):
        path, sample = sample_path(number), image.sample
        if overwrite or not (directory / path).exists():
            with atomic_write(directory / path) as temporary:
                open_thumbnail(sample.image, SAMPLE_SIZE).save(temporary, "JPEG")
        references = list(sample.captions[:MAX_REFERENCES])
        caption = image.caption.text
        samples.append(
            {"image": path, "id": sample.id, "caption": caption, "references": references}
        )
    return samples
