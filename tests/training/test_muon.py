"""Muon: its steps, which weights it trains, and runs that resume."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruption import train_interrupted
from safetensors.torch import load_file
from tiny_recipe import MODEL

from cutline.config import DistributedConfig, LoraConfig, OptimConfig, Recipe
from cutline.errors import ConfigError, CutlineError
from cutline.model import CaptionModel
from cutline.training import run_lr_range_test, train
from cutline.training.loop.muon import Muon, orthogonalize
from cutline.training.loop.optimizer import make_optimizer

MUON = OptimConfig(optimizer="muon", lr=1e-3, muon_lr=0.02, weight_decay=0.05)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 20)])
def test_steps_equal_those_of_pytorch(shape: tuple[int, int]) -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("needs PyTorch 2.9")
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    groups = [{"params": [ours], "muon": True, "weight_decay": 0.05}]
    optimizer = Muon(groups, lr=0.02, dtype=torch.bfloat16)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.05)
    for seed in range(4):
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)
    assert list(optimizer.state[ours]) == ["momentum"]


def test_orthogonalized_matrices_have_singular_values_near_1() -> None:
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    result = left.T @ orthogonalize(matrix) @ right.T
    values = result.diagonal()
    assert 0.6 < values.min() <= values.max() < 1.3
    torch.testing.assert_close(result, values.diag(), rtol=0, atol=1e-4)


def test_muon_trains_the_matrices_of_layers_and_adamw_all_others() -> None:
    model = CaptionModel(MODEL)
    names = {weight: name for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, MODEL, MUON)
    scales = {
        names[weight]: (group["muon"], group["lr_scale"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert scales.keys() == dict(model.named_parameters()).keys()
    muon = {name for name, scale in scales.items() if scale == (True, 20.0)}
    assert muon == {
        name
        for name, weight in model.named_parameters()
        if weight.dim() == 2 and (".blocks." in name or ".layers." in name)
    }
    assert {scales[name] for name in scales.keys() - muon} == {(False, 1.0)}
    assert {"vision.blocks.0.attn.qkv.weight", "text.layers.0.cross_attn.kv.weight"} <= muon


def test_a_resumed_run_equals_an_uninterrupted_one(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    settings = {"optim_optimizer": "muon", "optim_lr": 1e-3}
    full = train(recipe(output=tmp_path / "full", **settings), show_progress=False)
    resumed = recipe(output=tmp_path / "resumed", **settings)
    train_interrupted(resumed, 3)
    again = train(resumed, resume=True, show_progress=False)
    weights, others = (load_file(folder / "model.safetensors") for folder in (full, again))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_run_that_diverges_resumes_with_lower_learning_rates(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    settings = {"output": tmp_path / "run", "optim_optimizer": "muon", "save_minutes": 0.0}
    run = recipe(**settings, optim_muon_lr=0.02)
    train_interrupted(run, 3)
    high = replace(run, optim=replace(run.optim, lr=1e30, muon_lr=1e30))
    with pytest.raises(CutlineError, match=r"lower `optim\.lr` and `optim\.muon_lr` or set"):
        train(high, resume=True, show_progress=False)
    low = replace(run, optim=replace(run.optim, lr=1e-4, muon_lr=0.005))
    train(low, resume=True, show_progress=False)


def test_the_learning_rate_test_keeps_the_ratio_of_both(recipe: Callable[..., Recipe]) -> None:
    run = recipe(optim_optimizer="muon", optim_lr=1e-3, optim_muon_lr=0.05)
    result = run_lr_range_test(run, 1e-5, 1e-2, 10, show_progress=False)
    assert result.muon_ratio == pytest.approx(50)
    assert run_lr_range_test(recipe(), 1e-5, 1e-2, 10, show_progress=False).muon_ratio == 0


def test_settings_that_muon_excludes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`optim.muon_lr` needs `optim.optimizer: muon`"):
        OptimConfig(muon_lr=0.1)
    for settings in ({"lora": LoraConfig(rank=2)}, {"distributed": DistributedConfig(fsdp=True)}):
        with pytest.raises(ConfigError, match="muon` needs whole matrices: remove"):
            Recipe(optim=MUON, **settings)
