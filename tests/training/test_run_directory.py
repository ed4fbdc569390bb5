"""The directory of a run: never overwritten, and resumed only with the same recipe."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutline.config import LoraConfig, Recipe, to_dict
from cutline.errors import ConfigError
from cutline.training.run.directory import CHANGEABLE_ON_RESUME, STATE_FILE, make_run_directory

Build = Callable[..., Recipe]


@pytest.fixture
def old_run(recipe: Build) -> Recipe:
    """Return the recipe of a run that was stopped."""
    run = recipe()
    directory = make_run_directory(run, resume=False)
    (directory / "recipe.yaml").write_text(yaml.safe_dump(to_dict(run)))
    (directory / STATE_FILE).touch()
    return run


def test_a_run_is_not_overwritten(old_run: Recipe) -> None:
    with pytest.raises(ConfigError, match="already holds a run: add --resume"):
        make_run_directory(old_run, resume=False)
    assert make_run_directory(old_run, resume=True) == Path(old_run.output)


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
        make_run_directory(recipe(**change), resume=True)


def test_settings_that_do_not_affect_the_result_may_change(recipe: Build, old_run: Recipe) -> None:
    changed = recipe(
        log_every=7,
        save_minutes=1.0,
        tensorboard="auto",
        device="cpu",
        data_num_workers=3,
        optim_lr=1e-5,
        optim_clip_norm=2.0,
    )
    assert make_run_directory(changed, resume=True) == Path(old_run.output)


def test_settings_of_the_split_may_not_change() -> None:
    names = ("val_fraction", "val_selection", "group_column", "group_pattern")
    assert not {f"data.{name}" for name in names} & CHANGEABLE_ON_RESUME


def test_settings_that_may_change_exist() -> None:
    recipe = to_dict(Recipe())
    for name in CHANGEABLE_ON_RESUME:
        section, _, key = name.rpartition(".")
        assert key in (recipe[section] if section else recipe)
