"""The directory of a run: never overwritten, and resumed only with the same recipe."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import start

from cutline.config import LoraConfig, Recipe, to_dict
from cutline.errors import ConfigError, CutlineError
from cutline.training import train
from cutline.training.run.directory import (
    CHANGEABLE_ON_RESUME,
    LOCK_FILE,
    STATE_FILE,
    check_run_directory,
    list_run_files,
    lock_run_directory,
)

Build = Callable[..., Recipe]


@pytest.fixture
def old_run(recipe: Build) -> Recipe:
    """Return the recipe of a run that was stopped."""
    run = recipe()
    directory = Path(run.output)
    check_run_directory(directory, run, resume=False)
    directory.mkdir()
    (directory / "recipe.yaml").write_text(yaml.safe_dump(to_dict(run)))
    (directory / STATE_FILE).touch()
    return run


def test_a_run_is_not_overwritten(old_run: Recipe) -> None:
    with pytest.raises(ConfigError, match="already holds a run: add --resume"):
        check_run_directory(Path(old_run.output), old_run, resume=False)
    check_run_directory(Path(old_run.output), old_run, resume=True)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"model_prompt": "a photo of "}, "model.prompt = a picture of , not a photo of "),
        ({"text_dropout": 0.3}, "model.text.dropout = 0.1, not 0.3"),
        ({"lora": LoraConfig(rank=2)}, "lora.rank = 0, not 2"),
        ({"optim_batch_size": 7}, "optim.batch_size = 5, not 7"),
        ({"memory_text_grad_ckpt": True}, "memory.text_grad_ckpt = False, not True"),
        ({"distributed_fsdp": True}, "distributed.fsdp = False, not True"),
        ({"compile": True}, "compile = False, not True"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_run_is_not_resumed_with_other_settings(
    recipe: Build, old_run: Recipe, change: dict[str, Any], difference: str
) -> None:
    with pytest.raises(ConfigError, match=rf"was trained with {re.escape(difference)}: resume"):
        check_run_directory(Path(old_run.output), recipe(**change), resume=True)


def test_settings_that_do_not_affect_the_result_may_change(recipe: Build, old_run: Recipe) -> None:
    changed = recipe(
        log_every=7,
        save_minutes=1.0,
        tensorboard="auto",
        device="cpu",
        data_num_workers=3,
        optim_lr=1e-5,
        optim_clip_norm=2.0,
        eval_before_training=True,
    )
    check_run_directory(Path(old_run.output), changed, resume=True)


def test_settings_of_the_split_may_not_change() -> None:
    names = ("val_fraction", "val_selection", "group_column", "group_pattern")
    assert not {f"data.{name}" for name in names} & CHANGEABLE_ON_RESUME


def test_settings_that_may_change_exist() -> None:
    recipe = to_dict(Recipe())
    for name in CHANGEABLE_ON_RESUME:
        section, _, key = name.rpartition(".")
        assert key in (recipe[section] if section else recipe)


def test_a_second_run_in_the_directory_is_refused_while_the_first_lives(recipe: Build) -> None:
    with lock_run_directory(recipe()) as directory:
        assert directory == Path(recipe().output)
        with pytest.raises(ConfigError, match=r"another process is training .*another `output`"):
            train(recipe(), show_progress=False)
        assert [path.name for path in directory.iterdir()] == [LOCK_FILE]
    train(recipe(optim_epochs=1), show_progress=False)


def _hold_lock(recipe: Recipe) -> None:
    with lock_run_directory(recipe) as directory:
        (directory / "started").touch()
        time.sleep(100)


def test_a_killed_run_loses_its_lock(recipe: Build) -> None:
    process = start(_hold_lock, recipe())
    while not (Path(recipe().output) / "started").exists():
        time.sleep(0.01)
    with pytest.raises(ConfigError, match="another process is training"):
        train(recipe(), show_progress=False)
    process.kill()
    process.join()
    train(recipe(optim_epochs=1), show_progress=False)


def test_a_directory_that_cannot_be_written_is_refused_before_any_work(
    recipe: Build, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CutlineError, match=r"file/run: cannot be written \(Not a directory\)"):
        train(recipe(output=tmp_path / "file" / "run", data_train="no-such-data"))


def test_only_files_of_the_run_are_removed_and_listed(recipe: Build) -> None:
    """Temporary files of other programs stay, those of a killed run go."""
    directory = Path(recipe().output)
    (directory / "best").mkdir(parents=True)
    (directory / "other").mkdir()
    foreign = [directory / ".notes.tmp", directory / "other" / ".model.safetensors.7.tmp"]
    partial = [directory / ".state.safetensors.7.tmp", directory / "best" / ".config.json.8.tmp"]
    for path in (*foreign, *partial):
        path.touch()
    train(recipe(optim_epochs=1), show_progress=False)
    assert not any(path.exists() for path in partial)
    assert all(path.exists() for path in foreign)
    written = {path for path in directory.rglob("*") if path.is_file()} - {*foreign}
    assert written <= {*list_run_files(directory), directory / LOCK_FILE}
    assert len(written) == 16
