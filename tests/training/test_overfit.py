"""`--overfit`: a few batches learned by heart, or a reason why not."""

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
from cutline.training.diagnostics import recital
from cutline.training.diagnostics.overfit import OverfitSample, overfit_recipe
from cutline.training.loop.trainer import Trainer

Build = Callable[..., Recipe]
QUICK = {"optim_batch_size": 3, "optim_lr": 1e-2, "optim_clip_norm": 1.0}


@pytest.fixture
def rows(scenes: Path, tmp_path: Path) -> tuple[list[dict], Callable[[list[dict]], str]]:
    """The rows of the scenes, and what writes others in a folder with the images."""
    shutil.copytree(scenes.parent, tmp_path / "scenes")
    data = tmp_path / "scenes" / scenes.name

    def write(changed: list[dict]) -> str:
        data.write_text("".join(json.dumps(row) + "\n" for row in changed))
        return str(data)

    return [json.loads(line) for line in scenes.read_text().splitlines()], write


def test_a_batch_is_learned_word_for_word_and_leaves_no_trace(
    recipe: Build, rows: tuple, tmp_path: Path
) -> None:
    """In spite of dropout, smoothing, augmentation, an average and a second, contradictory caption, all of which are left out."""
    old, write = rows
    data = write([{**row, "captions": [*row["captions"], "something else"]} for row in old])
    disturbing = {
        "optim_dropout": 0.5,
        "optim_label_smoothing": 0.3,
        "optim_ema_decay": 0.99,
        "optim_warmup_steps": 50,
    }
    before = sorted(tmp_path.rglob("*"))
    found = overfit(
        recipe(data_train=data, data_captions_per_image=2, **QUICK, **disturbing),
        1,
        show_progress=False,
    )
    assert sorted(tmp_path.rglob("*")) == before
    captions = {row["file_name"]: row["captions"][0] for row in old}
    assert len(found.samples) == 3
    for one in found.samples:
        assert one.caption == one.reference == captions[Path(one.image).name]
    assert (found.learned, found.exit_code) == (True, 0)
    assert found.last_loss < 0.05 < 3 < found.first_loss
    assert found.steps < 300
    assert (
        "3 of 3 captions are word for word those of the data: model, loss and data fit together"
        in str(found)
    )
    assert replace(found, skipped=("a.png: no such image",)).exit_code == 3


def test_the_batches_are_the_first_and_no_more_than_there_are(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recital, "MAX_STEPS", 4)
    few, all_ = (
        overfit(recipe(optim_batch_size=8), count, show_progress=False) for count in (1, 99)
    )
    assert [len(few.samples), len(all_.samples)] == [
        8,
        16,
    ]  # of 20, the last incomplete batch is dropped
    assert few.samples[0].image == all_.samples[0].image
    assert all_.steps == 4


def test_what_cannot_be_learned_is_said_with_hints(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recital, "MAX_STEPS", 2)
    found = overfit(recipe(), 1, show_progress=False)
    assert found.exit_code == 1
    assert "in 2 steps" in found.verdict
    assert "try another `optim.lr`" in found.verdict
    assert "see whether the prompt" in replace(found, last_loss=0.01).verdict


def test_contradictory_captions_and_broken_pictures_are_named(
    recipe: Build, rows: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recital, "MAX_STEPS", 2)
    old, write = rows
    folder = Path(write(old[:3])).parent
    shutil.copy(folder / "scene-000000.png", folder / "scene-000001.png")
    (folder / "scene-000002.png").write_bytes(b"no image")
    found = overfit(recipe(data_train=str(folder)), 1, show_progress=False)
    assert sorted(Path(one.image).name for one in found.samples) == [
        "scene-000000.png",
        "scene-000001.png",
    ]
    assert {Path(one.image).name: one.reference for one in found.samples} == {
        row["file_name"]: row["captions"][0] for row in old[:2]
    }
    assert len(found.skipped) == 1
    assert "scene-000002.png" in str(found)
    assert "are the same image with different captions" in found.verdict
    assert found.exit_code == 1


def test_a_loss_that_is_no_number_ends_it(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Trainer,
        "loss",
        lambda self, model, batch: sum(weight.sum() for weight in model.parameters()) * torch.nan,
    )
    with pytest.raises(CutlineError, match=r"not a number after 0 steps at lr 0\.001: lower"):
        overfit(recipe(), 1, show_progress=False)


@pytest.mark.parametrize(
    ("start", "lr", "used"),
    [
        (InitConfig(), 1e-5, 3e-4),
        (InitConfig(), 2e-3, 2e-3),
        (InitConfig(text="bert.safetensors"), 1e-5, 1e-4),
        (InitConfig(vision="vit.pth"), 5e-4, 5e-4),
    ],
)
def test_the_learning_rate_is_the_recipes_unless_it_is_tiny(
    recipe: Build, start: InitConfig, lr: float, used: float
) -> None:
    run = overfit_recipe(
        recipe(
            start=start,
            optim_lr=lr,
            optim_weight_decay=0.1,
            optim_lora=LoraConfig(rank=2, dropout=0.5),
        )
    )
    assert run.optim.lr == used
    assert (run.optim.weight_decay, run.optim.lora) == (0.0, LoraConfig(rank=2))


def test_the_command_prints_captions_and_verdict(
    recipe: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_dict(recipe(**QUICK))))
    assert run_command(["train", str(path), "--overfit", "1", "--optim.batch-size", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 captions are word for word" in out
    assert out.count("\n  data   ") == out.count("\n  model  ") == 1
    for count in ("-1", "0"):
        assert run_command(["train", str(path), "--overfit", count]) == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="is below 1"):
        overfit(recipe(), 0)


def test_a_caption_is_exact_or_not() -> None:
    assert OverfitSample("a.png", "a cat", "a cat").exact
    assert not OverfitSample("a.png", "a cat", "a cats").exact
