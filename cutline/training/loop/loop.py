"""One plain training loop: step, log, evaluate, keep the best, save, and stop cleanly when asked."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from cutline.config import Recipe, read_recipe, to_dict
from cutline.device import peak_memory
from cutline.distributed import gather_results, is_main_process, process_group
from cutline.errors import CutlineError
from cutline.files import remove_partial, write_text
from cutline.training.data.dataset import CaptionDataset
from cutline.training.data.embeddings import embed
from cutline.training.loop.interrupt import Interrupted, StopSignal
from cutline.training.loop.trainer import Trainer
from cutline.training.loop.validation import evaluate_if_due
from cutline.training.run.directory import make_run_directory
from cutline.training.run.info import INFO_FILE, check_same_data, collect_run_info, save_run_info
from cutline.training.run.log import RunLog
from cutline.training.run.report import write_run_report
from cutline.training.run.tensorboard import open_tensorboard
from cutline.training.setup import prepare_run


def train(recipe: Recipe | str | Path, *, resume: bool = False, show_progress: bool = True) -> Path:
    """Train a captioner as `recipe`, or the YAML file of one, says; returns the folder of the best checkpoint.

    The run's folder then holds `best/` and `last/` (captioners for `cutline.load`), `log.jsonl`, `report.html`, `recipe.yaml`,
    `run.json` (versions, machine, fingerprint_data of the data), and `state.safetensors`, which a stopped run goes on from with
    `resume=True`: exactly as if it had not been stopped. Under `torchrun`, every process calls, and the first writes.

    Raises:
        CutlineError: the recipe, the data or the starting weights do not fit, or the loss is no longer a number.
        Interrupted: a KeyboardInterrupt; Ctrl-C or SIGTERM, after the state was saved.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    with process_group():
        return run_training(recipe, resume, show_progress and is_main_process())


def run_training(recipe: Recipe, resume: bool, show_progress: bool) -> Path:
    """This process's part of `train`."""
    (folder,) = set(
        gather_results(lambda: make_run_directory(recipe, resume))
    )  # all have looked before the first writes
    with (
        Console(stderr=True).status("reading the data, making vocabulary and model …")
        if show_progress
        else nullcontext()
    ):
        prepared = prepare_run(recipe)
    start = collect_run_info(recipe, prepared)
    gather_results(
        lambda: check_same_data(folder / INFO_FILE, start, resume) if is_main_process() else None
    )
    if recipe.data.cache_embeddings and isinstance(prepared.rows, CaptionDataset):
        prepared.rows.embeddings = embed(
            recipe, prepared.model, prepared.rows.used_samples(), show_progress
        )
    trainer = Trainer(recipe, prepared, folder, resume)
    gather_results(lambda: record_run(recipe, folder, start, resume) if is_main_process() else None)
    step = trainer.progress.step
    board = open_tensorboard(folder, recipe, step) if is_main_process() else None
    log = RunLog(
        folder / "log.jsonl" if is_main_process() else None,
        board,
        step,
        trainer.total_steps,
        show_progress,
    )
    with StopSignal() as stop, log:
        try:
            run(trainer, log, stop)
        except CutlineError:
            trainer.save()  # what was learned so far is good
            raise
        except Interrupted:
            trainer.save()
            raise Interrupted(
                f"stopped after step {trainer.progress.step}; {folder} goes on from there with --resume"
            ) from None
    if is_main_process():
        write_run_report(folder)
    return folder / "best"


def record_run(recipe: Recipe, folder: Path, start: dict[str, Any], resume: bool) -> None:
    """Write down the recipe, and what the run is made of; what an earlier start left half written goes."""
    remove_partial(folder)
    save_run_info(folder / INFO_FILE, start, resume)
    write_text(
        folder / "recipe.yaml", yaml.safe_dump(to_dict(recipe), sort_keys=False, allow_unicode=True)
    )


def run(trainer: Trainer, log: RunLog, stop: StopSignal) -> None:
    """Train to the end, from wherever `trainer` stands."""
    progress, recipe = trainer.progress, trainer.recipe
    saved = time.monotonic()
    evaluate_if_due(trainer, log, stop)
    for batches in trainer.steps():
        totals = trainer.total(
            batches, stop.requested, time.monotonic() - saved > 60 * recipe.save_minutes
        )
        if totals.stop:
            raise Interrupted
        if totals.save:
            trainer.save()
            saved = time.monotonic()
        norm = trainer.train_step(batches, totals)
        log.advance(progress.step, totals.pictures, totals.tokens)
        log.log_skipped(progress.step, totals.skipped)
        if progress.step % recipe.log_every == 0 or progress.step == trainer.total_steps:
            log.log_training(
                {
                    "step": progress.step,
                    "epoch": round(progress.step / trainer.steps_per_epoch, 3),
                    "loss": progress.loss_sum / max(1, progress.token_count),
                    "lr": trainer.lr,
                    "grad_norm": norm,
                    "memory_gb": round(peak_memory(trainer.device) / 1e9, 3),
                }
            )
            progress.loss_sum, progress.token_count = 0.0, 0
        evaluate_if_due(trainer, log, stop)
