"""`--dry-run`: what it foretells is what the run then does."""

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
from cutline.device import peak_memory
from cutline.errors import ConfigError, CutlineError, DataError
from cutline.training import dry_run, lr_range, overfit, read_log, train
from cutline.training.diagnostics import first_step
from cutline.training.diagnostics.memory import available_memory, count_bytes, disk_free, reset_peak
from cutline.training.diagnostics.session import make_trainer, take_step
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import prepare_run

Build = Callable[..., Recipe]


@pytest.fixture
def copied(scenes: Path, tmp_path: Path) -> Path:
    """The twenty scenes in a folder that a test may spoil."""
    shutil.copytree(scenes.parent, tmp_path / "scenes")
    return tmp_path / "scenes" / scenes.name


@pytest.mark.parametrize(
    "settings", [{}, {"optim_grad_accum_steps": 2, "optim_ema_decay": 0.9, "optim_warmup_steps": 2}]
)
def test_what_it_foretells_is_what_the_run_does(
    recipe: Build, settings: dict, tmp_path: Path
) -> None:
    run = recipe(optim_dropout=0.1, optim_epochs=1, **settings)
    found = dry_run(run)
    assert found.exit_code == 0
    assert list(tmp_path.iterdir()) == []  # no trace
    best = train(run, show_progress=False)
    lines = [line for line in read_log(best.parent / "log.jsonl") if "lr" in line]
    assert found.loss == lines[0]["loss"]
    assert found.total_steps == lines[-1]["step"]
    assert found.steps_per_epoch == lines[-1]["step"] / lines[-1]["epoch"]
    files = [best.parent / "state.safetensors", *best.parent.glob("*/model.safetensors")]
    size = sum(
        file.stat().st_size for file in [*files, files[0]]
    )  # a new state is written beside the old
    assert (
        found.disk_needed < size < 1.1 * found.disk_needed
    )  # files have headers, of no account where models are large
    assert (found.pictures, found.captions, found.val_pictures) == (20, 20, 4)
    assert found.hours == pytest.approx(found.total_steps * found.seconds_per_step / 3600)
    assert dry_run(run).holds_run


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optim_ema_decay": 0.9},
        {"optim_lora": LoraConfig(rank=2)},
        {"optim_freeze": ("vision.*",)},
    ],
    ids=str,
)
def test_bytes_counted_before_a_step_are_those_after_it(recipe: Build, settings: dict) -> None:
    run = recipe(**settings)
    trainer = make_trainer(run, prepare_run(run))
    counted = count_bytes(trainer)
    take_step(trainer, next(trainer.steps()))
    moments = [tensor for state in trainer.optimizer.state.values() for tensor in state.values()]
    assert counted.moments == sum(tensor.nbytes for tensor in moments)
    assert counted.weights == sum(tensor.nbytes for tensor in trainer.model.state_dict().values())
    assert counted.average == sum(tensor.nbytes for tensor in trainer.average.values())
    assert 2 * counted.gradients + 4 * len(trainer.optimizer.state) == counted.moments
    assert counted.total == counted.weights + counted.gradients + counted.moments + counted.average


def test_pictures_that_are_missing_or_broken_are_named(recipe: Build, copied: Path) -> None:
    (copied.parent / "scene-000003.png").unlink()
    (copied.parent / "scene-000007.png").write_bytes(b"no image")
    found = dry_run(recipe(data_train=str(copied), optim_batch_size=20))
    assert [Path(path).name for path in found.missing] == ["scene-000003.png"]
    assert sorted(re.findall(r"scene-\d+", " ".join(found.skipped))) == [
        "scene-000003",
        "scene-000007",
    ]
    assert found.exit_code == 3
    assert "1 images are not where the data say" in str(found)
    for path in copied.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"no image of a whole step can be read; the first: .*no such image"
    ):
        dry_run(recipe(data_train=str(copied)))


def test_captions_that_are_cut_are_counted(recipe: Build) -> None:
    run = recipe()
    prepared = prepare_run(run)
    words = [len(sample.captions[0].split()) for sample in prepared.train]
    pieces = [len(texts[0][0]) for texts in prepared.rows.captions]
    assert len(set(words)) > 1
    assert dry_run(recipe(data_max_words=max(words) - 1)).cut == words.count(max(words))
    assert dry_run(recipe(data_max_tokens=max(pieces) - 1)).cut == pieces.count(max(pieces))
    assert dry_run(run).cut == 0


def test_the_text_says_what_chance_pays_and_what_is_lacking(recipe: Build) -> None:
    found = dry_run(recipe())
    assert found.chance == math.log(found.vocab_size)
    assert (
        f"first loss  {found.loss:.3f} per token; pure chance pays ln({found.vocab_size}) = {found.chance:.3f}"
        in str(found)
    )
    assert replace(found, available_memory=found.memory_needed - 1).exit_code == 1
    short = replace(found, disk_free=found.disk_needed - 1, missing=("a.png",))
    assert short.exit_code == 1
    assert "make room, or choose another `output`" in short.shortages[0]


def test_a_run_that_cannot_fit_is_refused_before_its_step(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_step, "available_memory", lambda device: 1000)
    monkeypatch.setattr(Trainer, "train_step", lambda *_: pytest.fail("a step was done"))
    with pytest.raises(
        CutlineError, match=r"of memory and there are 1 kB: lower `optim.batch_size`"
    ):
        dry_run(recipe())


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            "the memory does not suffice for a step: lower",
        ),
        (None, "not a number in the first"),
    ],
)
def test_a_step_that_fails_becomes_one_sentence(
    recipe: Build, monkeypatch: pytest.MonkeyPatch, error: Exception | None, sentence: str
) -> None:
    def loss(self: Trainer, model: torch.nn.Module, batch: object) -> torch.Tensor:
        if error:
            raise error
        return sum(weight.sum() for weight in model.parameters()) * torch.nan

    monkeypatch.setattr(Trainer, "loss", loss)
    with pytest.raises(CutlineError, match=sentence):
        dry_run(recipe())


def test_the_peak_is_of_what_was_held_since_the_reset() -> None:
    cpu, size = torch.device("cpu"), 80_000_000

    def hold() -> int:
        """Memory fresh from the system: what the allocator kept of earlier tests would hide it."""
        reset_peak(cpu)
        before = peak_memory(cpu)
        with mmap.mmap(-1, size) as held:
            for page in range(0, size, mmap.PAGESIZE):
                held[page] = 1
        return peak_memory(cpu) - before

    assert 70_000_000 < hold() < 120_000_000
    assert 70_000_000 < hold() < 120_000_000  # again: the first peak is forgotten
    assert peak_memory(cpu) < available_memory(cpu)


def test_the_disk_is_that_of_a_folder_yet_to_be_made(tmp_path: Path) -> None:
    assert disk_free(tmp_path / "not" / "yet") == pytest.approx(disk_free(tmp_path), rel=0.1)


def test_rehearsals_are_for_one_process(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    for run_diagnostic in (dry_run, overfit, lambda run: lr_range(run, 1e-3, 1)):
        with pytest.raises(ConfigError, match="leave out torchrun"):
            run_diagnostic(recipe())


def test_the_command_prints_it_and_takes_one_rehearsal_at_a_time(
    recipe: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(to_dict(recipe())))
    assert run_command(["train", str(path), "--dry-run"]) == 0
    assert "20 images with 20 captions" in capsys.readouterr().out
    assert (
        run_command(
            ["train", str(path), "--dry-run", "--output", str(tmp_path), "--data.max-words", "3"]
        )
        == 0
    )
    assert "100.0% of the captions are cut" in capsys.readouterr().out
    for flags in (
        ["--dry-run", "--resume"],
        ["--overfit", "1", "--show-batch"],
        ["--lr-range", "1e-3", "1", "--dry-run"],
    ):
        assert run_command(["train", str(path), *flags]) == 2
        assert "do not go together: choose one" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
