"""`--dry-run`: its predictions match what the run then does."""

import math
import mmap
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from cutline.cli.main import run_command
from cutline.config import LoraConfig, Recipe, to_dict
from cutline.device import available_memory, peak_memory
from cutline.errors import ConfigError, CutlineError, DataError
from cutline.training import (
    dry_run,
    inspect_first_batch,
    overfit,
    read_log,
    run_lr_range_test,
    train,
)
from cutline.training.diagnostics import dry_run as dry_run_module
from cutline.training.diagnostics.memory import (
    count_tensor_memory,
    measure_free_disk,
    reset_peak_memory,
)
from cutline.training.diagnostics.session import make_trainer, take_step
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import prepare_run
from cutline.training.tasks import BatchLoss

Build = Callable[..., Recipe]


@pytest.fixture
def scenes_copy(scenes: Path, tmp_path: Path) -> Path:
    """Return a copy of the twenty scenes that a test may change."""
    shutil.copytree(scenes.parent, tmp_path / "scenes")
    return tmp_path / "scenes" / scenes.name


@pytest.mark.parametrize(
    "settings", [{}, {"optim_grad_accum_steps": 2, "optim_ema_decay": 0.9, "optim_warmup_steps": 2}]
)
def test_predictions_match_the_run(recipe: Build, settings: dict, tmp_path: Path) -> None:
    run = recipe(text_dropout=0.1, text_attn_dropout=0.1, optim_epochs=1, **settings)
    result = dry_run(run)
    assert result.exit_code == 0
    assert list(tmp_path.iterdir()) == []  # nothing is written
    best = train(run, show_progress=False)
    lines = [line for line in read_log(best.parent / "log.jsonl") if "lr" in line]
    assert result.loss == lines[0]["loss"]
    assert result.total_steps == lines[-1]["step"]
    assert result.steps_per_epoch == lines[-1]["step"] / lines[-1]["epoch"]
    state = best.parent / "state.safetensors"
    files = [state, state, *best.parent.glob("*/model.safetensors")]  # a new state beside the old
    size = sum(file.stat().st_size for file in files)
    assert result.needed_disk < size < 1.1 * result.needed_disk  # 0.1: headers of small files
    assert (result.num_images, result.num_captions, result.num_val_images) == (20, 20, 4)
    assert result.hours == pytest.approx(result.total_steps * result.seconds_per_step / 3600)
    assert dry_run(run).output_has_run


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optim_ema_decay": 0.9},
        {"lora": LoraConfig(rank=2)},
        {"optim_freeze": ("vision.*",)},
    ],
    ids=str,
)
def test_memory_counted_before_a_step_is_that_after_it(recipe: Build, settings: dict) -> None:
    run = recipe(**settings)
    trainer = make_trainer(run, prepare_run(run))
    memory = count_tensor_memory(trainer)
    take_step(trainer, next(trainer.read_steps()))
    state = [tensor for state in trainer.optimizer.state.values() for tensor in state.values()]
    assert memory.optimizer == sum(tensor.nbytes for tensor in state)
    assert memory.weights == sum(tensor.nbytes for tensor in trainer.model.state_dict().values())
    assert memory.ema == sum(tensor.nbytes for tensor in trainer.ema.values())
    assert 2 * memory.gradients + 4 * len(trainer.optimizer.state) == memory.optimizer
    assert memory.total == memory.weights + memory.gradients + memory.optimizer + memory.ema


def test_missing_and_unreadable_images_are_listed(recipe: Build, scenes_copy: Path) -> None:
    folder = scenes_copy.parent
    (folder / "scene-000003.png").unlink()
    (folder / "scene-000007.png").write_bytes(b"no image")
    result = dry_run(recipe(data_train=str(scenes_copy), optim_batch_size=20))
    assert [Path(path).name for path in result.missing] == ["scene-000003.png"]
    skipped = re.findall(r"scene-\d+", " ".join(result.skipped))
    assert sorted(skipped) == ["scene-000003", "scene-000007"]
    assert result.exit_code == 3
    assert "1 images do not exist; first: " in str(result)
    for path in folder.glob("*.png"):
        path.unlink()
    message = r"none of the images of a step can be read; the first error: .*no such image"
    with pytest.raises(DataError, match=message):
        dry_run(recipe(data_train=str(scenes_copy)))


def test_truncated_captions_are_counted(recipe: Build) -> None:
    run = recipe()
    setup = prepare_run(run)
    num_words = [len(sample.captions[0].split()) for sample in setup.train_samples]
    num_tokens = [len(captions[0][0]) for captions in setup.dataset.captions]
    assert len(set(num_words)) > 1
    short = dry_run(recipe(data_max_words=max(num_words) - 1))
    assert short.num_truncated == num_words.count(max(num_words))
    short = dry_run(recipe(data_max_tokens=max(num_tokens) - 1))
    assert short.num_truncated == num_tokens.count(max(num_tokens))
    assert dry_run(run).num_truncated == 0


def test_the_text_gives_chance_level_and_shortages(recipe: Build) -> None:
    result = dry_run(recipe())
    chance = math.log(result.vocab_size)
    assert result.chance[1] == chance
    expected = (
        f"{result.loss:.3f} per token; chance level is ln({result.vocab_size}) = {chance:.3f}"
    )
    assert f"first loss  {expected}\n" in str(result)
    assert replace(result, available_memory=result.needed_memory - 1).exit_code == 1
    assert replace(result, available_memory=None).exit_code == 0
    short = replace(result, free_disk=result.needed_disk - 1, missing=("a.png",))
    assert short.exit_code == 1
    assert "free some, or choose another `output`" in short.shortages[0]


def test_a_run_that_does_not_fit_is_refused_before_its_first_step(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run_module, "available_memory", lambda device: 1000)
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("a step was taken"))
    message = r"of memory and 1 kB are available: lower `optim.batch_size`"
    with pytest.raises(CutlineError, match=message):
        dry_run(recipe())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            "a step does not fit into memory: lower",
        ),
        (None, "NaN or infinite in the first two steps: lower"),
    ],
)
def test_a_failing_step_raises_a_friendly_error(
    recipe: Build, monkeypatch: pytest.MonkeyPatch, error: Exception | None, message: str
) -> None:
    def compute_loss(self: Trainer, model: torch.nn.Module, batch: object) -> BatchLoss:
        if error:
            raise error
        return BatchLoss(sum(weight.sum() for weight in model.parameters()) * torch.nan)

    monkeypatch.setattr(Trainer, "compute_loss", compute_loss)
    with pytest.raises(CutlineError, match=message):
        dry_run(recipe())


def test_peak_memory_is_measured_from_the_last_reset() -> None:
    cpu, size = torch.device("cpu"), 80_000_000

    def measure() -> int:
        """Return by how much the peak rises while fresh memory of the system is in use."""
        reset_peak_memory(cpu)
        before = peak_memory(cpu)
        with mmap.mmap(-1, size) as memory:
            for page in range(0, size, mmap.PAGESIZE):
                memory[page] = 1
        return peak_memory(cpu) - before

    assert 70_000_000 < measure() < 120_000_000
    assert 70_000_000 < measure() < 120_000_000  # the first peak does not count any more
    assert peak_memory(cpu) < available_memory(cpu)


def test_free_disk_of_a_missing_folder_is_that_of_its_parent(tmp_path: Path) -> None:
    free = measure_free_disk(tmp_path)
    assert measure_free_disk(tmp_path / "not" / "yet") == pytest.approx(free, rel=0.1)


def test_diagnostics_run_in_a_single_process(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    for run_diagnostic in (
        dry_run,
        overfit,
        inspect_first_batch,
        lambda run: run_lr_range_test(run, 1e-3, 1),
    ):
        with pytest.raises(ConfigError, match="start them without torchrun"):
            run_diagnostic(recipe())


def test_the_command_prints_the_result(
    recipe: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_dict(recipe())))
    assert run_command(["train", str(path), "--dry-run"]) == 0
    assert "20 images with 20 captions" in capsys.readouterr().out
    flags = ["--dry-run", "--output", str(tmp_path), "--data.max-words", "3"]
    assert run_command(["train", str(path), *flags]) == 0
    assert "truncate 100.0% of the captions" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--dry-run", "--resume"],
        ["--overfit", "1", "--show-batch"],
        ["--lr-range", "1e-3", "1", "--dry-run"],
    ],
    ids=" ".join,
)
def test_the_command_runs_one_diagnostic_at_a_time(
    recipe: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_dict(recipe())))
    assert run_command(["train", str(path), *flags]) == 2
    assert "cannot be combined: use one at a time" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
