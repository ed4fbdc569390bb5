"""A run that is resumed with more epochs is refused, and the error says how to train further."""

import logging
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from random_captioner import save_captioner
from random_matcher import save_matcher
from safetensors.torch import load_file
from tiny_recipe import MATCH, PRETRAIN, tiny_recipe

from cutline.checkpoint import load_checkpoint, load_matcher_checkpoint, save_checkpoint
from cutline.cli.main import run_command
from cutline.config import InitConfig, ModelSettings, Recipe, to_dict
from cutline.errors import ConfigError
from cutline.files import write_text
from cutline.training import train
from cutline.training.run.directory import check_same_settings, explain_new_run

START = "start.pth"


def save_start(kind: str) -> InitConfig:
    """Save a .pth file in the current folder, and return the settings to start from it."""
    if kind == "matcher":
        save_matcher(Path("model"))
        save_checkpoint(START, load_matcher_checkpoint("model"), "salesforce")
    else:
        save_captioner(Path("model"))
        save_checkpoint(START, load_checkpoint("model"), "salesforce")
    return InitConfig(**{kind: START, "config": "model/config.json"})


@pytest.mark.parametrize("task", ["caption", "match", "pretrain", "from scratch"])
def test_the_flags_in_the_error_start_a_run_from_the_last_checkpoint(
    task: str,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("cutline"), "handlers", [])
    changes = {"match": MATCH, "pretrain": PRETRAIN}.get(task, {})
    recipe = tiny_recipe(scenes, "my run", optim_max_steps=1, eval_max_images=2, **changes)
    new = replace(recipe, model=ModelSettings())
    if task != "from scratch":
        init = save_start("matcher" if task == "match" else "captioner")
        recipe = new = replace(new, init=init)
    train(recipe, show_progress=False)
    write_recipes(old=recipe, new=new)
    assert run_command(["train", "old.yaml", "--resume", "--optim.max-steps", "2"]) == 2
    message = capsys.readouterr().err
    problem, _, advice = message.partition(", with ")
    assert "was trained with optim.max_steps = 1, not 2: resume with the same recipe" in problem
    assert ("without the sizes in `model`" in problem) == (task == "from scratch")
    # With a learning rate this low, the weights stay as they were at the start.
    flags = [*shlex.split(advice), "--optim.lr", "1e-12"]
    assert run_command(["train", "new.yaml", *flags]) == 0
    files = sorted(Path("my run").glob("last/**/model.safetensors"))
    assert len(files) == (2 if task == "pretrain" else 1)
    for file in files:
        old, further = load_file(file), load_file(Path("my run-2", *file.parts[1:]))
        torch.testing.assert_close(further, old, atol=1e-6, rtol=0)


def write_recipes(**recipes: Recipe) -> None:
    for name, recipe in recipes.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(to_dict(recipe)))


def test_the_flags_name_a_free_directory_and_remove_other_weights(tmp_path: Path) -> None:
    output = tmp_path / "run"
    (tmp_path / "run-2").mkdir()
    init = InitConfig(vision="vit.safetensors", text="bert.bin", tokenizer="vocab.txt")
    assert explain_new_run(Recipe(output=str(output), init=init)) == (
        f"start a new run from its last checkpoint, with --init.captioner {output}/last "
        f"--output {output}-3 --init.vision '' --init.text ''"
    )


@pytest.mark.parametrize(("epochs", "advises"), [(1, False), (3, True)])
def test_only_more_epochs_need_a_new_run(
    epochs: int, advises: bool, scenes: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe(scenes, tmp_path, optim_epochs=2)
    write_text(tmp_path / "recipe.yaml", yaml.safe_dump(to_dict(recipe)))
    changed = replace(recipe, optim=replace(recipe.optim, epochs=epochs))
    with pytest.raises(ConfigError, match=r"was trained with optim\.epochs = 2, not") as caught:
        check_same_settings(tmp_path, changed)
    assert ("--init.captioner" in str(caught.value)) == advises
