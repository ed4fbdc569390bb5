"""Runs that end without warning: killed, or out of disk space."""

import multiprocessing
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import start
from interruption import block_log_at, train_interrupted
from safetensors.torch import load_file
from tiny_recipe import tiny_recipe

import cutline
from cutline.config import Recipe
from cutline.errors import CheckpointError
from cutline.training import read_log, train
from cutline.training.data.batch import Batch
from cutline.training.loop.totals import StepTotals
from cutline.training.loop.trainer import Trainer

Build = Callable[..., Recipe]
SETTINGS: dict[str, Any] = {
    "optim_epochs": 2,
    "optim_ema_decay": 0.9,
    "save_minutes": 0.0,
    "eval_before_training": True,
}
LONGER = SETTINGS | {"optim_epochs": 4}
"""for kills at random moments"""
LOGGED = (
    *("step", "epoch", "loss", "lr", "grad_norm"),
    *("train_loss", "val_loss", "cider", "best", "samples"),
)


@pytest.fixture(scope="module")
def full(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that nothing stops."""
    recipe = tiny_recipe(scenes, tmp_path_factory.mktemp("kill") / "full", **SETTINGS)
    train(recipe, show_progress=False)
    return Path(recipe.output)


def train_in_process(recipe: Recipe, resume: bool, kill_after: float | None = None) -> bool:
    """Train in a process that is killed after some seconds; return whether it finished."""
    process = start(train, recipe, resume=resume, show_progress=False)
    process.join(kill_after)
    process.kill()
    process.join()
    return process.exitcode == 0


def check_same_run(actual: Path, expected: Path, seed: int = 0) -> None:
    """Assert that losses, weights and state equal those of a run that was never killed.

    No partial file may be left.
    """
    logs = [
        [{key: line.get(key) for key in LOGGED} for line in read_log(folder / "log.jsonl")]
        for folder in (actual, expected)
    ]
    assert logs[0] == logs[1], seed
    num_evaluations = 1 + logs[0][-1]["epoch"]  # before training, and after each epoch
    assert logs[0][-1]["step"] == len(logs[0]) - num_evaluations
    for name in ("state.safetensors", "best/model.safetensors", "last/model.safetensors"):
        tensors, expected_tensors = load_file(actual / name), load_file(expected / name)
        assert tensors.keys() == expected_tensors.keys(), seed
        assert all(torch.equal(tensors[key], expected_tensors[key]) for key in tensors), seed
    assert not [path for path in actual.rglob("*") if path.name.endswith(".tmp")]


def kill_and_resume(scenes: Path, folder: Path, kills: int, seed: int) -> int:
    """Kill runs at random moments, resume them, and compare them with an uninterrupted one.

    Returns:
        How many of them were killed with a state on disk.
    """
    full = tiny_recipe(scenes, folder / "full", **LONGER)
    assert train_in_process(full, resume=False)  # starts the fork server
    start_time = time.monotonic()
    assert train_in_process(full, resume=True)
    idle = time.monotonic() - start_time
    start_time = time.monotonic()
    assert train_in_process(tiny_recipe(scenes, folder / "timed", **LONGER), resume=False)
    seconds = time.monotonic() - start_time
    rng = random.Random(seed)
    num_resumable = 0
    for number in range(kills):
        recipe = tiny_recipe(scenes, folder / str(number), **LONGER)
        complete = train_in_process(recipe, resume=False, kill_after=rng.uniform(idle / 2, seconds))
        state = folder / str(number) / "state.safetensors"
        if not complete and state.exists():
            num_resumable += 1
            cutline.load(folder / str(number) / "last")
        assert train_in_process(recipe, resume=True)
        check_same_run(folder / str(number), folder / "full", seed)
    return num_resumable


def test_killed_run_resumes_exactly(scenes: Path, full: Path, tmp_path: Path) -> None:
    """Kill a run once its log has a few lines, and resume it."""
    killed = tiny_recipe(scenes, tmp_path / "killed", **SETTINGS)
    process = start(train, killed, resume=False, show_progress=False)
    log = tmp_path / "killed" / "log.jsonl"
    while process.is_alive() and not (log.exists() and len(log.read_bytes().splitlines()) > 3):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert sys.platform == "win32" or process.exitcode == -signal.SIGKILL
    assert "samples/0.jpg" in (tmp_path / "killed" / "report.html").read_text()
    cutline.load(tmp_path / "killed" / "last")
    train(killed, resume=True, show_progress=False)
    check_same_run(tmp_path / "killed", full)


@pytest.mark.slow
def test_twenty_killed_runs_resume_exactly(scenes: Path, tmp_path: Path) -> None:
    num_resumable = kill_and_resume(scenes, tmp_path, kills=20, seed=int(time.time()))
    assert num_resumable > 6  # or the random moments were too early or too late


def test_full_disk_stops_a_run_with_its_last_good_state(
    recipe: Build,
    full: Path,
    tmp_path: Path,
    limit_file_size: Callable[[int | None], None],
) -> None:
    resumed = recipe(output=tmp_path / "resumed", **SETTINGS)
    train_interrupted(resumed, 6)
    state = (tmp_path / "resumed" / "state.safetensors").read_bytes()
    limit_file_size(100_000)
    with pytest.raises(
        CheckpointError,
        match=r"model.safetensors: cannot be written .*the previous file is unchanged",
    ):
        train(resumed, resume=True, show_progress=False)
    assert (tmp_path / "resumed" / "state.safetensors").read_bytes() == state
    limit_file_size(None)
    train(resumed, resume=True, show_progress=False)
    check_same_run(tmp_path / "resumed", full)


# PyTorch raises an error wherever this process is, perhaps in a callback that only prints it.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_ends_a_run_with_a_sentence(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.train_step

    def kill_workers(self: Trainer, batches: list[Batch], totals: StepTotals) -> float:
        for worker in multiprocessing.active_children():
            worker.kill()
        return original(self, batches, totals)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", kill_workers)
        with pytest.raises(cutline.CutlineError, match=r"worker was killed.*`data.num_workers`"):
            train(recipe(data_num_workers=2, optim_epochs=50), show_progress=False)


def test_a_log_that_cannot_be_written_ends_a_run_with_its_state(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Path(recipe().output) / "log.jsonl"
    with monkeypatch.context() as patch:
        block_log_at(patch, 3)
        with pytest.raises(cutline.CutlineError, match=r"log.jsonl: cannot be written \(Is a dir"):
            train(recipe(), show_progress=False)
    log.rmdir()
    train(recipe(), resume=True, show_progress=False)
    assert [line["step"] for line in read_log(log)][:1] == [4]
