"""Tables of the evaluations of a run, and of several runs."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from cutline.report import Table, format_setting
from cutline.training.run.directory import list_differences
from cutline.training.run.facts import list_comparable_facts
from cutline.training.run.findings import describe_run_progress
from cutline.training.run.history import LoggedEvaluation, RunHistory
from cutline.training.run.metric_names import EVALUATION_NAMES

_NAMES_OF_RUNS = frozenset({"output"})
"""settings that differ between any two runs"""


def list_evaluations(run: RunHistory) -> Table:
    """Return a table with the numbers of every evaluation."""
    names = _find_names(run.evaluations)
    rows = [
        [each.epoch, each.step, _describe_role(run, each), *_list_values(each, names)]
        for each in run.evaluations
    ]
    return Table(rows, ["epoch", "step", "note", *_title_columns(names)])


def _find_names(evaluations: Sequence[LoggedEvaluation]) -> list[str]:
    """Return what at least one of some evaluations measured, in the order of a table."""
    found = {name for each in evaluations for name in each.metrics}
    return [*filter(found.__contains__, EVALUATION_NAMES), *sorted(found - set(EVALUATION_NAMES))]


def _title_columns(names: Sequence[str]) -> list[str]:
    return [EVALUATION_NAMES.get(name, name) for name in names]


def _list_values(evaluation: LoggedEvaluation, names: Sequence[str]) -> list[float | None]:
    return [evaluation.metrics.get(name) for name in names]


def _describe_role(run: RunHistory, evaluation: LoggedEvaluation) -> str:
    return "best" if evaluation is run.best else "" if evaluation.step else "before training"


def list_best(runs: Mapping[str, RunHistory]) -> Table:
    """Return a table with the best evaluation of each run."""
    best = {name: run.best for name, run in runs.items()}
    names = _find_names([each for each in best.values() if each])
    rows: list[list[object]] = []
    for label, run in runs.items():
        found = best[label]
        values = [found.epoch, found.step, *_list_values(found, names)] if found else []
        missing = [None] * (len(names) + 2 - len(values))
        state = "finished" if run.is_finished else describe_run_progress(run)
        rows.append([label, *values, *missing, state])
    header = ["run", "best epoch", "step", *_title_columns(names), "state"]
    return Table(rows, header, caption="The best checkpoint of each run")


def list_setting_differences(runs: Mapping[str, RunHistory]) -> Table:
    """Return a table of the settings, and other facts, in which runs differ."""
    settings = [run.settings for run in runs.values()]
    names = dict.fromkeys(name for each in settings for name in each)  # in order
    differing = {name for pair in pairwise(settings) for name, _, _ in list_differences(*pair)}
    # One that the first run does not know, or that only it knows, is found in the other direction.
    differing |= {name for name in names if any(name not in each for each in settings)}
    rows = [
        [name, *(format_setting(each.get(name)) for each in settings)]
        for name in names
        if name in differing - _NAMES_OF_RUNS
    ]
    facts = [list_comparable_facts(run) for run in runs.values()]
    for name in facts[0]:
        values = [fact[name] for fact in facts]
        if len(set(values)) > 1:
            rows.append([name, *values])
    return Table(rows, ["setting", *runs])
