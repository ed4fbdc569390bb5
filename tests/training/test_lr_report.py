"""The report of `--lr-range`: the suggestion is on the curve, and every step in the table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cutline.report import About, Figures, LineChart, Problems, Table, Text
from cutline.training import LrRangeResult, write_lr_report
from cutline.training.diagnostics.lr_finder import DIVERGENCE_RATIO
from cutline.training.diagnostics.lr_report import make_lr_report


def make_result(skipped: tuple[str, ...] = ()) -> LrRangeResult:
    """Return a loss that falls at 1e-3 and diverges above 0.1."""
    lrs = np.geomspace(1e-6, 1, 80)
    logs = np.log10(lrs)
    losses = 5 - 3 / (1 + np.exp(-3 * (logs + 3))) + 64 * np.maximum(0, logs + 1.2) ** 2
    return LrRangeResult(tuple(lrs.tolist()), tuple(losses.tolist()), True, skipped)


def write_example_report(path: Path) -> None:
    """Write the report of a test that was not run."""
    skipped = ("photos/1.jpg: no such image; check the path",)
    about = About("photos", "runs/my-run", {"Steps": "80"}, {"optim.batch_size": 32})
    write_lr_report(path, make_result(skipped), about, 1e-4)


def test_the_suggestion_and_the_recipe_are_marked_on_the_smoothed_curve() -> None:
    result = make_result()
    report = make_lr_report(result, About("photos"), 1e-4)
    assert [section.heading for section in report.sections] == ["Suggestion", "Steps"]
    figures, _, smoothed, raw = report.sections[0].blocks
    assert isinstance(figures, Figures)
    assert isinstance(smoothed, LineChart)
    assert isinstance(raw, LineChart)
    assert smoothed.is_log
    rates = [result.steepest, result.tenth_of_minimum, 1e-4]
    assert [marker.x for marker in smoothed.markers] == rates
    assert [number for number, _ in figures.figures] == [f"{rate:.2g}" for rate in rates[:2]]
    for marker in smoothed.markers:
        index = int(np.searchsorted(result.lrs, marker.x))
        low, high = sorted(result.smoothed[index - 1 : index + 1])
        assert low <= marker.y <= high
        assert f"{marker.x:.2g}" in marker.label
    highest = DIVERGENCE_RATIO * min(result.smoothed)
    assert max(y for _, y in raw.series[0].points) == highest < max(result.losses)


def test_rewards_make_negative_losses_that_are_clipped_as_others_are() -> None:
    """They fall from 0 to -2, and then rise far above that."""
    losses = (*np.linspace(0, -2, 60), *np.linspace(-2, 600, 20))
    result = LrRangeResult(tuple(np.geomspace(1e-6, 1, 80)), losses, True)
    raw = make_lr_report(result, About()).sections[0].blocks[-1]
    assert isinstance(raw, LineChart)
    points = [y for _, y in raw.series[0].points]
    assert points[:60] == list(losses[:60])
    lowest = min(result.smoothed)
    assert max(points) == pytest.approx(lowest + 3 * abs(lowest))
    assert max(points) > 0


def test_both_learning_rates_of_muon_are_suggested() -> None:
    result = replace(make_result(), muon_ratio=20.0)
    assert result.steepest is not None
    assert result.tenth_of_minimum is not None
    for lr in (result.steepest, result.tenth_of_minimum):
        assert f"{lr:.2g} (muon_lr {20 * lr:.2g})" in result.suggestion
    text = make_lr_report(result, About()).sections[0].blocks[1]
    assert isinstance(text, Text)
    assert result.suggestion[1:] in text.text
    assert "an `optim.muon_lr` that is 20 times as high" in text.text


def test_learning_rates_outside_the_range_are_not_marked() -> None:
    result = make_result()
    report = make_lr_report(result, About(), 10.0)
    chart = report.sections[0].blocks[2]
    assert isinstance(chart, LineChart)
    assert not any("recipe" in marker.label for marker in chart.markers)
    short = LrRangeResult(result.lrs[50:70], result.losses[50:70])
    assert short.tenth_of_minimum is not None
    assert short.tenth_of_minimum < short.lrs[0]
    chart = make_lr_report(short, About()).sections[0].blocks[2]
    assert isinstance(chart, LineChart)
    assert [marker.x for marker in chart.markers] == [short.steepest]


def test_the_table_has_every_step() -> None:
    result = make_result()
    [table] = make_lr_report(result, About()).sections[-1].blocks
    assert isinstance(table, Table)
    steps, lrs, losses, smoothed = zip(*table.rows, strict=True)
    assert steps == tuple(range(1, 81))
    assert [float(str(lr)) for lr in lrs] == pytest.approx(result.lrs, rel=5e-3)
    assert (losses, list(smoothed)) == (result.losses, result.smoothed)


def test_what_went_wrong_comes_first() -> None:
    rising = LrRangeResult(make_result().lrs, tuple(np.linspace(5, 100, 80).tolist()))
    for result, title in (
        (rising, "The loss does not fall"),
        (make_result(("a.jpg: truncated", "a.jpg: truncated")), "1 image could not be read"),
    ):
        section = make_lr_report(result, About(), 1e-4).sections[0]
        [problems] = section.blocks
        assert isinstance(problems, Problems)
        assert [problem.title for problem in problems.problems] == [title]
        assert problems.problems[0].severity == "warning"


@pytest.mark.parametrize("values", [(1.0,) * 20, tuple(np.geomspace(5, 100, 20)), (3.0,)])
def test_the_report_shows_any_curve(tmp_path: Path, values: tuple[float, ...]) -> None:
    lrs = tuple(np.geomspace(1e-6, 1, len(values)).tolist())
    write_lr_report(tmp_path / "x.html", LrRangeResult(lrs, values), lr=lrs[0])
    assert "<svg" in (tmp_path / "x.html").read_text(encoding="utf-8")
