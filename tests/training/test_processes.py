"""Several real processes train as one does."""

from pathlib import Path

import pytest
import torch
from processes import launch
from safetensors.torch import load_file
from tiny_recipe import tiny_recipe

from cutline.training import read_log, train

OFF = {"optim_dropout": 0.0, "optim_drop_path": 0.0, "optim_epochs": 2, "optim_lr": 1e-3, "optim_ema_decay": 0.9}
LAYOUTS = {
    "1x8": {"optim_batch_size": 8},
    "4x2": {"optim_batch_size": 2, "optim_grad_accum_steps": 4},
    "2x4": {"optim_batch_size": 4},
    "2x2x2": {"optim_batch_size": 2, "optim_grad_accum_steps": 2},
    "sharded": {"optim_batch_size": 4, "optim_shard": True},
}
ALONE = ("1x8", "4x2")


@pytest.fixture(scope="module")
def runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same recipe in every layout: alone here, the others in one group of two processes."""
    folder = tmp_path_factory.mktemp("runs")
    recipes = {name: tiny_recipe(scenes, folder / name, **OFF, **layout) for name, layout in LAYOUTS.items()}
    for name in ALONE:
        train(recipes[name], show_progress=False)
    launch([recipes[name] for name in recipes if name not in ALONE], folder)
    return {name: folder / name for name in recipes}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "1x8"])
def test_all_layouts_train_alike(runs: dict[str, Path], layout: str) -> None:
    """Losses, gradient norms, evaluations and weights are those of one process with one batch of eight."""
    one, other = (read_log(runs[name] / "log.jsonl") for name in ("1x8", layout))
    assert len(one) == len(other) > 4
    for line, same in zip(one, other, strict=True):
        for key in line.keys() & {"step", "epoch", "loss", "grad_norm", "lr", "train_loss", "val_loss", "cider", "bleu4", "samples"}:
            assert same[key] == (pytest.approx(line[key], rel=1e-5) if isinstance(line[key], float) else line[key]), key
    for name in ("best/model.safetensors", "state.safetensors"):
        weights, same = load_file(runs["1x8"] / name), load_file(runs[layout] / name)
        assert weights.keys() == same.keys()
        for key, weight in weights.items():
            torch.testing.assert_close(same[key], weight, rtol=1e-4, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}")
