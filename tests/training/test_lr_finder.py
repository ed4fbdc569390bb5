"""`--lr-range`: the loss falls, then explodes, and a rate before that is suggested."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cutline.cli.main import run_command
from cutline.config import Recipe, to_dict
from cutline.errors import ConfigError, CutlineError, DivergedError
from cutline.training import LrRange, lr_range, lr_report_path, write_lr_report
from cutline.training.diagnostics import rates as rates_module
from cutline.training.diagnostics.session import take_step
from cutline.training.loop.trainer import Trainer

Build = Callable[..., Recipe]
losses = st.lists(st.floats(0.01, 100), min_size=10, max_size=60)


def rates(count: int) -> tuple[float, ...]:
    return tuple(np.geomspace(1e-6, 1, count).tolist())


def test_the_loss_falls_and_then_explodes(recipe: Build, tmp_path: Path) -> None:
    found = lr_range(recipe(optim_batch_size=2), 1e-3, 1e4, 30, show_progress=False)
    assert found.exploded
    assert min(found.losses) < 0.8 * found.losses[0]
    assert found.losses[-1] > found.losses[0]
    assert found.steepest is not None
    assert 1e-3 < found.steepest < found.lrs[int(np.argmin(found.losses))] * 2
    assert "the loss falls fastest at lr" in found.suggestion
    assert "it explodes at" in found.suggestion
    assert list(tmp_path.iterdir()) == []


def test_rates_rise_by_equal_ratios_from_low_to_high(recipe: Build) -> None:
    found = lr_range(recipe(), 1e-6, 1e-3, 10, show_progress=False)
    assert found.lrs == pytest.approx(np.geomspace(1e-6, 1e-3, 10))
    assert not found.exploded
    assert len(found.losses) == 10


def test_the_rate_of_a_step_is_the_one_it_is_listed_with(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def recording(trainer: object, batches: list, lr: float) -> float:
        loss = take_step(trainer, batches, lr)  # type: ignore[arg-type]
        used.append(trainer.optimizer.param_groups[0]["lr"])  # type: ignore[attr-defined]
        if len(used) == 7:
            raise DivergedError
        return loss

    monkeypatch.setattr(rates_module, "take_step", recording)
    found = lr_range(recipe(optim_warmup_steps=50), 1e-6, 1e-3, 10, show_progress=False)
    assert found.exploded
    assert list(found.lrs) == used[:6]  # the step that diverged is not listed


@given(losses)
def test_smoothing_stays_within_the_losses_and_keeps_what_is_even(values: list[float]) -> None:
    smoothed = LrRange(rates(len(values)), tuple(values)).smoothed
    assert smoothed[0] == pytest.approx(values[0])
    assert min(values) * (1 - 1e-9) <= min(smoothed)
    assert max(smoothed) <= max(values) * (1 + 1e-9)
    even = LrRange(rates(len(values)), (values[0],) * len(values))
    assert even.smoothed == pytest.approx([values[0]] * len(values))


def test_the_steepest_fall_is_found_where_it_is() -> None:
    lrs = rates(100)
    drop = LrRange(lrs, (5.0,) * 60 + (1.0,) * 40)
    assert drop.steepest == lrs[60]
    assert drop.tenth == pytest.approx(lrs[-1] / 10)
    valley = LrRange(
        lrs, tuple(5.0 - 0.04 * step if step < 70 else 50.0 for step in range(100)), exploded=True
    )
    assert valley.tenth == pytest.approx(lrs[69] / 10)


@given(losses.map(sorted))
def test_where_nothing_falls_nothing_is_suggested(values: list[float]) -> None:
    found = LrRange(rates(len(values)), tuple(values))
    assert found.steepest is None
    assert found.tenth is None
    assert "try lower ones" in found.suggestion


def test_a_loss_that_is_no_number_at_once_is_an_error(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Trainer,
        "loss",
        lambda self, model, batch: sum(weight.sum() for weight in model.parameters()) * torch.nan,
    )
    with pytest.raises(
        CutlineError, match=r"not a number at lr 0\.001, before anything was learned"
    ):
        lr_range(recipe(), 1e-3, 1, show_progress=False)


@pytest.mark.parametrize(
    ("low", "high", "steps"), [(0, 1, 100), (1, 0.1, 100), (1e-3, float("inf"), 100), (1e-3, 1, 9)]
)
def test_what_is_no_range_is_refused(recipe: Build, low: float, high: float, steps: int) -> None:
    with pytest.raises(ConfigError):
        lr_range(recipe(), low, high, steps)


@pytest.mark.parametrize("values", [(1.0,) * 20, tuple(np.geomspace(5, 100, 20)), (3.0,)])
def test_the_report_shows_any_curve(tmp_path: Path, values: tuple[float, ...]) -> None:
    write_lr_report(tmp_path / "x.html", LrRange(rates(len(values)), values))
    assert "<svg" in (tmp_path / "x.html").read_text()


def test_the_command_prints_a_table_and_writes_beside_the_run(
    recipe: Build,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lr_range, "__defaults__", (12, False))
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
