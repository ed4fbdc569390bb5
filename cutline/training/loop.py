"""One plain training loop: step, log, evaluate, keep the best, save, and stop cleanly when asked."""

import dataclasses
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import yaml
from rich.console import Console

from cutline.captioner import Captioner
from cutline.config import GenerationSettings, Recipe, read_recipe, to_dict
from cutline.device import peak_memory
from cutline.distributed import is_first, process_group, together
from cutline.errors import ConfigError, CutlineError, DataError
from cutline.evaluation import Evaluation, evaluate
from cutline.files import write_text
from cutline.training.board import open_board
from cutline.training.interrupt import Interrupted, StopSignal
from cutline.training.log import RunLog
from cutline.training.prepare import Prepared, prepare
from cutline.training.record import describe, record_start
from cutline.training.sheet import write_sheet
from cutline.training.trainer import Trainer

FREE_TO_CHANGE = {
    "output",
    "log_every",
    "save_minutes",
    "device",
    "tensorboard",
    "data.num_workers",
    "optim.lr",
    "optim.clip_norm",
}  # between a stop and its resume


def train(recipe: Recipe | str | Path, *, resume: bool = False, show_progress: bool = True) -> Path:
    """Train a captioner as `recipe`, or the YAML file of one, says; returns the folder of the best checkpoint.

    The run's folder then holds `best/` and `last/` (captioners for `cutline.load`), `log.jsonl`, `report.html`, `recipe.yaml`,
    `run.json` (versions, machine, fingerprint of the data), and `state.safetensors`, which a stopped run goes on from with
    `resume=True`: exactly as if it had not been stopped. Under `torchrun`, every process calls, and the first writes.

    Raises:
        CutlineError: the recipe, the data or the starting weights do not fit, or the loss is no longer a number.
        Interrupted: a KeyboardInterrupt; Ctrl-C or SIGTERM, after the state was saved.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    with process_group():
        return train_here(recipe, resume, show_progress and is_first())


def train_here(recipe: Recipe, resume: bool, show_progress: bool) -> Path:
    """This process's part of `train`."""
    (folder,) = set(together(lambda: run_folder(recipe, resume)))  # all have looked before the first writes
    with Console(stderr=True).status("reading the data, making vocabulary and model …") if show_progress else nullcontext():
        prepared = prepare(recipe)
    together(lambda: record_run(recipe, prepared, folder, resume) if is_first() else None)
    trainer = Trainer(recipe, prepared, folder, resume)
    step = trainer.progress.step
    board = open_board(folder / "tensorboard", recipe, step) if is_first() else None
    log = RunLog(folder / "log.jsonl" if is_first() else None, board, step, trainer.total_steps, show_progress)
    with StopSignal() as stop, log:
        try:
            run(trainer, log, stop)
        except CutlineError:
            trainer.save()  # what was learned so far is good
            raise
        except Interrupted:
            trainer.save()
            raise Interrupted(f"stopped after step {trainer.progress.step}; {folder} goes on from there with --resume") from None
    if is_first():
        write_sheet(folder)
    return folder / "best"


def record_run(recipe: Recipe, prepared: Prepared, folder: Path, resume: bool) -> None:
    """Write down the recipe, and what the run is made of."""
    record_start(folder / "run.json", describe(recipe, prepared), resume)
    write_text(folder / "recipe.yaml", yaml.safe_dump(to_dict(recipe), sort_keys=False, allow_unicode=True))


def run(trainer: Trainer, log: RunLog, stop: StopSignal) -> None:
    """Train to the end, from wherever `trainer` stands."""
    progress, recipe = trainer.progress, trainer.recipe
    saved = time.monotonic()
    evaluate_if_due(trainer, log, stop)
    for batches in trainer.steps():
        totals = trainer.total(batches, stop.requested, time.monotonic() - saved > 60 * recipe.save_minutes)
        if totals.stop:
            raise Interrupted
        if totals.save:
            trainer.save()
            saved = time.monotonic()
        norm = trainer.train_step(batches, totals)
        log.advance(progress.step, totals.pictures, totals.tokens)
        log.skip(progress.step, totals.skipped)
        if progress.step % recipe.log_every == 0 or progress.step == trainer.total_steps:
            log.train_line(
                {
                    "step": progress.step,
                    "epoch": round(progress.step / trainer.steps_per_epoch, 3),
                    "loss": progress.loss_sum / max(1, progress.token_count),
                    "lr": trainer.optimizer.param_groups[0]["lr"],
                    "grad_norm": norm,
                    "memory_gb": round(peak_memory(trainer.device) / 1e9, 3),
                }
            )
            progress.loss_sum, progress.token_count = 0.0, 0
        evaluate_if_due(trainer, log, stop)


def evaluate_if_due(trainer: Trainer, log: RunLog, stop: StopSignal) -> None:
    """At the end of an epoch that the recipe names, and at the very end: evaluate, keep the best weights, save the state."""
    progress, plan = trainer.progress, trainer.recipe.eval
    at_end = progress.step == trainer.total_steps
    if not at_end and (progress.step == 0 or progress.step % trainer.steps_per_epoch):
        return
    epoch = math.ceil(progress.step / trainer.steps_per_epoch)
    first = plan.first or plan.every
    due = at_end or (epoch >= first and (epoch - first) % plan.every == 0)
    if not due or progress.evaluated == progress.step:
        return
    if progress.pictures == 0:
        raise DataError(f"{trainer.recipe.data.train}: none of its pictures can be read; see {log.path}")
    with log.uncounted():
        line, value = measure_run(trainer, log, stop)
    is_best = progress.best is None or value > progress.best
    if is_best:
        progress.best = value
        trainer.keep("best")
    progress.evaluated, progress.epoch_loss_sum, progress.epoch_token_count = progress.step, 0.0, 0
    trainer.save()
    log.write({"step": progress.step, "epoch": epoch, **line, "best": is_best})
    numbers = "  ".join(f"{name} {number:.3f}" for name, number in line.items() if isinstance(number, float))
    log.say(f"epoch {epoch}: {numbers}{'  (best so far)' if is_best else ''}")


def measure_run(trainer: Trainer, log: RunLog, stop: StopSignal) -> tuple[dict[str, Any], float]:
    """A line for the log, and the number that the best checkpoint is chosen by: higher is better."""
    progress, recipe = trainer.progress, trainer.recipe
    line: dict[str, Any] = {"train_loss": progress.epoch_loss_sum / max(1, progress.epoch_token_count)}
    if not trainer.prepared.val:
        return line, -line["train_loss"]
    if recipe.eval.by == "loss":
        line["val_loss"], skipped = trainer.validation_loss(lambda batches, total: log.watch(stop.watch(batches), total))
        log.skip(progress.step, skipped)
        return line, -line["val_loss"]
    found = validate(trainer, log, stop)
    line |= {name: value for name, value in dataclasses.asdict(found.scores).items() if isinstance(value, float)}
    shown = [one for one in found.pictures if isinstance(one.sample.image, str)][:8]
    line["samples"] = [{"image": one.sample.image, "caption": one.caption.text} for one in shown]
    return line, found.scores.cider + found.scores.bleu4


def validate(trainer: Trainer, log: RunLog, stop: StopSignal) -> Evaluation:
    """Caption the validation pictures with the weights that would be kept."""
    captioner = Captioner(trainer.result(), trainer.prepared.tokenizer, str(trainer.device), "fp32")
    settings = cast(GenerationSettings, dataclasses.asdict(trainer.recipe.generation))
    found = evaluate(
        captioner,
        trainer.prepared.val,
        batch_size=trainer.recipe.eval.batch_size,
        progress=lambda results, total: log.watch(stop.watch(results), total),
        **settings,
    )
    trainer.learn()
    log.skip(trainer.progress.step, found.skipped)
    return found


def run_folder(recipe: Recipe, resume: bool) -> Path:
    """The run's folder: new, or that of a run to resume, which must have been trained by the same recipe."""
    folder = Path(recipe.output)
    if (folder / "state.safetensors").exists():
        if not resume:
            raise ConfigError(f"{folder} already holds a run: add --resume to go on with it, or choose another `output`")
        for name, old, new in differences(to_dict(read_recipe(folder / "recipe.yaml")), to_dict(recipe)):
            if name not in FREE_TO_CHANGE:
                raise ConfigError(
                    f"{folder} was trained with {name} = {old}, not {new}: resume with the same recipe, or choose another `output`"
                )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The settings that differ, as (dotted name, old value, new value)."""
    found = []
    for name, value in new.items():
        if isinstance(value, dict):
            found += differences(old.get(name, {}), value, f"{prefix}{name}.")
        elif old.get(name) != value:
            found.append((prefix + name, old.get(name), value))
    return found
