"""Which weights are trained, at which learning rate, with which weight decay."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruption import train_interrupted
from safetensors.torch import load_file
from tiny_recipe import MODEL, NO_DROPOUT

import cutline
from cutline.config import CaptionConfig, InitConfig, LoraConfig, ModelSettings, OptimConfig, Recipe
from cutline.errors import ConfigError
from cutline.model import CaptionModel
from cutline.training import read_log, train
from cutline.training.loop.optimizer import compute_lr_scale, make_optimizer, select_weights

Build = Callable[..., Recipe]


def list_groups(
    optim: OptimConfig, lora: LoraConfig | None = None
) -> dict[str, tuple[float, float]]:
    """Return learning-rate scale and weight decay of each trained weight."""
    model = CaptionModel(MODEL)
    select_weights(model, optim, lora or LoraConfig())
    names = {weight: name for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, MODEL, optim)
    return {
        names[weight]: (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }


def test_all_weights_have_the_same_settings_by_default() -> None:
    groups = list_groups(OptimConfig())
    assert set(groups.values()) == {(1.0, 0.05)}
    assert groups.keys() == dict(CaptionModel(MODEL).named_parameters()).keys()


def test_biases_and_norms_can_be_excluded_from_decay() -> None:
    groups = list_groups(OptimConfig(decay_biases_and_norms=False))
    excluded = {name for name, (_, decay) in groups.items() if decay == 0}
    assert excluded == {name for name in groups if name.endswith(".bias") or ".norm" in name}
    assert "text.layers.0.norm1.weight" in excluded
    assert "vision.pos_embed" not in excluded


def test_lower_layers_have_lower_learning_rates() -> None:
    config = CaptionConfig()
    assert compute_lr_scale("text.lm_head.dense.weight", config, 0.5) == 1
    assert compute_lr_scale("vision.norm.bias", config, 0.5) == 1
    assert compute_lr_scale("vision.blocks.11.attn.qkv.weight", config, 0.5) == 0.5
    assert compute_lr_scale("text.layers.0.norm1.weight", config, 0.5) == 0.5**12
    assert (
        compute_lr_scale("vision.pos_embed", config, 0.5)
        == compute_lr_scale("text.token_embed.weight", config, 0.5)
        == 0.5**13
    )
    assert {scale for scale, _ in list_groups(OptimConfig(layer_decay=0.5)).values()} == {
        1.0,
        0.5,
        0.25,
        0.125,
    }


def test_steps_apply_the_scale_of_the_learning_rate(recipe: Build, tmp_path: Path) -> None:
    """The lowest weights move by a hundredth of the highest ones': AdamW's first step is lr."""
    moved = {}
    for decay in (1.0, 0.1):
        run = recipe(
            output=tmp_path / str(decay),
            optim_layer_decay=decay,
            optim_max_steps=1,
            optim_weight_decay=0.0,
            seed=5,
        )
        weights = load_file(train(run, show_progress=False) / "model.safetensors")
        torch.manual_seed(5)
        start = CaptionModel(
            replace(MODEL, text=replace(MODEL.text, vocab_size=len(weights["text.lm_head.bias"])))
        ).state_dict()
        moved[decay] = {name: (weights[name] - start[name]).abs().max().item() for name in weights}
    ratio = {name: moved[0.1][name] / moved[1.0][name] for name in moved[1.0]}
    assert ratio["text.lm_head.bias"] == pytest.approx(1, rel=1e-3)
    assert ratio["vision.blocks.0.attn.qkv.weight"] == pytest.approx(0.01, rel=1e-2)


def test_frozen_weights_are_unchanged_and_others_trained(recipe: Build, tmp_path: Path) -> None:
    first = train(recipe(output=tmp_path / "first"), show_progress=False)
    start = {"init": InitConfig(captioner=str(first)), "model": ModelSettings()}
    second = train(
        recipe(output=tmp_path / "second", optim_freeze=("vision.*", "*.bias"), **start),
        show_progress=False,
    )
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith("vision.") or name.endswith(".bias")}


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_lora_is_merged_into_the_captioner_and_resumes_exactly(
    recipe: Build, tmp_path: Path, ema: float
) -> None:
    first = train(recipe(output=tmp_path / "first"), show_progress=False)
    lora = {
        "lora": LoraConfig(rank=2, targets=("text.*.kv", "*.fc1"), dropout=0.1),
        "optim_lr": 1e-2,
        "optim_ema_decay": ema,
    }
    start = {"init": InitConfig(captioner=str(first)), "model": ModelSettings()}
    full = train(recipe(output=tmp_path / "full", **start, **lora), show_progress=False)
    before, after = load_file(first / "model.safetensors"), load_file(full / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name for name in before if name.endswith((".fc1.weight", ".cross_attn.kv.weight"))
    }
    assert cutline.load(full).config == cutline.load(first).config

    resumed = recipe(output=tmp_path / "resumed", **start, **lora)
    train_interrupted(resumed, 3)
    train(resumed, resume=True, show_progress=False)
    losses = [
        [line.get("loss") for line in read_log(tmp_path / name / "log.jsonl")]
        for name in ("full", "resumed")
    ]
    assert losses[0] == losses[1]


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`optim.freeze`: no weight matches 'visual.\*'"):
        list_groups(OptimConfig(freeze=("visual.*",)))
    with pytest.raises(ConfigError, match="freezes all weights"):
        list_groups(OptimConfig(freeze=("*",)))
    with pytest.raises(ConfigError, match="no linear layer matches"):
        list_groups(OptimConfig(), LoraConfig(rank=4, targets=("*.query",)))


@pytest.mark.parametrize(
    ("name", "value"), [("rank", -1), ("dropout", 1.0), ("alpha", -3.0), ("targets", ())]
)
def test_invalid_lora_settings_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name} "):
        LoraConfig(**{name: value})


@pytest.mark.slow
# PyTorch's compiler warns about its own code.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_layers_have_the_same_losses(recipe: Build, tmp_path: Path) -> None:
    off = {"optim_batch_size": 10, **NO_DROPOUT}
    runs = [
        train(recipe(output=tmp_path / str(on), compile=on, **off), show_progress=False)
        for on in (False, True)
    ]
    plain, compiled = (
        [line["loss"] for line in read_log(run.parent / "log.jsonl") if "grad_norm" in line]
        for run in runs
    )
    assert compiled == pytest.approx(plain, rel=1e-5)
    assert len(plain) == 4
    assert (
        load_file(runs[0] / "model.safetensors").keys()
        == load_file(runs[1] / "model.safetensors").keys()
    )


def test_bf16_has_nearly_the_same_losses(recipe: Build, tmp_path: Path) -> None:
    off = {"optim_batch_size": 10, **NO_DROPOUT}
    runs = [
        train(recipe(output=tmp_path / kind, precision=kind, **off), show_progress=False)
        for kind in ("fp32", "bf16")
    ]
    full, half = (
        [line["loss"] for line in read_log(run.parent / "log.jsonl") if "grad_norm" in line]
        for run in runs
    )
    assert half == pytest.approx(full, rel=1e-2)
    assert half != full
