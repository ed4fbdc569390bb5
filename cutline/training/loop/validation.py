"""A run in the middle: how good its captions are, and whether they are the best so far."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from cutline.captioner import Captioner
from cutline.config import GenerationKwargs
from cutline.distributed import gather_results, is_main_process
from cutline.errors import DataError
from cutline.evaluation import EvaluatedImage, Evaluation, evaluate
from cutline.files import atomic_write
from cutline.image import open_thumbnail
from cutline.training.loop.interrupt import StopSignal
from cutline.training.loop.trainer import Trainer
from cutline.training.run.log import RunLog

LARGEST_SAMPLE = 320  # pixels


def evaluate_if_due(trainer: Trainer, log: RunLog, stop: StopSignal) -> None:
    """At the end of an epoch that the recipe names, and at the very end: evaluate, keep the best weights, save the state."""
    progress, plan = trainer.progress, trainer.recipe.eval
    at_end = progress.step == trainer.total_steps
    if not at_end and (progress.step == 0 or progress.step % trainer.steps_per_epoch):
        return
    epoch = math.ceil(progress.step / trainer.steps_per_epoch)
    first = plan.start_epoch or plan.every_epochs
    due = at_end or (epoch >= first and (epoch - first) % plan.every_epochs == 0)
    if not due or progress.evaluated == progress.step:
        return
    if progress.pictures == 0:
        raise DataError(
            f"{trainer.recipe.data.train}: none of its images can be read; see {log.path}"
        )
    with log.exclude_time():
        line, value = measure_run(trainer, log, stop)
    is_best = progress.best is None or value > progress.best
    if is_best:
        progress.best = value
        trainer.keep("best")
    progress.evaluated, progress.epoch_loss_sum, progress.epoch_token_count = progress.step, 0.0, 0
    log.write(
        {"step": progress.step, "epoch": epoch, **line, "best": is_best}
    )  # before the state, with which it counts as done
    trainer.save()
    numbers = "  ".join(
        f"{name} {number:.3f}" for name, number in line.items() if isinstance(number, float)
    )
    log.print(f"epoch {epoch}: {numbers}{'  (best so far)' if is_best else ''}")


def measure_run(trainer: Trainer, log: RunLog, stop: StopSignal) -> tuple[dict[str, Any], float]:
    """A line for the log, and the number that the best checkpoint is chosen by: higher is better."""
    progress, recipe = trainer.progress, trainer.recipe
    line: dict[str, Any] = {
        "train_loss": progress.epoch_loss_sum / max(1, progress.epoch_token_count)
    }
    if not trainer.prepared.val:
        return line, -line["train_loss"]
    if recipe.eval.select_by == "loss":
        line["val_loss"], skipped = trainer.validation_loss(
            lambda batches, total: log.track(stop.watch(batches), total, "validating")
        )
        log.log_skipped(progress.step, skipped)
        return line, -line["val_loss"]
    found = validate(trainer, log, stop)
    line |= {
        name: value
        for name, value in dataclasses.asdict(found.scores).items()
        if isinstance(value, float)
    }
    line["samples"] = gather_results(
        lambda: keep_samples(trainer.folder, found.images[:8]) if is_main_process() else []
    )[0]
    return line, found.scores.cider + found.scores.bleu4


def keep_samples(folder: Path, pictures: Sequence[EvaluatedImage]) -> list[dict[str, str]]:
    """Small copies of a few validation images in the run's folder, and what they are called there now."""
    samples = []
    for number, one in enumerate(pictures):
        kept = Path("samples") / f"{number}.jpg"
        if not (folder / kept).exists():
            with atomic_write(folder / kept) as temporary:
                open_thumbnail(one.sample.image, LARGEST_SAMPLE).save(temporary, "JPEG")
        samples.append({"image": str(kept), "id": one.sample.id, "caption": one.caption.text})
    return samples


def validate(trainer: Trainer, log: RunLog, stop: StopSignal) -> Evaluation:
    """Caption the validation images with the weights that would be kept."""
    captioner = Captioner(trainer.result(), trainer.prepared.tokenizer, str(trainer.device), "fp32")
    settings = cast(GenerationKwargs, dataclasses.asdict(trainer.recipe.generation))
    found = evaluate(
        captioner,
        trainer.prepared.val,
        batch_size=trainer.recipe.eval.batch_size,
        metric_tokenizer=trainer.recipe.eval.metric_tokenizer,
        progress=lambda results, total, description: log.track(
            stop.watch(results), total, description
        ),
        **settings,
    )
    trainer.learn()
    log.log_skipped(trainer.progress.step, found.skipped)
    return found
