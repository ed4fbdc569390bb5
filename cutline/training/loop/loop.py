"""The training loop: step, log, evaluate, keep the best weights, save, and stop cleanly."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from cutline.config import Recipe, read_recipe, to_dict
from cutline.device import peak_memory
from cutline.distributed import (
    gather_results,
    is_main_process,
    process_group,
    run_on_main,
    world_size,
)
from cutline.errors import CutlineError, DivergedError
from cutline.files import remove_partial, write_text
from cutline.interrupt import Interrupted, StopSignal
from cutline.progress import no_progress, progress_bar
from cutline.training.data.batch import Batch, explain_worker_failure
from cutline.training.data.dataset import CaptionDataset
from cutline.training.data.embeddings import cache_embeddings
from cutline.training.loop.totals import sync_totals
from cutline.training.loop.trainer import Trainer
from cutline.training.loop.validation import evaluate_if_due
from cutline.training.run.directory import (
    BEST,
    INFO_FILE,
    LOG_FILE,
    RECIPE_FILE,
    check_run_directory,
    list_run_files,
    lock_run_directory,
)
from cutline.training.run.info import (
    check_same_data,
    check_same_models,
    collect_run_info,
    save_run_info,
)
from cutline.training.run.log import RunLog
from cutline.training.run.report import write_run_report
from cutline.training.run.tensorboard import TensorBoardLog, uses_tensorboard
from cutline.training.setup import RunSetup, check_commands, prepare_run


def train(
    recipe: Recipe | str | Path,
    *,
    resume: bool = False,
    show_progress: bool = True,
    allow_pipe: bool = False,
) -> Path:
    """Train a captioner, a matcher with `task: match`, or both with `task: pretrain`.

    The run directory then holds `best/` and `last/` (captioners for `cutline.load`, matchers for
    `cutline.load_matcher`, or both), `log.jsonl`, `report.html`, `recipe.yaml`, `run.json`
    (versions, machine, fingerprint of the data), and `state.safetensors`, from which a stopped run
    resumes exactly as if it had not been stopped.
    Under `torchrun`, every process must call this; the main process writes.

    Args:
        recipe: Settings of the run, or the YAML file of a recipe.
        resume: Whether to resume the run in the recipe's `output`. Without a saved state there, a
            new run starts.
        show_progress: Whether to show progress bars and messages on stderr.
        allow_pipe: Whether shards may be `pipe:` commands, which are run in a shell.

    Returns:
        The folder of the best checkpoint.

    Raises:
        CutlineError: The recipe, the data and the initial weights do not fit together, or the loss
            became NaN or infinite.
        Interrupted: Ctrl-C, SIGTERM or SIGHUP; the state was saved. It is a KeyboardInterrupt.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    check_commands(recipe, allow_pipe)
    with process_group():
        return run_training(recipe, resume, show_progress and is_main_process(), allow_pipe)


def run_training(recipe: Recipe, resume: bool, show_progress: bool, allow_pipe: bool) -> Path:
    """Run this process's part of `train`, and return the folder of the best checkpoint."""
    run_on_main(lambda: uses_tensorboard(recipe))  # a missing package ends the run here
    with lock_run_directory(recipe) as directory:
        # Every process checks the directory before the main process writes to it.
        gather_results(lambda: check_run_directory(directory, recipe, resume))
        trainer = prepare_trainer(recipe, directory, resume, show_progress, allow_pipe)
        with StopSignal() as stop, open_log(trainer, show_progress) as log:
            try:
                run_steps(trainer, log, stop)
                run_on_main(log.raise_error)
            except (CutlineError, Interrupted) as error:
                if stop.forced:  # perhaps within an optimizer step: nothing is saved
                    raise
                raise save_after_error(trainer, error) from None
            except (RuntimeError, ConnectionError, EOFError) as error:
                # Perhaps within an optimizer step: nothing is saved.
                if explained := explain_worker_failure(error, recipe.data.num_workers):
                    raise explained from error
                raise
        run_on_main(lambda: write_run_report(directory))
    return directory / BEST


def prepare_trainer(
    recipe: Recipe, directory: Path, resume: bool, show_progress: bool, allow_pipe: bool
) -> Trainer:
    """Read the data, build the model, and write the settings to the run directory."""
    with _show_status("reading the data and building the model …", show_progress):
        setup = prepare_run(recipe, allow_pipe)
    info = collect_run_info(recipe, setup)
    run_on_main(lambda: check_same_data(directory / INFO_FILE, info, resume))
    run_on_main(lambda: check_same_models(directory / INFO_FILE, info, resume))
    load_embeddings(recipe, setup, show_progress)
    trainer = Trainer(recipe, setup, directory, resume)
    run_on_main(lambda: save_settings(recipe, directory, info, resume))
    return trainer


def save_after_error(
    trainer: Trainer, error: CutlineError | Interrupted
) -> CutlineError | Interrupted:
    """Save the steps before an error or a stop, and return the error that ends the run.

    Raises:
        CheckpointError: They cannot be saved.
    """
    directory, step = trainer.directory, trainer.state.step
    try:
        # An error before the first step leaves nothing to resume: a corrected recipe can start.
        if step or isinstance(error, Interrupted):
            trainer.save()
    except DivergedError as diverged:
        error = error if isinstance(error, DivergedError) else diverged
    if isinstance(error, DivergedError):
        saved = trainer.saved_step
        state, remedy = "no state was saved before", "start again"
        if saved is not None:
            state, remedy = (
                f"{directory} holds the state after step {saved}",
                "resume with --resume",
            )
        cause = f"{error}; {state}"
        lr = trainer.recipe.optim.lr_names
        return DivergedError(f"{cause}: lower {lr} or set `optim.clip_norm`, and {remedy}")
    if isinstance(error, Interrupted):
        text = f"stopped after step {step}; resume {directory} with --resume"
        return Interrupted(text, error.signal_number)
    return error


def _show_status(text: str, visible: bool) -> AbstractContextManager[object]:
    return Console(stderr=True).status(text) if visible else nullcontext()


def load_embeddings(recipe: Recipe, setup: RunSetup, show_progress: bool) -> None:
    """Give the dataset its cached image embeddings, if the recipe has a folder for them."""
    dataset = setup.dataset
    if recipe.data.cache_embeddings and isinstance(dataset, CaptionDataset):
        progress = progress_bar if show_progress else no_progress
        dataset.embeddings = cache_embeddings(recipe, setup.model, dataset.used_samples(), progress)


def save_settings(recipe: Recipe, directory: Path, info: dict[str, Any], resume: bool) -> None:
    """Save the recipe and `run.json`, and remove the temporary files of a killed run."""
    remove_partial(list_run_files(directory))
    save_run_info(directory / INFO_FILE, info, resume)
    text = yaml.safe_dump(to_dict(recipe), sort_keys=False, allow_unicode=True)
    write_text(directory / RECIPE_FILE, text)


def open_log(trainer: Trainer, show_progress: bool) -> RunLog:
    """Open the log of a run; only that of the main process writes files."""
    path, tensorboard, state = None, None, trainer.state
    step = state.step or state.last_eval_step  # of step 0, there is an evaluation or nothing
    if is_main_process():
        path = trainer.directory / LOG_FILE
        if uses_tensorboard(trainer.recipe):
            tensorboard = TensorBoardLog(trainer.directory, step)
    return RunLog(path, tensorboard, step, trainer.total_steps, show_progress, trainer.task.unit)


def run_steps(trainer: Trainer, log: RunLog, stop: StopSignal) -> None:
    """Train from the trainer's current step to the last one.

    Raises:
        Interrupted: A stop was requested.
        CutlineError: The data cannot be read, or the loss became NaN or infinite.
    """
    # A new run begins with an evaluation; one that was stopped during an evaluation repeats it.
    evaluate_if_due(trainer, log, stop)
    # If the workers were left to the garbage collector, it would wait for them.
    with closing(trainer.read_steps()) as steps:
        take_steps(trainer, log, stop, steps)


def take_steps(
    trainer: Trainer, log: RunLog, stop: StopSignal, steps: Iterator[list[Batch]]
) -> None:
    """Take a step with the batches of each, and save, log and evaluate where that is due."""
    state, recipe = trainer.state, trainer.recipe
    last_save = time.monotonic()
    if world_size() == 1:  # several processes stop together, after a step
        steps = stop.interrupt_waiting(steps)
    for batches in steps:
        save_due = time.monotonic() - last_save > 60 * recipe.save_minutes
        totals = sync_totals(batches, stop.requested, save_due, log.error)
        if totals.stop:  # before the step: the resumed run reads these batches again
            raise Interrupted("", stop.signal_number)
        if totals.save:
            trainer.save()
            last_save = time.monotonic()
        grad_norm = trainer.train_step(batches, totals)
        log.advance(state.step, totals.images, totals.targets)
        log.log_skipped(state.step, totals.skipped)
        if state.step % recipe.log_every == 0 or state.step == trainer.total_steps:
            log.log_training(describe_step(trainer, grad_norm))
            state.reset_sums()
        evaluate_if_due(trainer, log, stop)


def describe_step(trainer: Trainer, grad_norm: float) -> dict[str, Any]:
    """Return a line for the log, with the mean loss since the last one."""
    state, count = trainer.state, max(1, trainer.state.token_count)
    return {
        "step": state.step,
        "epoch": round(state.step / trainer.steps_per_epoch, 3),
        "loss": state.loss_sum / count,
        **{name: value / count for name, value in state.value_sums.items()},
        "lr": trainer.lr,
        "grad_norm": grad_norm,
        "memory_gb": round(peak_memory(trainer.device) / 1e9, 3),
    }
