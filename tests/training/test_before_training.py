"""The evaluation before the first step: it changes nothing, and is neither lost nor repeated."""

import json
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from equal_runs import assert_equal_files, read_numbers
from safetensors import safe_open
from tiny_recipe import MOMENTUM, PRETRAIN

import cutline
from cutline.config import Recipe
from cutline.model import VisionTextModel
from cutline.training import Interrupted, read_log, train
from cutline.training.data.batch import Batch
from cutline.training.loop.trainer import Trainer

Build = Callable[..., Recipe]
ON: dict[str, Any] = {"eval_before_training": True, "optim_epochs": 1}


def read_steps(run: Recipe) -> list[int]:
    """Return the steps of the evaluations in the log."""
    lines = read_log(Path(run.output) / "log.jsonl")
    return [line["step"] for line in lines if "best" in line]


def read_metadata(run: Recipe) -> dict[str, str]:
    """Return all of the state but its tensors."""
    with safe_open(Path(run.output) / "state.safetensors", framework="pt") as file:
        metadata: dict[str, str] = file.metadata()
    return metadata


def stop_at_evaluation(patch: pytest.MonkeyPatch) -> None:
    """Send this process a real Ctrl-C when the model is exported for an evaluation."""
    original = Trainer.export_model

    def export_model(self: Trainer) -> VisionTextModel:
        os.kill(os.getpid(), signal.SIGINT)
        return original(self)

    patch.setattr(Trainer, "export_model", export_model)


def stop_before_step(patch: pytest.MonkeyPatch) -> None:
    """Send this process a real Ctrl-C when it waits for its first batch."""
    original = Trainer.read_steps

    def read_steps(self: Trainer) -> Generator[list[Batch]]:
        os.kill(os.getpid(), signal.SIGINT)
        yield from original(self)

    patch.setattr(Trainer, "read_steps", read_steps)


def crash(run: Recipe, resume: bool) -> None:
    """Train until an error in the first step, after which no state is saved."""

    def fail(*_: object) -> float:
        raise RuntimeError("crashed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", fail)
        with pytest.raises(RuntimeError, match="crashed"):
            train(run, resume=resume, show_progress=False)


@pytest.mark.parametrize(
    "changes",
    [{"optim_ema_decay": 0.9}, {"eval_select_by": "loss"}, PRETRAIN | MOMENTUM],
    ids=["caption", "loss", "pretrain"],
)
def test_it_changes_nothing_but_the_log(recipe: Build, tmp_path: Path, changes: dict) -> None:
    """States are equal bit for bit: weights, moments, sums, and the score of the best."""
    runs = [
        recipe(output=tmp_path / str(on), **changes | ON | {"eval_before_training": on})
        for on in (False, True)
    ]
    for run in runs:
        train(run, show_progress=False)
    first, *rest = read_numbers(runs[1])
    assert rest == read_numbers(runs[0])
    assert (first["step"], first["epoch"], first["best"]) == (0, 0, False)
    assert first.keys() == rest[-1].keys() - {"train_loss"}
    assert first["val_loss"] > rest[-1]["val_loss"] > 0
    states = [read_metadata(run) for run in runs]
    assert states[0] == states[1]
    names = [str(path.relative_to(run.output)) for path in Path(run.output).rglob("*.safetensors")]
    assert len(names) > 2
    assert_equal_files(*runs, *names)


def test_without_validation_data_there_is_none(recipe: Build) -> None:
    run = recipe(**ON, data_val="", data_val_fraction=0.0)
    train(run, show_progress=False)
    assert read_steps(run) == [4]


def test_a_run_stopped_during_it_resumes_with_it(
    recipe: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full, stopped, without = (recipe(output=tmp_path / name, **ON) for name in "abc")
    train(full, show_progress=False)
    for run in (stopped, without):
        with monkeypatch.context() as patch:
            stop_at_evaluation(patch)
            with pytest.raises(Interrupted, match="stopped after step 0; resume"):
                train(run, show_progress=False)
    crash(stopped, resume=True)
    assert read_steps(stopped) == [0]
    train(stopped, resume=True, show_progress=False)
    assert read_numbers(stopped) == read_numbers(full)
    assert_equal_files(stopped, full, "state.safetensors")
    without = recipe(output=without.output, **ON | {"eval_before_training": False})
    train(without, resume=True, show_progress=False)
    assert read_numbers(without) == read_numbers(full)[1:]


def test_a_run_stopped_after_it_does_not_repeat_it(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recipe(**ON)
    with monkeypatch.context() as patch:
        stop_before_step(patch)
        with pytest.raises(Interrupted, match="stopped after step 0; resume"):
            train(run, show_progress=False)
    log = Path(run.output) / "log.jsonl"
    before = log.read_text()
    assert read_steps(run) == [0]
    train(run, resume=True, show_progress=False)
    assert log.read_text().startswith(before)
    assert read_steps(run) == [0, 4]


def test_a_run_takes_nothing_from_one_that_crashed_before_its_first_save(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    """Neither lines of the log nor copies of its validation images."""
    reversed_data = scenes.with_name("reversed.jsonl")
    reversed_data.write_text("\n".join(reversed(scenes.read_text().splitlines())))
    crash(recipe(**ON, data_val=str(reversed_data)), resume=False)
    runs = [recipe(output=tmp_path / name, **ON) for name in ("run", "other")]
    for run in runs:
        train(run, show_progress=False)
    assert read_numbers(runs[0]) == read_numbers(runs[1])
    copies = [(tmp_path / name / "samples" / "0.jpg").read_bytes() for name in ("run", "other")]
    assert copies[0] == copies[1]


def test_an_error_in_it_leaves_the_directory_to_a_corrected_recipe(
    recipe: Build, tmp_path: Path
) -> None:
    data = tmp_path / "none.jsonl"
    data.write_text(json.dumps({"image": "gone.png", "caption": "a star"}) + "\n")
    with pytest.raises(cutline.DataError, match=r"none of the 1 .*images can be .*gone\.png"):
        train(recipe(**ON, data_val=str(data)), show_progress=False)
    assert not (tmp_path / "run" / "state.safetensors").exists()
    train(recipe(**ON), show_progress=False)
