"""Whole runs: what they write, how they stop and resume, and what they refuse."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from equal_runs import assert_equal_files, read_numbers
from interruption import interrupt_at, train_interrupted
from safetensors.torch import load_file
from tiny_recipe import CHECKPOINTED, MOMENTUM, NO_DROPOUT, PRETRAIN
from torch.testing import assert_close

import cutline
from cutline.config import GenerationConfig, InitConfig, ModelSettings, Recipe, TextSettings
from cutline.training import Interrupted, read_log, train
from cutline.training.data.dataset import CaptionDataset
from cutline.training.loop.trainer import Trainer

Build = Callable[..., Recipe]


def read_losses(folder: str | Path) -> list[float]:
    return [line["loss"] for line in read_log(Path(folder) / "log.jsonl") if "loss" in line]


def load_weights(folder: str | Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of a run's state and checkpoints, by file."""
    return {str(path): load_file(path) for path in Path(folder).rglob("*.safetensors")}


def diverge_at(step: int) -> Callable[[Trainer, float, float], None]:
    """Return a replacement of `Trainer.check_finite` to which the loss of `step` is NaN."""
    original = Trainer.check_finite
    return lambda self, loss, norm: original(
        self, float("nan") if self.state.step + 1 == step else loss, norm
    )


def test_run_writes_a_captioner_a_log_and_a_report(recipe: Build, scenes: Path) -> None:
    run = recipe(eval_before_training=True)
    best = train(run, show_progress=False)
    directory = best.parent
    captioner = cutline.load(directory)  # its best checkpoint
    captions = captioner.caption([scenes.parent / "scene-000000.png"] * 2)
    assert captions[0] == captions[1]
    lines = read_log(directory / "log.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 9))
    evaluations = [line for line in lines if "cider" in line]
    assert [line["epoch"] for line in evaluations] == [0, 1, 2]
    captions = [json.loads(line)["captions"] for line in scenes.read_text().splitlines()]
    for line in evaluations:
        assert line["val_loss"] > 0
        assert [sample["references"] for sample in line["samples"]] == captions[:4]
    assert "<svg" in (directory / "report.html").read_text()
    assert cutline.read_recipe(directory / "recipe.yaml") == run


def test_resumed_run_equals_an_uninterrupted_one(
    recipe: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Interrupted within an epoch, with dropout, stochastic depth, augmentation and EMA."""
    settings = {
        "optim_epochs": 3,
        "optim_ema_decay": 0.9,
        "optim_grad_accum_steps": 2,
        "optim_warmup_steps": 2,
        "log_every": 3,
        "eval_before_training": True,
    }
    full, resumed = (
        recipe(output=str(tmp_path / name), **settings) for name in ("full", "resumed")
    )
    train(full, show_progress=False)
    for step in (1, 4):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            message = rf"stopped after step {step}; resume .*resumed with --resume"
            with pytest.raises(Interrupted, match=message):
                train(resumed, resume=step > 1, show_progress=False)
    train(resumed, resume=True, show_progress=False)
    assert read_numbers(resumed) == read_numbers(full)
    assert_equal_files(full, resumed, "state.safetensors", "best/model.safetensors")


def test_a_second_signal_stops_at_once_and_saves_nothing(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come within an optimizer step."""
    settings = {"save_minutes": 0.0, "optim_epochs": 1}
    original = torch.optim.AdamW.step
    steps = iter(range(1, 100))

    def step(self: torch.optim.AdamW) -> None:
        original(self)
        if next(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(Interrupted):
            train(recipe(**settings), show_progress=False)
    train(recipe(**settings), resume=True, show_progress=False)
    full = recipe(output=str(Path(recipe().output).with_name("full")), **settings)
    train(full, show_progress=False)
    assert_equal_files(full, recipe(), "state.safetensors")


def test_a_signal_ends_the_wait_for_data(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a server that streams shards stalls."""
    original = CaptionDataset.__getitem__

    def stall(self: CaptionDataset, key: tuple[int, int]) -> object:
        if key[0] == 1:  # the second epoch
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            time.sleep(1000)
        return original(self, key)

    settings = {"save_minutes": 100.0}
    with monkeypatch.context() as patch:
        patch.setattr(CaptionDataset, "__getitem__", stall)
        with pytest.raises(Interrupted, match="stopped after step 4"):
            train(recipe(**settings), show_progress=False)
    train(recipe(**settings), resume=True, show_progress=False)


def test_resuming_a_finished_run_changes_nothing(recipe: Build) -> None:
    best = train(recipe(), show_progress=False)
    before = (best.parent / "log.jsonl").read_text()
    train(recipe(), resume=True, show_progress=False)
    assert (best.parent / "log.jsonl").read_text() == before


def test_worker_processes_do_not_change_a_run(recipe: Build, tmp_path: Path) -> None:
    runs = [
        recipe(output=str(tmp_path / str(num_workers)), data_num_workers=num_workers)
        for num_workers in (0, 2)
    ]
    for run in runs:
        train(replace(run, optim=replace(run.optim, epochs=1)), show_progress=False)
    assert read_losses(runs[0].output) == read_losses(runs[1].output)


@pytest.mark.parametrize(
    "task",
    [{}, PRETRAIN | MOMENTUM, {"model_merge_tokens": 1}],
    ids=["caption", "pretrain", "merged"],
)
def test_recomputed_activations_do_not_change_a_run(
    recipe: Build, task: dict[str, object], tmp_path: Path
) -> None:
    settings = {"optim_max_steps": 2, "eval_max_images": 0, **task}
    runs = [
        recipe(output=str(tmp_path / name), **settings, **changes)
        for name, changes in (("plain", {}), ("recomputed", CHECKPOINTED))
    ]
    for run in runs:
        train(run, show_progress=False)
    assert read_losses(runs[0].output) == read_losses(runs[1].output)
    assert_equal_files(*runs, "state.safetensors")


@pytest.mark.parametrize("batch_size", [10, 2])
def test_accumulated_batches_weigh_every_token_the_same(
    recipe: Build, tmp_path: Path, batch_size: int
) -> None:
    """Losses and gradients agree with those of one batch, though captions differ in length."""
    settings = {**NO_DROPOUT, "optim_epochs": 1}
    single = recipe(output=str(tmp_path / "single"), optim_batch_size=20, **settings)
    accumulated = recipe(
        output=str(tmp_path / "accumulated"),
        optim_batch_size=batch_size,
        optim_grad_accum_steps=20 // batch_size,
        **settings,
    )
    for run in (single, accumulated):
        train(run, show_progress=False)
    expected, actual = (
        read_log(Path(run.output) / "log.jsonl")[0] for run in (single, accumulated)
    )
    assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert actual["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)


def test_captions_per_image_do_not_change_the_loss(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    """Two captions of an image in one example have the loss of two examples."""
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    rows = [
        {
            "image": str(scenes.parent / row["file_name"]),
            "captions": [*row["captions"], "a thing"],
        }
        for row in rows
    ]
    data = tmp_path / "two.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    settings = {
        **NO_DROPOUT,
        "optim_epochs": 1,
        "data_train": str(data),
        "data_crop_scale": (1.0, 1.0),
        "data_flip": False,
        "data_randaugment": False,
    }
    separate = recipe(output=str(tmp_path / "separate"), optim_batch_size=40, **settings)
    joined = recipe(
        output=str(tmp_path / "joined"),
        optim_batch_size=20,
        data_captions_per_image=2,
        **settings,
    )
    for run in (separate, joined):
        train(run, show_progress=False)
    assert read_losses(separate.output) == pytest.approx(read_losses(joined.output), rel=1e-5)


def test_unreadable_image_is_reported_once_and_skipped(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(scenes.parent, folder)
    (folder / "scene-000003.png").write_bytes(b"not an image")
    (folder / "scene-000004.png").unlink()
    best = train(recipe(data_train=str(folder / "captions.jsonl")), show_progress=False)
    skipped = [line["skipped"] for line in read_log(best.parent / "log.jsonl") if "skipped" in line]
    assert len(skipped) == 2
    assert sum("scene-000003.png" in message for message in skipped) == 1
    assert sum("scene-000004.png" in message for message in skipped) == 1


def test_data_without_readable_images_are_refused(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    shutil.copy(scenes, tmp_path / "captions.jsonl")  # without its images
    with pytest.raises(cutline.DataError, match="none of the images can be read"):
        train(recipe(data_train=str(tmp_path / "captions.jsonl")), show_progress=False)


def test_directory_with_a_run_is_not_overwritten(recipe: Build) -> None:
    train(recipe(optim_epochs=1), show_progress=False)
    with pytest.raises(cutline.ConfigError, match="already holds a run: add --resume"):
        train(recipe(optim_epochs=1), show_progress=False)
    with pytest.raises(
        cutline.ConfigError, match=r"was trained with optim.weight_decay = 0.05, not 0.1"
    ):
        train(recipe(optim_epochs=1, optim_weight_decay=0.1), resume=True, show_progress=False)


def test_diverged_run_stops_with_its_last_good_state(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "check_finite", diverge_at(3))
        with pytest.raises(
            cutline.DivergedError, match=r"at step 3; .*run holds the state after step 2: lower"
        ):
            train(recipe(), show_progress=False)
    assert len(read_losses(recipe().output)) == 2
    # A lower learning rate, as the message suggests, lets the run continue.
    train(recipe(optim_lr=1e-4), resume=True, show_progress=False)
    assert len(read_losses(recipe().output)) == 8


@pytest.mark.parametrize(
    "changes",
    [
        {},  # the next step has a NaN loss
        {"save_minutes": 0.0},  # weights are saved before the next step
        {"optim_max_steps": 7},  # there is no next step
        {"eval_select_by": "loss", "optim_max_steps": 7},
    ],
)
def test_diverged_weights_never_replace_good_ones(
    recipe: Build, changes: dict[str, object]
) -> None:
    """A huge learning rate makes weights that are finite, but the loss of every image NaN."""
    train_interrupted(recipe(**changes), 6)
    saved = load_weights(recipe().output)
    assert len(saved) == 3
    with pytest.raises(
        cutline.DivergedError,
        match=r"run holds the state after step 6: lower .* and resume with --resume$",
    ):
        train(recipe(optim_lr=1e30, **changes), resume=True, show_progress=False)
    assert_close(load_weights(recipe().output), saved, rtol=0, atol=0)
    train(recipe(**changes), resume=True, show_progress=False)


def test_a_run_that_diverges_before_its_first_save_says_so(recipe: Build) -> None:
    with pytest.raises(cutline.DivergedError, match=r"no state was saved .* and start again$"):
        train(recipe(optim_lr=1e30), show_progress=False)
    assert not list(Path(recipe().output).rglob("*.safetensors"))


def test_damaged_state_is_reported(recipe: Build) -> None:
    best = train(recipe(), show_progress=False)
    state = best.parent / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(
        cutline.CheckpointError,
        match=r"state.safetensors: the state of the run cannot be read .*start a new run",
    ):
        train(recipe(), resume=True, show_progress=False)


def test_missing_and_invalid_settings_are_named(recipe: Build) -> None:
    with pytest.raises(cutline.ConfigError, match=r"set `data.train`"):
        train(recipe(data_train=""), show_progress=False)
    with pytest.raises(
        cutline.ConfigError, match=r"data.max_tokens 60 is above the model's 48 positions"
    ):
        train(recipe(data_max_tokens=60), show_progress=False)


def test_prompts_without_room_for_a_caption_are_refused_before_training(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    """One such prompt among others only costs its image."""
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    rows = [{**row, "file_name": str(scenes.parent / row["file_name"])} for row in rows]
    data = tmp_path / "prompts.jsonl"
    run = recipe(data_val=str(data), eval_max_images=0)
    for num_long, refused in ((len(rows), True), (1, False)):
        prompts = ["a " * 30] * num_long + ["a "] * (len(rows) - num_long)
        lines = [json.dumps({**row, "prompt": p}) for row, p in zip(rows, prompts, strict=True)]
        data.write_text("\n".join(lines))
        if refused:
            with pytest.raises(cutline.ConfigError, match="leaves no room for a caption"):
                train(run, show_progress=False)
            assert not (Path(run.output) / "state.safetensors").exists()
        else:
            train(run, show_progress=False)


def test_unknown_bad_words_are_refused_before_training(recipe: Build) -> None:
    run = recipe(generation=GenerationConfig(max_length=30, bad_words=("a", "😀")))
    with pytest.raises(cutline.ConfigError, match="bad_words '😀' is not in the model's vocab"):
        train(run, show_progress=False)
    assert not (Path(run.output) / "state.safetensors").exists()


def test_fine_tuning_keeps_sizes_vocabulary_and_prompt(recipe: Build, tmp_path: Path) -> None:
    first = train(recipe(), show_progress=False)
    second = recipe(
        output=str(tmp_path / "second"),
        init=InitConfig(captioner=str(first)),
        model=ModelSettings(),
    )
    before = cutline.load(first)
    after = cutline.load(train(second, show_progress=False))
    assert after.config == before.config
    assert after.tokenizer.vocab_size == before.tokenizer.vocab_size
    third = replace(
        second,
        output=str(tmp_path / "third"),
        init=InitConfig(captioner=str(first), image_size=64),
    )
    assert cutline.load(train(third, show_progress=False)).config.vision.image_size == 64


@pytest.mark.slow
def test_fine_tuning_overfits_twenty_photographs(shared: Path, tmp_path: Path) -> None:
    """A checkpoint in the published format overfits the captions of twenty photographs."""
    fixture = shared / "fixtures" / "salesforce-tiny"
    expected = json.loads((fixture / "expected.json").read_text())
    sizes = {
        "vision": expected["vision"],
        "text": {
            "vocab_size": 30524,
            "embed_dim": 96,
            "depth": 3,
            "num_heads": 4,
            "mlp_dim": 192,
            "max_positions": 64,
        },
    }
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    photos = shared / "data" / "coco-mini"
    rows = [json.loads(line) for line in (photos / "train.jsonl").read_text().splitlines()[:20]]
    rows = [
        {"image": str(photos / row["file_name"]), "caption": row["captions"][0]} for row in rows
    ]
    data = tmp_path / "twenty.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    default = Recipe()
    run = Recipe(
        output=str(tmp_path / "run"),
        precision="fp32",
        init=InitConfig(
            captioner=str(fixture / "checkpoint.pth"),
            config=str(tmp_path / "sizes.json"),
            tokenizer=str(shared / "fixtures/bert-base-uncased-vocab.txt"),
        ),
        model=ModelSettings(text=TextSettings(dropout=0.0, attn_dropout=0.0), label_smoothing=0.0),
        data=replace(
            default.data,
            train=str(data),
            val=str(data),
            crop_scale=(1.0, 1.0),
            flip=False,
            randaugment=False,
            cache=True,
            num_workers=0,
        ),
        optim=replace(default.optim, batch_size=20, max_steps=110, lr=2e-3, warmup_steps=5),
        eval=replace(default.eval, every_epochs=110),
        generation=GenerationConfig(max_length=30),
    )
    best = train(run, show_progress=False)
    last = read_log(best.parent / "log.jsonl")[-1]
    assert last["bleu4"] > 0.9
    assert last["cider"] > 8  # 10 is the maximum
