"""`--overfit`: the model reproduces the captions of a few batches, or the result says why not."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from cutline.cli.main import run_command
from cutline.config import InitConfig, LoraConfig, Recipe, to_dict
from cutline.errors import ConfigError, CutlineError
from cutline.training import overfit
from cutline.training.diagnostics import overfit as overfit_module
from cutline.training.diagnostics.overfit import make_overfit_recipe
from cutline.training.diagnostics.overfit_result import OverfitSample
from cutline.training.loop.trainer import Trainer
from cutline.training.tasks import BatchLoss

Build = Callable[..., Recipe]
QUICK = {"optim_batch_size": 3, "optim_lr": 1e-2, "optim_clip_norm": 1.0}


@pytest.fixture
def rows(scenes: Path, tmp_path: Path) -> tuple[list[dict], Callable[[list[dict]], str]]:
    """Return the rows of the scenes, and a function that writes rows beside copied images."""
    shutil.copytree(scenes.parent, tmp_path / "scenes")
    data = tmp_path / "scenes" / scenes.name

    def write(rows: list[dict]) -> str:
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(data)

    return [json.loads(line) for line in scenes.read_text().splitlines()], write


def test_a_batch_is_reproduced_word_for_word_and_nothing_is_written(
    recipe: Build, rows: tuple, tmp_path: Path
) -> None:
    """Dropout, label smoothing, augmentation, EMA and second captions would prevent it."""
    old, write = rows
    data = write([{**row, "captions": [*row["captions"], "something else"]} for row in old])
    regularization = {
        "text_dropout": 0.5,
        "text_attn_dropout": 0.5,
        "model_label_smoothing": 0.3,
        "optim_ema_decay": 0.99,
        "optim_warmup_steps": 50,
    }
    run = recipe(data_train=data, data_captions_per_image=2, **QUICK, **regularization)
    before = sorted(tmp_path.rglob("*"))
    result = overfit(run, 1, show_progress=False)
    assert sorted(tmp_path.rglob("*")) == before
    captions = {row["file_name"]: row["captions"][0] for row in old}
    assert len(result.samples) == 3
    for sample in result.samples:
        assert sample.caption == sample.reference == captions[Path(sample.image).name]
    assert (result.success, result.exit_code) == (True, 0)
    assert result.last_loss < 0.05 < 3 < result.first_loss
    assert result.steps < 300
    assert "3 of 3 captions equal their references: the model can overfit" in str(result)
    assert replace(result, skipped=("a.png: no such image",)).exit_code == 3


def test_the_first_batches_are_used(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfit_module, "MAX_STEPS", 4)
    run = recipe(optim_batch_size=8)
    first, every = (overfit(run, count, show_progress=False) for count in (1, 99))
    assert len(first.samples) == 8
    assert len(every.samples) == 16  # of 20; the last incomplete batch is dropped
    assert first.samples[0].image == every.samples[0].image
    assert every.steps == 4


def test_a_failure_comes_with_advice(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfit_module, "MAX_STEPS", 2)
    result = overfit(recipe(), 1, show_progress=False)
    assert result.exit_code == 1
    assert "in 2 steps" in result.summary
    assert "try another `optim.lr`" in result.summary
    assert "check that `model.prompt`" in replace(result, last_loss=0.01).summary


def test_conflicting_captions_and_unreadable_images_are_listed(
    recipe: Build, rows: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfit_module, "MAX_STEPS", 2)
    old, write = rows
    folder = Path(write(old[:3])).parent
    shutil.copy(folder / "scene-000000.png", folder / "scene-000001.png")
    (folder / "scene-000002.png").write_bytes(b"no image")
    result = overfit(recipe(data_train=str(folder)), 1, show_progress=False)
    references = [(Path(sample.image).name, sample.reference) for sample in result.samples]
    assert sorted(references) == [(row["file_name"], row["captions"][0]) for row in old[:2]]
    assert len(result.skipped) == 1
    assert "scene-000002.png" in str(result)
    assert "are the same image with different captions" in result.summary
    assert result.exit_code == 1


def test_a_nan_loss_is_an_error(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Trainer,
        "compute_loss",
        lambda self, model, batch: BatchLoss(
            sum(weight.sum() for weight in model.parameters()) * torch.nan
        ),
    )
    with pytest.raises(CutlineError, match=r"NaN or infinite after 0 steps at lr 0\.001: lower"):
        overfit(recipe(), 1, show_progress=False)


@pytest.mark.parametrize(
    ("init", "lr", "used"),
    [
        (InitConfig(), 1e-5, 3e-4),
        (InitConfig(), 2e-3, 2e-3),
        (InitConfig(text="bert.safetensors"), 1e-5, 1e-4),
        (InitConfig(vision="vit.pth"), 5e-4, 5e-4),
    ],
)
def test_the_learning_rate_is_raised_if_it_is_too_low(
    recipe: Build, init: InitConfig, lr: float, used: float
) -> None:
    lora = LoraConfig(rank=2, dropout=0.5)
    run = recipe(init=init, optim_lr=lr, optim_weight_decay=0.1, lora=lora)
    run = make_overfit_recipe(run)
    assert run.optim.lr == used
    assert (run.optim.weight_decay, run.lora) == (0.0, LoraConfig(rank=2))


def test_the_command_prints_captions_and_summary(
    recipe: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_dict(recipe(**QUICK))))
    assert run_command(["train", str(path), "--overfit", "1", "--optim.batch-size", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 captions equal their references" in out
    assert out.count("\n  reference  ") == out.count("\n  generated  ") == 1
    for count in ("-1", "0"):
        assert run_command(["train", str(path), "--overfit", count]) == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="must be at least 1"):
        overfit(recipe(), 0)


def test_a_caption_is_exact_or_not() -> None:
    assert OverfitSample("a.png", "a cat", "a cat").exact
    assert not OverfitSample("a.png", "a cat", "a cats").exact
