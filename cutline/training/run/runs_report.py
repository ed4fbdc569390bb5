"""A report of several runs: their curves in the same charts, and how their settings differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cutline.report import About, Problem, Problems, Report, Section, Text
from cutline.training.run.charts import RunCharts
from cutline.training.run.facts import list_changed_settings
from cutline.training.run.findings import compare_validation_data, find_problems
from cutline.training.run.history import RunHistory
from cutline.training.run.samples import compare_samples
from cutline.training.run.tables import list_best, list_setting_differences

MAX_NAMES = 4
"""runs that the title names"""


def make_runs_report(runs: Sequence[RunHistory], refresh: float = 0) -> Report:
    """Return a report that compares several runs.

    Args:
        runs: At least two runs in different directories.
        refresh: Seconds after which the page loads itself again (0: never).
    """
    names = shorten_paths([run.directory for run in runs])
    named = dict(zip(names, runs, strict=True))
    (results, details), differences = RunCharts(named).make(), list_setting_differences(named)
    problems, gallery = _find_problems(named), compare_samples(named)
    same = Text("All settings are the same.")
    sections = [
        *([Section("Findings", [Problems(problems)])] if problems else []),
        Section("Results", [list_best(named), *results]),
        Section("Settings that differ", [differences if differences.rows else same]),
        *([Section("Images", [gallery])] if gallery else []),
    ]
    if details:
        sections.append(Section("Training", details))
    return Report(_make_title(names), _describe_runs(runs), sections, refresh=refresh)


def _make_title(names: Sequence[str]) -> str:
    if len(names) > MAX_NAMES:
        return f"{len(names)} training runs"
    return f"Training runs {', '.join(names[:-1])} and {names[-1]}"


def _find_problems(runs: Mapping[str, RunHistory]) -> list[Problem]:
    """Return findings about all runs, and the warnings about each."""
    problems = compare_validation_data(list(runs.values()))
    for name, run in runs.items():
        problems += [
            replace(problem, title=f"{name}: {problem.title}")
            for problem in find_problems(run)
            if problem.severity != "note"  # the table tells which runs are not finished
        ]
    return problems


def _describe_runs(runs: Sequence[RunHistory]) -> About:
    """Return what all of the runs have in common."""
    first, *others = (run.settings for run in runs)
    settings = {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in others)
    }
    return About(
        data=str(settings.get("data.train", "")),
        others={"Runs": ", ".join(str(run.directory) for run in runs)},
        settings=settings,
        changed=[name for name in list_changed_settings(runs[0].settings) if name in settings],
    )


def shorten_paths(paths: Sequence[Path]) -> list[str]:
    """Return names of different folders, as short as they can be told apart.

    Folders at the end that all paths have in common are left out, such as `training` of
    `a/training` and `b/training`.
    """
    parts = [path.resolve().parts[1:] for path in paths]  # without the root
    while len({each[-1] for each in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [each[:-1] for each in parts]
    length = 1
    while len({each[-length:] for each in parts}) < len(parts):
        length += 1
    return [str(Path(*each[-length:])) for each in parts]
