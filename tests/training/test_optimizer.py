"""Which weights learn, how fast, and which decay."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruption import interrupt_at
from safetensors.torch import load_file
from tiny_recipe import MODEL, NO_DROPOUT

import cutline
from cutline.config import CaptionConfig, InitConfig, LoraConfig, ModelSettings, OptimConfig, Recipe
from cutline.errors import ConfigError
from cutline.model import CaptionModel
from cutline.training import Interrupted, read_log, train
from cutline.training.loop.optimizer import compute_lr_scale, make_optimizer, select_weights

Build = Callable[..., Recipe]


def groups(optim: OptimConfig, lora: LoraConfig | None = None) -> dict[str, tuple[float, float]]:
    """Learning-rate scale and weight decay of every weight that learns."""
    model = CaptionModel(MODEL)
    select_weights(model, optim, lora or LoraConfig())
    names = {weight: name for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, MODEL, optim)
    return {
        names[weight]: (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }


def test_the_reference_decays_and_moves_all_weights_alike() -> None:
    found = groups(OptimConfig())
    assert set(found.values()) == {(1.0, 0.05)}
    assert found.keys() == dict(CaptionModel(MODEL).named_parameters()).keys()


def test_biases_and_norms_can_be_spared_from_decay() -> None:
    found = groups(OptimConfig(decay_biases_and_norms=False))
    spared = {name for name, (_, decay) in found.items() if decay == 0}
    assert spared == {name for name in found if name.endswith(".bias") or ".norm" in name}
    assert "text.layers.0.norm1.weight" in spared
    assert "vision.pos_embed" not in spared


def test_layers_learn_the_slower_the_lower_they_are() -> None:
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
    assert {scale for scale, _ in groups(OptimConfig(layer_decay=0.5)).values()} == {
        1.0,
        0.5,
        0.25,
        0.125,
    }


def test_the_scale_reaches_the_steps(recipe: Build, tmp_path: Path) -> None:
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


def test_frozen_weights_stay_and_the_others_learn(recipe: Build, tmp_path: Path) -> None:
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
def test_lora_leaves_a_plain_captioner_and_resumes_exactly(
    recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    first = train(recipe(output=tmp_path / "first"), show_progress=False)
    lora = {
        "lora": LoraConfig(rank=2, targets=("text.*.kv", "*.fc1"), dropout=0.1),
        "optim_lr": 1e-2,
        "optim_ema_decay": ema,
    }
    start = {"init": InitConfig(captioner=str(first)), "model": ModelSettings()}
    whole = train(recipe(output=tmp_path / "whole", **start, **lora), show_progress=False)
    before, after = load_file(first / "model.safetensors"), load_file(whole / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name for name in before if name.endswith((".fc1.weight", ".cross_attn.kv.weight"))
    }
    assert cutline.load(whole).config == cutline.load(first).config

    part = recipe(output=tmp_path / "part", **start, **lora)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            train(part, show_progress=False)
    train(part, resume=True, show_progress=False)
    losses = [
        [line.get("loss") for line in read_log(tmp_path / name / "log.jsonl")]
        for name in ("whole", "part")
    ]
    assert losses[0] == losses[1]


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`optim.freeze`: no weight matches 'visual.\*'"):
        groups(OptimConfig(freeze=("visual.*",)))
    with pytest.raises(ConfigError, match="freezes all weights"):
        groups(OptimConfig(freeze=("*",)))
    with pytest.raises(ConfigError, match="no linear layer matches"):
        groups(OptimConfig(), LoraConfig(rank=4, targets=("*.query",)))


@pytest.mark.parametrize(
    "wrong",
    [{"rank": -1}, {"rank": 2, "dropout": 1.0}, {"alpha": -3.0}, {"rank": 2, "targets": ()}],
)
def test_settings_of_lora_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"lora\."):
        LoraConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_compiled_layers_learn_the_same(recipe: Build, tmp_path: Path) -> None:
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


def test_bf16_learns_nearly_the_same(recipe: Build, tmp_path: Path) -> None:
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
