"""Training with the bag-of-words loss."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from equal_runs import assert_equal_files, read_numbers
from interruption import train_interrupted
from safetensors.torch import load_file
from tiny_recipe import CACHED, MATCH, NO_DROPOUT

import cutline
from cutline.config import InitConfig, LoraConfig, ModelSettings, Recipe
from cutline.errors import ConfigError
from cutline.training import dry_run, overfit, read_log, train
from cutline.training.run.charts import RunCharts
from cutline.training.run.history import read_history

Build = Callable[..., Recipe]
WORDS = {"caption_bag_of_words_weight": 0.1}


def test_a_run_resumes_exactly_and_its_captioner_has_no_head(recipe: Build, tmp_path: Path) -> None:
    whole, stopped = (
        recipe(output=str(tmp_path / name), optim_ema_decay=0.9, **WORDS)
        for name in ("whole", "two")
    )
    folder = train(whole, show_progress=False)
    train_interrupted(stopped, 3)
    train(stopped, resume=True, show_progress=False)
    assert read_numbers(whole) == read_numbers(stopped)
    assert_equal_files(whole, stopped, "state.safetensors", "last/model.safetensors")
    state = load_file(Path(whole.output) / "state.safetensors")
    assert "model.bag_of_words_head.linear.weight" in state
    assert not any("bag_of_words" in name for name in load_file(folder / "model.safetensors"))
    assert cutline.load(folder).config.prompt == "a picture of "
    lines = [line for line in read_log(Path(whole.output) / "log.jsonl") if "bag_of_words" in line]
    assert len(lines) == 8
    for line in lines:
        assert line["loss"] == pytest.approx(line["lm"] + 0.1 * line["bag_of_words"], rel=1e-5)
    assert lines[-1]["bag_of_words"] < lines[0]["bag_of_words"]


def test_batches_of_a_step_make_no_difference(recipe: Build, tmp_path: Path) -> None:
    changes = {**WORDS, **NO_DROPOUT, "data_augment": False, "optim_max_steps": 2}
    runs = [
        recipe(
            output=str(tmp_path / f"{size}"),
            optim_batch_size=size,
            optim_grad_accum_steps=10 // size,
            **changes,
        )
        for size in (10, 5)
    ]
    logs = []
    for run in runs:
        train(run, show_progress=False)
        lines = read_log(Path(run.output) / "log.jsonl")
        logs.append(
            [
                line[key]
                for line in lines
                if "bag_of_words" in line
                for key in ("bag_of_words", "loss", "lm")
            ]
        )
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_a_captioner_is_fine_tuned_with_a_new_head(recipe: Build, tmp_path: Path) -> None:
    first = train(recipe(output=tmp_path / "first"), show_progress=False)
    start = {"init": InitConfig(captioner=str(first)), "model": ModelSettings()}
    second = train(recipe(output=tmp_path / "second", **start, **WORDS), show_progress=False)
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()


def test_diagnostics_and_charts_have_the_lm_loss(recipe: Build, tmp_path: Path) -> None:
    """It is what chance level, validation and the threshold of overfitting are compared with."""
    run = recipe(output=str(tmp_path / "run"), **WORDS)
    result = dry_run(run)
    train(run, show_progress=False)
    lines = [line for line in read_log(Path(run.output) / "log.jsonl") if "lm" in line]
    assert result.loss == lines[0]["lm"] < lines[0]["loss"]
    assert abs(result.loss - result.chance[1]) < 1
    charts, details = RunCharts({"": read_history(Path(run.output))}).make()
    [chart] = [chart for chart in charts if chart.title == "Language model (LM) loss"]
    training, validation = chart.series
    assert training.points == [(line["step"], line["lm"]) for line in lines]
    assert validation.points
    titles = [each.title for each in (*charts, *details)]
    assert len(titles) == len(set(titles))
    assert "Bag-of-words loss" in titles


def test_overfitting_reports_the_lm_loss_and_ends_at_its_threshold(recipe: Build) -> None:
    settings = {"optim_batch_size": 3, "optim_lr": 1e-2, "optim_clip_norm": 1.0}
    result = overfit(recipe(**settings, **WORDS), show_progress=False)
    assert result.success
    assert result.last_loss < 0.05
    assert result.steps < 300
    assert abs(result.first_loss - math.log(64)) < 1  # of 64 tokens, without the other term


def test_a_frozen_vision_encoder_is_refused(recipe: Build) -> None:
    text = LoraConfig(rank=2, targets=("text.*",))
    for changes in ({"optim_freeze": ("vision.*",)}, {"lora": text}, CACHED):
        with pytest.raises(ConfigError, match="trains the vision encoder only, which is frozen"):
            recipe(**changes, **WORDS)
    recipe(lora=LoraConfig(rank=2), **WORDS)


def test_other_tasks_refuse_the_setting(recipe: Build, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the settings of `caption` need `task: caption`"):
        recipe(output=tmp_path, **MATCH, **WORDS)
    with pytest.raises(ConfigError, match="bag_of_words_weight must be at least 0"):
        recipe(output=tmp_path, caption_bag_of_words_weight=-1.0)
