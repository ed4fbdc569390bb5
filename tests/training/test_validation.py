"""Evaluation during training: its results, its side effects, and the best weights."""

import json
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import cutline
from cutline.config import LoraConfig, Recipe
from cutline.training import read_log, train
from cutline.training.loop import validation
from cutline.training.loop.totals import sync_totals
from cutline.training.loop.trainer import Trainer
from cutline.training.loop.validation import compute_validation_loss, evaluate_task
from cutline.training.setup import prepare_run, read_samples

Build = Callable[..., Recipe]


def make_trainer(recipe: Recipe) -> Trainer:
    """Return a trainer after one step."""
    trainer = Trainer(recipe, prepare_run(recipe), Path(recipe.output), resume=False)
    batches = next(trainer.read_steps())
    trainer.train_step(batches, sync_totals(batches, stop=False, save=False))
    return trainer


def describe_model(model: nn.Module) -> list[tuple[Any, ...]]:
    """Return classes and modes of the modules, and the tensors with all that may change."""
    modules = [(name, type(module), module.training) for name, module in model.named_modules()]
    tensors = [
        (name, id(tensor), tensor.data_ptr(), tensor.dtype, tensor.requires_grad, tensor._version)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    ]
    return [*modules, *tensors]


@pytest.mark.parametrize("measure", [evaluate_task, compute_validation_loss])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bf16"},
        {"optim_ema_decay": 0.9},
        {"lora": LoraConfig(rank=2)},
        {"optim_freeze": ("vision.*",)},
    ],
    ids=str,
)
def test_validation_leaves_the_training_model_alone(
    recipe: Build, settings: dict, measure: Callable[..., object]
) -> None:
    """Modes, data types, gradients and memory are the same during and after it."""
    trainer = make_trainer(recipe(**settings))
    before = describe_model(trainer.model)
    during = []

    def observe(items: Iterable[Any], total: int, description: str) -> Iterator[Any]:
        for item in items:
            during.append(describe_model(trainer.model))
            yield item

    measure(trainer, observe)
    assert trainer.model.training
    assert during
    assert all(described == before for described in [*during, describe_model(trainer.model)])


def test_validation_measures_the_current_weights(recipe: Build) -> None:
    """Captions, scores and loss are those of a copy of the model."""
    run = recipe(eval_max_images=0, model_label_smoothing=0.0)
    trainer = make_trainer(run)
    copied = deepcopy(trainer.model).eval()
    captioner = cutline.Captioner(copied, trainer.setup.tokenizer, "cpu", "fp32")
    samples = trainer.setup.val_samples
    expected = cutline.evaluate(captioner, samples, batch_size=32, **asdict(run.generation))
    evaluation = evaluate_task(trainer)
    scores = asdict(expected.scores)
    assert evaluation.metrics == {name: scores[name] for name in evaluation.metrics}
    assert evaluation.score == expected.scores.cider + expected.scores.bleu4
    captions = [image.caption for image in evaluation.images]
    assert captions == [image.caption for image in expected.images]
    scores = captioner.score(
        [sample.image for sample in samples], [sample.captions[0] for sample in samples]
    )
    num_tokens = sum(len(score.token_ids) for score in scores)
    loss, skipped = compute_validation_loss(trainer)
    assert loss == pytest.approx(-sum(score.log_prob for score in scores) / num_tokens, rel=1e-5)
    assert skipped == []


def test_validation_loss_counts_every_caption_once(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    """An image is encoded once for its captions, if they fit into a batch."""
    rows = [json.loads(line) for line in scenes.read_text().splitlines()[:6]]
    captions = ["a star", "two red circles and a blue star", "a square"]
    rows = [
        {"image": str(scenes.parent / row["file_name"]), "captions": captions[: number % 3 + 1]}
        for number, row in enumerate(rows)
    ]
    data = tmp_path / "uneven.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    losses, num_batches = [], []

    def observe(items: Iterable[Any], total: int, description: str) -> Iterator[Any]:
        num_batches.append(total)
        yield from items

    for batch_size in (1, 2, 6, 32):
        run = recipe(data_val=str(data), eval_max_images=0, eval_batch_size=batch_size)
        losses.append(compute_validation_loss(make_trainer(run), observe)[0])
    assert losses[1:] == pytest.approx([losses[0]] * 3, rel=1e-5)
    # Of up to three captions; 12 in all.
    assert num_batches == [12, 6, 3, 1]


@pytest.mark.parametrize("select_by", ["captions", "loss"])
def test_captions_without_a_loss_end_a_run_only_if_it_selects_the_best(
    recipe: Build, scenes: Path, tmp_path: Path, select_by: str
) -> None:
    """Prompts of the validation data that are too long for the loss leave room for captions."""
    image = str(scenes.parent / "scene-000000.png")
    row = {"image": image, "caption": "a star", "prompt": "a " * 9}
    data = tmp_path / "prompts.jsonl"
    data.write_text(json.dumps(row))
    run = recipe(data_val=str(data), data_max_tokens=9, optim_epochs=1, eval_select_by=select_by)
    if select_by == "loss":
        with pytest.raises(cutline.ConfigError, match=r"data\.max_tokens 9 leaves no room"):
            train(run, show_progress=False)
    else:
        best = train(run, show_progress=False)
        last = read_log(best.parent / "log.jsonl")[-1]
        assert "cider" in last
        assert "val_loss" not in last


def test_exported_model_shares_memory_with_the_training_model(recipe: Build) -> None:
    trainer = make_trainer(recipe())
    weights = dict(trainer.model.named_parameters())
    exported = trainer.export_model()
    assert not exported.training
    for name, weight in exported.named_parameters():
        assert weight is not weights[name]
        assert weight.data_ptr() == weights[name].data_ptr()


def test_best_checkpoint_is_that_of_the_best_evaluation(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(
        validation, "evaluate_model", lambda trainer, log, stop: ({"train_loss": 0.0}, next(values))
    )
    saved = []
    save_checkpoint = Trainer.save_checkpoint

    def save_and_record(trainer: Trainer, name: str) -> None:
        save_checkpoint(trainer, name)
        weights = load_file(trainer.directory / name / "model.safetensors")
        saved.append((name, weights["text.lm_head.bias"]))

    monkeypatch.setattr(Trainer, "save_checkpoint", save_and_record)
    train(recipe(optim_epochs=3), show_progress=False)
    # The third evaluation is worse than the second.
    assert [name for name, _ in saved] == ["best", "last", "best", "last", "last"]
    assert not torch.equal(saved[0][1], saved[2][1])
    assert torch.equal(saved[2][1], saved[3][1])


def test_validation_data_are_split_off_by_image(recipe: Build) -> None:
    run = recipe(data_val="", data_val_fraction=0.2, eval_max_images=0)
    train_samples, val_samples = read_samples(run)
    assert (len(train_samples), len(val_samples)) == (16, 4)
    assert not {sample.id for sample in train_samples} & {sample.id for sample in val_samples}
    best = train(run, show_progress=False)
    assert [line for line in read_log(best.parent / "log.jsonl") if "cider" in line]


def test_validation_data_without_captions_are_refused(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    data = tmp_path / "bare.jsonl"
    data.write_text(json.dumps({"image": str(scenes.parent / "scene-000000.png")}))
    with pytest.raises(cutline.DataError, match=r"bare\.jsonl: no validation image has a caption"):
        train(recipe(data_val=str(data)), show_progress=False)


@pytest.mark.parametrize("select_by", ["captions", "loss"])
def test_unreadable_validation_images_are_reported_once(
    recipe: Build, scenes: Path, tmp_path: Path, select_by: str
) -> None:
    rows = [
        {"image": "gone.png", "caption": "a star"},
        {"image": str(scenes.parent / "scene-000000.png"), "caption": "a star"},
    ]
    data = tmp_path / "half.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    best = train(recipe(data_val=str(data), eval_select_by=select_by), show_progress=False)
    lines = read_log(best.parent / "log.jsonl")
    assert sum("gone.png" in line.get("skipped", "") for line in lines) == 1


@pytest.mark.parametrize("select_by", ["captions", "loss"])
def test_validation_without_readable_images_stops_a_run_with_its_state(
    recipe: Build, tmp_path: Path, select_by: str
) -> None:
    data = tmp_path / "none.jsonl"
    data.write_text(json.dumps({"image": "gone.png", "caption": "a star"}) + "\n")
    with pytest.raises(cutline.DataError, match=r"none of the 1 .*images can be .*gone\.png"):
        train(recipe(data_val=str(data), eval_select_by=select_by), show_progress=False)
    assert (tmp_path / "run" / "state.safetensors").exists()  # the epoch before it is saved


def test_best_checkpoint_can_be_selected_by_loss(recipe: Build) -> None:
    best = train(recipe(eval_select_by="loss", optim_epochs=3), show_progress=False)
    lines = [line for line in read_log(best.parent / "log.jsonl") if "val_loss" in line]
    assert len(lines) == 3
    lowest = float("inf")
    for line in lines:
        assert line["best"] == (line["val_loss"] < lowest)
        lowest = min(lowest, line["val_loss"])


def test_best_checkpoint_without_validation_data_is_that_of_the_lowest_training_loss(
    recipe: Build,
) -> None:
    best = train(recipe(data_val="", data_val_fraction=0.0), show_progress=False)
    lines = [line for line in read_log(best.parent / "log.jsonl") if "train_loss" in line]
    improved = lines[1]["train_loss"] < lines[0]["train_loss"]
    assert [line["best"] for line in lines] == [True, improved]
