"""What the log of a run says beyond doubt: findings, each with what to do about it."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from cutline.messages import count_noun
from cutline.report import Problem, format_fixed, format_percent
from cutline.training.run.directory import BEST, LAST
from cutline.training.run.history import LoggedEvaluation, RunHistory
from cutline.training.run.metric_names import EVALUATION_NAMES, MAIN_METRICS

MIN_CHANGE = 0.02
"""relative change of a loss or metric that is reported; smaller ones may be noise"""
MIN_LINES = 20
"""lines of the log from which the course of the training loss is judged"""
MAX_SKIPPED = 200
"""images that could not be read and are listed"""


def find_problems(run: RunHistory) -> list[Problem]:
    """Return what the log of a run says beyond doubt."""
    finders = (
        _find_unfinished,
        _find_skipped,
        _find_flat_loss,
        _find_worse_captions,
        _find_overfitting,
        _find_missing_validation,
    )
    return [problem for finder in finders for problem in finder(run)]


def _find_unfinished(run: RunHistory) -> Iterator[Problem]:
    if not run.is_finished:
        yield Problem(
            "note",
            f"The run is not finished: {describe_run_progress(run)}",
            "If it has stopped, `cutline train` with the same recipe and --resume continues it.",
        )


def describe_run_progress(run: RunHistory) -> str:
    """Return how far a run has come."""
    total = f" of {run.total_steps:,}" if run.total_steps else ""
    return f"step {run.last_step:,}{total}"


def _find_skipped(run: RunHistory) -> Iterator[Problem]:
    if skipped := run.skipped:
        yield Problem(
            "warning",
            f"{count_noun(len(skipped), 'image')} could not be read",
            "They are left out. Repair or replace the files, or remove their captions.",
            [("", message) for message in skipped[:MAX_SKIPPED]],
            num_rows=len(skipped),
        )


def _find_flat_loss(run: RunHistory) -> Iterator[Problem]:
    losses = [loss for _, loss in run.collect_points("loss")]
    if not run.is_finished or len(losses) < MIN_LINES:
        return
    count = len(losses) // 5
    first, last = fmean(losses[:count]), fmean(losses[-count:])
    if last >= first:
        yield Problem(
            "warning",
            "The training loss has not fallen: "
            f"{first:.3f} in the first fifth of the run, {last:.3f} in the last",
            "The learning rate may be too low or too high: `cutline train --lr-range` finds one. "
            "`--overfit` tests whether the model can learn these captions at all.",
        )


def _find_worse_captions(run: RunHistory) -> Iterator[Problem]:
    if not (run.initial and run.best):
        return
    pairs = _pair_metrics(run.initial, run.best)
    if pairs and all(_is_worse(*pair) for pair in pairs):
        changes = ", ".join(
            f"{EVALUATION_NAMES[name]} {format_fixed(after, 3)}, {format_fixed(before, 3)} before"
            for name, before, after in pairs
        )
        yield Problem(
            "warning",
            f"Even the best checkpoint is worse than the model before training: {changes}",
            "Keep using the model that training started from. A lower `optim.lr`, or LoRA, changes "
            "it less; `cutline check` looks for errors in the data.",
        )


def _pair_metrics(
    before: LoggedEvaluation, after: LoggedEvaluation
) -> list[tuple[str, float, float]]:
    """Return what chooses the best checkpoint, metrics or loss: names, values before and after."""
    names = [name for name in before.metrics if name in after.metrics]
    chosen = [name for name in names if name in MAIN_METRICS]
    chosen = chosen or [name for name in names if name == "val_loss"]
    return [(name, before.metrics[name], after.metrics[name]) for name in chosen]


def _is_worse(name: str, before: float, after: float) -> bool:
    if name == "val_loss":
        return after > (1 + MIN_CHANGE) * before
    return after < (1 - MIN_CHANGE) * before


def _find_overfitting(run: RunHistory) -> Iterator[Problem]:
    if run.settings["task"] == "scst":  # SCST does not minimize the LM loss
        return
    measured = [each for each in run.trained if "val_loss" in each.metrics]
    losses = [(each, each.metrics["val_loss"]) for each in measured]
    if not losses:
        return
    index = min(range(len(losses)), key=lambda i: losses[i][1])
    (lowest, loss), later = losses[index], losses[index + 1 :]
    if len(later) < 2 or not all(value > (1 + MIN_CHANGE) * loss for _, value in later[-2:]):
        return
    last = later[-1][1]
    yield Problem(
        "warning",
        f"The validation loss has risen since {lowest.moment}: from {loss:.3f} to {last:.3f} "
        f"(+{format_percent(last / loss - 1)})",
        f"From there on, the model has overfitted: it learns its training captions, and gets less "
        f"sure of others. {_advise_checkpoint(run, lowest)} More data, fewer epochs, a lower "
        "`optim.lr`, LoRA or more dropout lessen this.",
    )


def _advise_checkpoint(run: RunHistory, lowest: LoggedEvaluation) -> str:
    """Return which checkpoint the best one is, if that is not the one with the lowest loss."""
    if not run.best or run.best is lowest:
        return f"`{BEST}/` has the weights of {lowest.moment}, `{LAST}/` later ones."
    return (
        f"`{BEST}/` has the weights of {run.best.moment}, which were chosen by metrics: these may "
        "rise for longer."
    )


def _find_missing_validation(run: RunHistory) -> Iterator[Problem]:
    if run.starts and not run.starts[-1]["data"]["val"]["num_images"]:
        yield Problem(
            "note",
            "There are no validation images",
            f"`{BEST}/` has the lowest training loss. `data.val` or `data.val_fraction` lets "
            "metrics of images that the model does not train on choose it.",
        )


def compare_validation_data(runs: Sequence[RunHistory]) -> list[Problem]:
    """Return a finding if several runs were validated on different data."""
    fingerprints = {run.starts[-1]["data"]["val"]["fingerprint"] for run in runs if run.starts}
    if len(fingerprints) < 2:
        return []
    return [
        Problem(
            "warning",
            "The runs have different validation data",
            "Their metrics and validation losses are not comparable. `cutline evaluate` measures "
            "all of them on the same data.",
        )
    ]
