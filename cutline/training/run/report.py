"""`report.html` of a run: findings, curves, evaluations, and captions of validation images."""

from pathlib import Path

from cutline.messages import format_hours
from cutline.report import (
    Figures,
    Problems,
    Report,
    Section,
    format_fixed,
    read_refresh,
    write_report,
)
from cutline.training.run.charts import RunCharts
from cutline.training.run.directory import REPORT_FILE
from cutline.training.run.facts import describe_run
from cutline.training.run.findings import describe_run_progress, find_problems
from cutline.training.run.history import LoggedEvaluation, RunHistory, read_history
from cutline.training.run.metric_names import EVALUATION_NAMES, MAIN_METRICS
from cutline.training.run.samples import show_course
from cutline.training.run.tables import list_evaluations


def write_run_report(directory: Path) -> None:
    """Write `report.html` of the run in `directory`.

    A page that `cutline report --watch` keeps up to date goes on loading itself again until the run
    is finished.
    """
    run, path = read_history(directory), directory / REPORT_FILE
    refresh = 0.0 if run.is_finished else read_refresh(path)
    write_report(path, make_run_report(run, refresh))


def make_run_report(run: RunHistory, refresh: float = 0) -> Report:
    """Return the report of a run.

    Args:
        run: The run.
        refresh: Seconds after which the page loads itself again (0: never).
    """
    results, details = RunCharts({"": run}).make()
    problems, gallery = find_problems(run), show_course(run)
    sections = [Section("Findings", [Problems(problems)])] if problems else []
    sections.append(Section("Results", [Figures(_list_figures(run)), *results]))
    if run.evaluations:
        sections.append(Section("Evaluations", [list_evaluations(run)]))
    if gallery:
        sections.append(Section("Images", [gallery]))
    if details:
        sections.append(Section("Training", details))
    return Report(
        f"Training run {_name_run(run.directory)}",
        describe_run(run),
        sections,
        _introduce(run),
        refresh,
    )


def _name_run(directory: Path) -> str:
    """Return the path of a run if it is a short one, else the name of the directory."""
    is_short = directory.name and not directory.is_absolute() and ".." not in directory.parts
    return directory.as_posix() if is_short else directory.resolve().name


def _introduce(run: RunHistory) -> str:
    """Return which checkpoint is the best, and how far the run has come."""
    state = (
        "The run is finished" if run.is_finished else f"The run is at {describe_run_progress(run)}"
    )
    if not run.best:
        return f"{state}. No checkpoint has been evaluated yet."
    return f"{state}. The best checkpoint is that of {run.best.moment}, by {_name_criterion(run)}."


def _name_criterion(run: RunHistory) -> str:
    """Return what chooses the best checkpoint."""
    metrics = run.best.metrics if run.best else {}
    if run.settings["eval.select_by"] == "loss" and "val_loss" in metrics:
        return "validation loss"
    captions = "CIDEr + BLEU-4" if "cider" in metrics else ""
    if "recall_mean" in metrics:
        return f"mean recall × ({captions})" if captions else "mean recall"
    return captions or "training loss"


def _list_figures(run: RunHistory) -> list[tuple[str, str]]:
    """Return the most important numbers, each with its label."""
    figures = _describe_best(run, run.best) if run.best else []
    total = f" of {run.total_steps:,}" if run.total_steps else ""
    figures.append((f"{run.last_step:,}{total}", "steps"))
    if hours := run.hours_left:
        figures.append((format_hours(hours), "left at the last speed, without evaluations"))
    return figures


def _describe_best(run: RunHistory, best: LoggedEvaluation) -> list[tuple[str, str]]:
    """Return the numbers of the best checkpoint, beside those from before training."""
    names = [name for name in (*MAIN_METRICS, "val_loss") if name in best.metrics]
    figures = []
    if not names and "train_loss" in best.metrics:
        names = ["train_loss"]
    for name in names:
        label = f"{EVALUATION_NAMES[name]}, {best.moment}"
        if run.initial and name in run.initial.metrics:
            label += f" ({format_fixed(run.initial.metrics[name], 3)} before training)"
        figures.append((format_fixed(best.metrics[name], 3), label))
    return figures
