"""Momentum distillation in whole runs of matchers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from equal_runs import assert_equal_files, read_numbers
from interruption import train_interrupted
from safetensors.torch import load_file
from tiny_recipe import CACHED, CHECKPOINTED, MATCH, MOMENTUM

import cutline
from cutline.config import LoraConfig, Recipe
from cutline.config.task import MatchTaskConfig
from cutline.errors import ConfigError
from cutline.training import dry_run, train
from cutline.training.diagnostics.memory import count_tensor_memory
from cutline.training.diagnostics.session import make_trainer, take_step
from cutline.training.setup import prepare_run
from cutline.training.tasks.match import MAX_QUEUED_TEXTS, count_queued_texts

Build = Callable[..., Recipe]


@pytest.fixture
def momentum_recipe(recipe: Build) -> Build:
    """Return a function that makes a recipe of a tiny matcher with momentum encoders."""
    return lambda **changes: recipe(**MATCH | MOMENTUM | changes)


def test_resumed_run_equals_an_uninterrupted_one(momentum_recipe: Build, tmp_path: Path) -> None:
    """With dropout, EMA and accumulation; momentum encoders and queues are in the state alone."""
    settings = {"optim_ema_decay": 0.9, "optim_grad_accum_steps": 2}
    full, resumed = (momentum_recipe(output=str(tmp_path / name), **settings) for name in "ab")
    train(full, show_progress=False)
    train_interrupted(resumed, 3)
    train(resumed, resume=True, show_progress=False)
    assert read_numbers(full) == read_numbers(resumed)
    assert_equal_files(full, resumed, "state.safetensors")
    state = load_file(tmp_path / "a" / "state.safetensors")
    assert state["model.momentum.queued_texts"].shape == (12, 256)
    assert (state["model.momentum.queued_text_keys"] > 0).all()
    best = load_file(tmp_path / "a" / "best" / "model.safetensors")
    assert not any("momentum" in name for name in best)
    assert isinstance(cutline.load_matcher(tmp_path / "a"), cutline.Matcher)


def test_the_momentum_encoders_follow_and_alpha_rises_over_the_first_epoch(
    momentum_recipe: Build,
) -> None:
    run = momentum_recipe()
    trainer = make_trainer(run, prepare_run(run))
    momentum = trainer.model.momentum
    before = {name: weight.clone() for name, weight in momentum.named_parameters()}
    alphas, steps = [], trainer.read_steps()
    for step, batches in zip(range(6), steps, strict=False):
        weights = {name: w.detach().clone() for name, w in trainer.model.named_parameters()}
        take_step(trainer, batches)
        alphas.append(momentum.alpha)
        for name, weight in momentum.named_parameters():
            expected = before[name] * 0.9 + weights[name] * 0.1
            torch.testing.assert_close(weight, expected, msg=f"{name} in step {step}")
        before = {name: weight.clone() for name, weight in momentum.named_parameters()}
    assert alphas == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4])  # of 4 steps an epoch


def test_memory_and_disk_count_the_momentum_encoders(momentum_recipe: Build) -> None:
    run = momentum_recipe()
    trainer = make_trainer(run, prepare_run(run))
    memory = count_tensor_memory(trainer)
    tensors = [*trainer.model.momentum.parameters(), *trainer.model.momentum.buffers()]
    assert memory.momentum == sum(tensor.nbytes for tensor in tensors) > 0
    state = trainer.model.state_dict().values()
    assert memory.weights + memory.momentum == sum(tensor.nbytes for tensor in state)
    assert ", momentum " in str(dry_run(run))
    result = dry_run(run)
    best = train(run, show_progress=False)
    files = [best.parent / "state.safetensors"] * 2 + [*best.parent.glob("*/model.safetensors")]
    size = sum(file.stat().st_size for file in files)
    assert result.needed_disk < size < 1.1 * result.needed_disk


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16", "match_queue_size": 0},
        CACHED,
        {"match_negatives": "image", "match_queue_size": 3, "match_alpha": 0.0},
        CHECKPOINTED,
        {"eval_select_by": "loss"},
    ],
    ids=str,
)
def test_what_works_for_matchers_works(
    momentum_recipe: Build, settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where embeddings are cached
    run = momentum_recipe(optim_epochs=1, **settings)
    best = train(run, show_progress=False)
    assert isinstance(cutline.load_matcher(best), cutline.Matcher)


def test_queues_remember_as_many_texts_as_an_image_has(momentum_recipe: Build) -> None:
    setup = prepare_run(momentum_recipe())
    most = max(len(sample.captions) for sample in setup.train_samples)
    assert setup.model.momentum.queued_image_keys.shape == (12, 1 + most)
    by_image = prepare_run(momentum_recipe(match_negatives="image")).model
    assert by_image.momentum.queued_image_keys.shape == (12, 2)
    assert count_queued_texts([]) == MAX_QUEUED_TEXTS  # of a stream


def test_settings_that_contradict_each_other_are_refused(momentum_recipe: Build) -> None:
    for name, value in (("queue_size", 5), ("alpha", 0.2)):
        with pytest.raises(ConfigError, match=f"`match.{name}` needs `match.momentum`: set it"):
            MatchTaskConfig(**{name: value})
    for name, value in (("momentum", 1.0), ("alpha", -0.1), ("queue_size", -1)):
        with pytest.raises(ConfigError, match=f"{name} must be "):
            MatchTaskConfig(**{"momentum": 0.9, name: value})
    with pytest.raises(ConfigError, match=r"`match\.momentum` follows all weights, and `lora`"):
        momentum_recipe(lora=LoraConfig(rank=2))
