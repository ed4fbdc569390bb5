"""Several real processes train as one does."""

from pathlib import Path

import pytest
import torch
from processes import launch
from safetensors.torch import load_file
from tiny_recipe import tiny_recipe

from cutline.training import read_log, train

OFF = {"optim_dropout": 0.0, "optim_drop_path": 0.0, "optim_epochs": 2, "optim_lr": 1e-3, "optim_ema_decay": 0.9, "eval_max_pictures": 5}
LAYOUTS = {
    "1x8": {"optim_batch_size": 8},
    "4x2": {"optim_batch_size": 2, "optim_grad_accum_steps": 4},
    "2x4": {"optim_batch_size": 4},
    "2x2x2": {"optim_batch_size": 2, "optim_grad_accum_steps": 2},
    "sharded": {"optim_batch_size": 4, "optim_shard": True},
    "2x4, stopped": {"optim_batch_size": 4},
    "sharded, stopped": {"optim_batch_size": 4, "optim_shard": True},
}
ALONE = ("1x8", "4x2")
NUMBERS = ("loss", "grad_norm", "lr", "train_loss", "cider", "bleu4", "epoch")


def test_all_layouts_train_alike(scenes: Path, tmp_path: Path) -> None:
    """Losses, gradient norms, evaluations and weights are those of one process with one batch of eight."""
    recipes = {name: tiny_recipe(scenes, tmp_path / name, **OFF, **layout) for name, layout in LAYOUTS.items()}
    for name in ALONE:
        train(recipes[name], show_progress=False)
    jobs = []
    for name in recipes.keys() - set(ALONE):
        stopped = "stopped" in name
        jobs += [(recipes[name], False, 3 * stopped), *[(recipes[name], True, 0)] * stopped]
    said = launch(jobs, tmp_path)
    assert said.count("stopped after step 3") == 4  # two runs, two processes
    expected = read_log(tmp_path / "1x8" / "log.jsonl")
    assert [line["step"] for line in expected if "loss" in line] == [1, 2, 3, 4]
    for name in recipes:
        for line, same in zip(expected, read_log(tmp_path / name / "log.jsonl"), strict=True):
            assert {key: same[key] for key in line if key in NUMBERS} == {
                key: pytest.approx(value, rel=1e-5) for key, value in line.items() if key in NUMBERS
            }, name
            assert same.get("samples") == line.get("samples")
        for file in ("best/model.safetensors", "state.safetensors"):
            weights, same = load_file(tmp_path / "1x8" / file), load_file(tmp_path / name / file)
            assert weights.keys() == same.keys()
            for key, weight in weights.items():
                torch.testing.assert_close(same[key], weight, rtol=1e-4, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}")
