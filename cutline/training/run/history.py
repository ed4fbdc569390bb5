"""What a run directory tells about its run: settings, starts, losses, evaluations and captions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from cutline.config import Recipe, to_dict
from cutline.config.yaml import read_yaml
from cutline.errors import ConfigError
from cutline.report import flatten_settings
from cutline.training.run.directory import INFO_FILE, LOCK_FILE, LOG_FILE, RECIPE_FILE
from cutline.training.run.info import read_run_info
from cutline.training.run.log import LogLine, read_log

RUN_FILES = (LOG_FILE, RECIPE_FILE, INFO_FILE)
"""files that the history is read from, one of which makes a folder a run directory"""
MAX_TRAINING_LINES = 10_000
"""lines about training that are read of a longer log; a chart has some hundred points"""
SPEED_LINES = 10
"""last lines of the log whose speed is that of the remaining steps"""
_SHARED = ("step", "epoch", "best")  # keys of an evaluation that are no metrics


@dataclass(frozen=True)
class LoggedEvaluation:
    """An evaluation in the log of a run."""

    step: int
    epoch: int
    """0 for that of the initial weights"""
    metrics: Mapping[str, float]
    """finite values by their keys in the log, with `train_loss` and `val_loss`"""
    samples: Sequence[LogLine]
    """validation images with their captions"""
    was_best: bool
    """whether it was the best so far"""

    @property
    def moment(self) -> str:
        """Return when it took place."""
        return f"epoch {self.epoch}" if self.step else "before training"


@dataclass(frozen=True)
class RunHistory:
    """A run, as far as it has come; a new one may have no lines in its log yet."""

    directory: Path
    lines: Sequence[LogLine]
    """the log"""
    starts: Sequence[LogLine]
    """`run.json`: every start of the run, oldest first"""
    settings: Mapping[str, Any]
    """all settings by dotted name; those that an old recipe lacks have their defaults"""

    @cached_property
    def evaluations(self) -> list[LoggedEvaluation]:
        """Return all evaluations, oldest first."""
        return [_read_evaluation(line) for line in self.lines if {"best", "epoch"} <= line.keys()]

    @property
    def initial(self) -> LoggedEvaluation | None:
        """Return the evaluation of the initial weights, if there was one."""
        return next((each for each in self.evaluations if not each.step), None)

    @property
    def trained(self) -> list[LoggedEvaluation]:
        """Return the evaluations after the first step."""
        return [each for each in self.evaluations if each.step]

    @property
    def best(self) -> LoggedEvaluation | None:
        """Return the evaluation of the best checkpoint."""
        return next((each for each in reversed(self.evaluations) if each.was_best), None)

    @property
    def skipped(self) -> list[str]:
        """Return a message for each image that could not be read."""
        return [str(line["skipped"]) for line in self.lines if "skipped" in line]

    @property
    def last_step(self) -> int:
        """Return the last step in the log."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def steps_per_epoch(self) -> int | None:
        """Return the steps of an epoch; None if the files of an old run do not tell yet."""
        if self.starts and (steps := self.starts[-1].get("steps_per_epoch")):
            return int(steps)
        if self.settings["optim.max_steps"]:  # which may end within an epoch
            return None
        return next((each.step // each.epoch for each in self.trained if each.epoch), None)

    @property
    def total_steps(self) -> int | None:
        """Return the steps of the whole run; None if the files of an old run do not tell yet."""
        if max_steps := self.settings["optim.max_steps"]:
            return int(max_steps)
        steps = self.steps_per_epoch
        return steps * self.settings["optim.epochs"] if steps else None

    @property
    def is_finished(self) -> bool:
        """Return whether the last step is done, and its evaluation."""
        total, trained = self.total_steps, self.trained
        return bool(total and trained) and trained[-1].step >= (total or 0)

    @property
    def hours_left(self) -> float | None:
        """Return how long the remaining steps take at the last speed; None if it is not known."""
        speeds = [value for _, value in self.collect_points("pictures_per_second")][-SPEED_LINES:]
        speed = median(speeds) if speeds else 0
        if self.is_finished or not (self.total_steps and self.starts and speed):
            return None
        examples = self.settings["optim.batch_size"] * self.settings["optim.grad_accum_steps"]
        steps = (self.total_steps - self.last_step) / speed
        return float(steps * examples * self.starts[-1]["world_size"] / 3600)

    def collect_points(self, name: str) -> list[tuple[int, float]]:
        """Return the steps at which a value of training was logged, each with the value."""
        return [
            (line["step"], line[name])
            for line in self.lines
            if "best" not in line and isinstance(line.get(name), int | float)
        ]

    def collect_metric(self, name: str) -> list[tuple[int, float]]:
        """Return the steps of the evaluations that have a metric, each with its value."""
        return [
            (each.step, each.metrics[name]) for each in self.evaluations if name in each.metrics
        ]


def read_history(directory: Path) -> RunHistory:
    """Read the files of a run, which may be training at this moment.

    Raises:
        ConfigError: The recipe or `run.json` cannot be read.
    """
    log, recipe = directory / LOG_FILE, directory / RECIPE_FILE
    lines = read_log(log, MAX_TRAINING_LINES) if log.exists() else []
    settings = flatten_settings(to_dict(Recipe()))
    if recipe.exists():
        # Not as a `Recipe`: old runs have settings that new versions lack.
        settings |= flatten_settings(read_yaml(recipe) or {})
    return RunHistory(
        directory,
        [line for line in lines if isinstance(line.get("step"), int)],
        read_run_info(directory / INFO_FILE),
        settings,
    )


def check_is_run(directory: Path) -> None:
    """Raise ConfigError unless a folder is a run directory."""
    # A run that reads its data has only a lock.
    if not any((directory / name).exists() for name in (*RUN_FILES, LOCK_FILE)):
        raise ConfigError(
            f"{directory}: holds no run (there is no {LOG_FILE}); name the `output` of a recipe, "
            "such as runs/captioner"
        )


def _read_evaluation(line: LogLine) -> LoggedEvaluation:
    metrics = {
        name: float(value)
        for name, value in line.items()
        if name not in _SHARED and isinstance(value, int | float) and math.isfinite(value)
    }
    samples = line.get("samples", ())
    return LoggedEvaluation(line["step"], line["epoch"], metrics, samples, bool(line["best"]))
