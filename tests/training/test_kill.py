"""Runs that end without warning: killed by the system, out of disk."""

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
from interruption import interrupt_at
from safetensors.torch import load_file
from tiny_recipe import tiny_recipe

import cutline
from cutline.config import Recipe
from cutline.errors import CheckpointError
from cutline.training import Interrupted, read_log, train

Build = Callable[..., Recipe]
SETTINGS: dict[str, Any] = {"optim_epochs": 4, "optim_ema_decay": 0.9, "save_minutes": 0.0}
LOGGED = ("step", "epoch", "loss", "lr", "grad_norm", "train_loss", "cider", "best", "samples")


def run_apart(recipe: Recipe, resume: bool, kill_after: float | None = None) -> bool:
    """Train in a process that is killed after some seconds; return whether it finished."""
    process = start(train, recipe, resume=resume, show_progress=False)
    process.join(kill_after)
    process.kill()
    process.join()
    return process.exitcode == 0


def check_same(run: Path, whole: Path, seed: int = 0) -> None:
    """Assert that losses, weights and state equal those of a run that was never killed.

    No partial file may be left.
    """
    logs = [
        [{key: line.get(key) for key in LOGGED} for line in read_log(folder / "log.jsonl")]
        for folder in (run, whole)
    ]
    assert logs[0] == logs[1], seed
    assert len(logs[0]) == 16 + 4
    for name in ("state.safetensors", "best/model.safetensors", "last/model.safetensors"):
        one, other = load_file(run / name), load_file(whole / name)
        assert one.keys() == other.keys(), seed
        assert all(torch.equal(one[key], other[key]) for key in one), seed
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]


def kill_and_resume(scenes: Path, folder: Path, kills: int, seed: int) -> int:
    """Kill a run at random moments, resume it, and compare.

    Returns the number of times that it was killed with a state on disk.
    """
    whole = tiny_recipe(scenes, folder / "whole", **SETTINGS)
    assert run_apart(whole, resume=False)  # the fork server starts
    begin = time.monotonic()
    assert run_apart(whole, resume=True)
    idle = time.monotonic() - begin
    begin = time.monotonic()
    assert run_apart(tiny_recipe(scenes, folder / "timed", **SETTINGS), resume=False)
    seconds = time.monotonic() - begin
    rng = random.Random(seed)
    torn = 0
    for number in range(kills):
        recipe = tiny_recipe(scenes, folder / str(number), **SETTINGS)
        ended = run_apart(recipe, resume=False, kill_after=rng.uniform(idle / 2, seconds))
        state = folder / str(number) / "state.safetensors"
        if not ended and state.exists():
            torn += 1
            cutline.load(folder / str(number) / "last")  # a captioner that can be used
        assert run_apart(recipe, resume=True)
        check_same(folder / str(number), folder / "whole", seed)
    return torn


def test_a_killed_run_resumes_exactly(scenes: Path, tmp_path: Path) -> None:
    """Killed as soon as the log tells of a few steps."""
    whole, part = (tiny_recipe(scenes, tmp_path / name, **SETTINGS) for name in ("whole", "part"))
    train(whole, show_progress=False)
    process = start(train, part, resume=False, show_progress=False)
    log = tmp_path / "part" / "log.jsonl"
    while process.is_alive() and not (log.exists() and len(log.read_bytes().splitlines()) > 5):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert sys.platform == "win32" or process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "part" / "report.html").exists()
    cutline.load(tmp_path / "part" / "last")  # a captioner that can be used
    train(part, resume=True, show_progress=False)
    check_same(tmp_path / "part", tmp_path / "whole")


@pytest.mark.slow
def test_twenty_killed_runs_resume_exactly(scenes: Path, tmp_path: Path) -> None:
    assert (
        kill_and_resume(scenes, tmp_path, kills=20, seed=int(time.time())) > 6
    )  # the moments were well chosen


def test_a_full_disk_stops_a_run_with_its_last_good_state(
    recipe: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit_file_size: Callable[[int | None], None],
) -> None:
    whole, part = (recipe(output=tmp_path / name, **SETTINGS) for name in ("whole", "part"))
    train(whole, show_progress=False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            train(part, show_progress=False)
    state = (tmp_path / "part" / "state.safetensors").read_bytes()
    limit_file_size(100_000)
    with pytest.raises(
        CheckpointError,
        match=r"model.safetensors: cannot be written .*the previous file is unchanged",
    ):
        train(part, resume=True, show_progress=False)
    assert (tmp_path / "part" / "state.safetensors").read_bytes() == state
    limit_file_size(None)
    train(part, resume=True, show_progress=False)
    check_same(tmp_path / "part", tmp_path / "whole")
