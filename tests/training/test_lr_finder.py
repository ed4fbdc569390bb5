"""`--lr-range`: the loss falls and then diverges; a learning rate below that is suggested."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from html_reader import read_page
from hypothesis import given
from hypothesis import strategies as st

from cutline.cli.main import run_command
from cutline.config import Recipe, to_dict
from cutline.errors import ConfigError, CutlineError, DivergedError
from cutline.training import LrRangeResult, lr_report_path, run_lr_range_test
from cutline.training.diagnostics import lr_finder
from cutline.training.diagnostics.session import take_step
from cutline.training.loop.trainer import Trainer
from cutline.training.tasks import BatchLoss

Build = Callable[..., Recipe]
losses = st.lists(st.floats(0.01, 100), min_size=10, max_size=60)


def make_lrs(count: int) -> tuple[float, ...]:
    return tuple(np.geomspace(1e-6, 1, count).tolist())


def test_the_loss_falls_and_then_diverges(recipe: Build, tmp_path: Path) -> None:
    result = run_lr_range_test(recipe(optim_batch_size=2), 1e-3, 1e4, 30, show_progress=False)
    assert result.diverged
    assert min(result.losses) < 0.8 * result.losses[0]
    assert result.losses[-1] > result.losses[0]
    assert result.steepest is not None
    assert 1e-3 < result.steepest < result.lrs[int(np.argmin(result.losses))] * 2
    assert "the loss falls fastest at lr" in result.suggestion
    assert "it diverges at" in result.suggestion
    assert list(tmp_path.iterdir()) == []  # nothing is written


def test_learning_rates_rise_by_equal_ratios(recipe: Build) -> None:
    result = run_lr_range_test(recipe(), 1e-6, 1e-3, 10, show_progress=False)
    assert result.lrs == pytest.approx(np.geomspace(1e-6, 1e-3, 10))
    assert not result.diverged
    assert len(result.losses) == 10


def test_each_step_uses_its_learning_rate(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def record_step(trainer: Trainer, batches: list, lr: float) -> float:
        loss = take_step(trainer, batches, lr)
        used.append(trainer.optimizer.param_groups[0]["lr"])
        if len(used) == 7:
            raise DivergedError
        return loss

    monkeypatch.setattr(lr_finder, "take_step", record_step)
    result = run_lr_range_test(recipe(optim_warmup_steps=50), 1e-6, 1e-3, 10, show_progress=False)
    assert result.diverged
    assert list(result.lrs) == used[:6]  # the step that diverges has no loss


@given(losses)
def test_smoothed_losses_stay_in_the_range_of_the_losses(values: list[float]) -> None:
    smoothed = LrRangeResult(make_lrs(len(values)), tuple(values)).smoothed
    assert smoothed[0] == pytest.approx(values[0])
    assert min(values) * (1 - 1e-9) <= min(smoothed)
    assert max(smoothed) <= max(values) * (1 + 1e-9)
    constant = LrRangeResult(make_lrs(len(values)), (values[0],) * len(values))
    assert constant.smoothed == pytest.approx([values[0]] * len(values))


def test_the_steepest_fall_is_found() -> None:
    lrs = make_lrs(100)
    step = LrRangeResult(lrs, (5.0,) * 60 + (1.0,) * 40)
    assert step.steepest == lrs[60]
    assert step.tenth_of_minimum == pytest.approx(lrs[-1] / 10)
    valley = (*(5.0 - 0.04 * i for i in range(70)), *[50.0] * 30)
    assert LrRangeResult(lrs, valley, diverged=True).tenth_of_minimum == pytest.approx(lrs[69] / 10)


@given(losses.map(sorted))
def test_nothing_is_suggested_if_the_loss_never_falls(values: list[float]) -> None:
    result = LrRangeResult(make_lrs(len(values)), tuple(values))
    assert result.steepest is None
    assert result.tenth_of_minimum is None
    assert "try lower ones" in result.suggestion


def test_a_first_loss_that_is_nan_is_an_error(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Trainer,
        "compute_loss",
        lambda self, model, batch: BatchLoss(
            sum(weight.sum() for weight in model.parameters()) * torch.nan
        ),
    )
    with pytest.raises(CutlineError, match=r"the first loss, at lr 0\.001, is NaN or infinite"):
        run_lr_range_test(recipe(), 1e-3, 1, show_progress=False)


@pytest.mark.parametrize(
    ("low", "high", "steps"), [(0, 1, 100), (1, 0.1, 100), (1e-3, float("inf"), 100), (1e-3, 1, 9)]
)
def test_an_invalid_range_is_refused(recipe: Build, low: float, high: float, steps: int) -> None:
    with pytest.raises(ConfigError):
        run_lr_range_test(recipe(), low, high, steps)


def test_the_command_prints_a_table_and_writes_a_report_beside_the_run(
    recipe: Build,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_lr_range_test, "__defaults__", (12, False, False))
    run = recipe()
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_dict(run)))
    assert run_command(["train", str(path), "--lr-range", "1e-4", "1e-2"]) == 0
    captured = capsys.readouterr()
    table = [line.split("\t") for line in captured.out.splitlines()]
    assert [float(lr) for lr, _ in table] == pytest.approx(np.geomspace(1e-4, 1e-2, 12), rel=1e-3)
    assert "run-lr-range.html shows the curve" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "run-lr-range.html"]
    assert lr_report_path(run) == tmp_path / "run-lr-range.html"
    texts = read_page(lr_report_path(run)).texts
    assert f"Learning rates for {run.data.train}" in texts
    assert "0.0001 to 0.01" in texts
    assert "optim.batch_size" in texts
