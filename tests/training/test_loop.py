"""Whole runs: what they write, how they stop and go on, and what they refuse."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interruption import interrupt_at
from safetensors.torch import load_file
from tiny_recipe import NO_DROPOUT

import cutline
from cutline.config import GenerationConfig, InitConfig, ModelSettings, Recipe, TextSettings
from cutline.training import Interrupted, read_log, train
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import read_samples

Build = Callable[..., Recipe]


def losses(folder: str | Path) -> list[float]:
    return [line["loss"] for line in read_log(Path(folder) / "log.jsonl") if "loss" in line]


def spoil_at(step: int) -> Callable[[Trainer, float, float], None]:
    """The check of a loss that becomes NaN at `step`."""
    original = Trainer.check_finite
    return lambda self, loss, norm: original(
        self, float("nan") if self.progress.step + 1 == step else loss, norm
    )


def test_a_run_leaves_a_captioner_a_log_and_a_report(recipe: Build, scenes: Path) -> None:
    best = train(recipe(), show_progress=False)
    folder = best.parent
    captions = cutline.load(folder).caption(
        [scenes.parent / "scene-000000.png"] * 2
    )  # the run's folder loads its best
    assert captions[0] == captions[1]
    lines = read_log(folder / "log.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 9))
    evaluations = [line for line in lines if "cider" in line]
    assert [line["epoch"] for line in evaluations] == [1, 2]
    assert len(evaluations[0]["samples"]) == 4
    assert "<svg" in (folder / "report.html").read_text()
    assert cutline.read_recipe(folder / "recipe.yaml") == recipe()


def test_the_best_checkpoint_is_that_of_the_best_evaluation(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cutline.training.loop.validation as measure

    values = iter([1.0, 3.0, 2.0])
    kept = []
    monkeypatch.setattr(
        measure, "measure_run", lambda trainer, log, stop: ({"train_loss": 0.0}, next(values))
    )
    keep = Trainer.save_checkpoint

    def keep_and_see(trainer: Trainer, name: str) -> None:
        keep(trainer, name)
        kept.append(
            (name, load_file(trainer.directory / name / "model.safetensors")["text.lm_head.bias"])
        )

    monkeypatch.setattr(Trainer, "save_checkpoint", keep_and_see)
    train(recipe(optim_epochs=3), show_progress=False)
    assert [name for name, _ in kept] == [
        "best",
        "last",
        "best",
        "last",
        "last",
    ]  # the third was worse
    assert not torch.equal(kept[0][1], kept[2][1])
    assert torch.equal(kept[2][1], kept[3][1])


def test_resumed_equals_uninterrupted(
    recipe: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped in the middle of an epoch, with dropout, stochastic depth, augmentation and an average of the weights."""
    settings = {
        "optim_epochs": 3,
        "optim_ema_decay": 0.9,
        "optim_grad_accum_steps": 2,
        "optim_warmup_steps": 2,
        "log_every": 3,
    }
    whole = recipe(output=str(tmp_path / "whole"), **settings)
    parts = recipe(output=str(tmp_path / "parts"), **settings)
    train(whole, show_progress=False)
    for stop in (1, 4):
        with monkeypatch.context() as patch:
            interrupt_at(patch, stop)
            with pytest.raises(
                Interrupted,
                match=rf"stopped after step {stop}; resume .*parts with --resume",
            ):
                train(parts, resume=stop > 1, show_progress=False)
    train(parts, resume=True, show_progress=False)
    assert losses(parts.output) == losses(whole.output)
    for name in ("state.safetensors", "best/model.safetensors"):
        one, other = load_file(Path(whole.output) / name), load_file(Path(parts.output) / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_resuming_a_finished_run_changes_nothing(recipe: Build) -> None:
    best = train(recipe(), show_progress=False)
    before = (best.parent / "log.jsonl").read_text()
    train(recipe(), resume=True, show_progress=False)
    assert (best.parent / "log.jsonl").read_text() == before


def test_workers_see_what_one_process_sees(recipe: Build, tmp_path: Path) -> None:
    runs = [
        recipe(output=str(tmp_path / str(workers)), data_num_workers=workers, optim_epochs=1)
        for workers in (0, 2)
    ]
    for run in runs:
        train(run, show_progress=False)
    assert losses(runs[0].output) == losses(runs[1].output)


@pytest.mark.parametrize("size", [10, 2])
def test_accumulated_batches_weigh_every_token_the_same(
    recipe: Build, tmp_path: Path, size: int
) -> None:
    """Ten images at once, or two at a time: the same losses and gradients, though captions differ in length."""
    off = {**NO_DROPOUT, "optim_epochs": 1}
    once = recipe(output=str(tmp_path / "once"), optim_batch_size=20, **off)
    split = recipe(
        output=str(tmp_path / "split"),
        optim_batch_size=size,
        optim_grad_accum_steps=20 // size,
        **off,
    )
    for run in (once, split):
        train(run, show_progress=False)
    lines = [read_log(Path(run.output) / "log.jsonl")[0] for run in (once, split)]
    assert lines[0]["loss"] == pytest.approx(lines[1]["loss"], rel=1e-6)
    assert lines[0]["grad_norm"] == pytest.approx(lines[1]["grad_norm"], rel=1e-4)


def test_captions_per_image_changes_the_work_and_not_the_loss(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    """Two captions of an image at once cost what they cost as two rows."""
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    data = tmp_path / "two.jsonl"
    data.write_text(
        "\n".join(
            json.dumps(
                {
                    "image": str(scenes.parent / r["file_name"]),
                    "captions": [*r["captions"], "a thing"],
                }
            )
            for r in rows
        )
    )
    plain = {
        "data_train": str(data),
        "data_crop_scale": (1.0, 1.0),
        "data_flip": False,
        "data_randaugment": False,
    }
    off = {**NO_DROPOUT, "optim_epochs": 1}
    apart = recipe(output=str(tmp_path / "apart"), optim_batch_size=40, **plain, **off)
    together = recipe(
        output=str(tmp_path / "together"),
        optim_batch_size=20,
        data_captions_per_image=2,
        **plain,
        **off,
    )
    for run in (apart, together):
        train(run, show_progress=False)
    assert losses(apart.output) == pytest.approx(losses(together.output), rel=1e-5)


def test_a_bad_picture_is_named_once_and_skipped(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(scenes.parent, folder)
    (folder / "scene-000003.png").write_bytes(b"not an image")
    (folder / "scene-000004.png").unlink()
    best = train(recipe(data_train=str(folder / "captions.jsonl")), show_progress=False)
    skipped = [line["skipped"] for line in read_log(best.parent / "log.jsonl") if "skipped" in line]
    assert len(skipped) == 2
    assert sum("scene-000003.png" in sentence for sentence in skipped) == 1
    assert sum("scene-000004.png" in sentence for sentence in skipped) == 1


def test_all_pictures_bad_is_an_error(recipe: Build, scenes: Path, tmp_path: Path) -> None:
    shutil.copy(scenes, tmp_path / "captions.jsonl")  # the images stay behind
    with pytest.raises(cutline.DataError, match="none of its images can be read"):
        train(recipe(data_train=str(tmp_path / "captions.jsonl")), show_progress=False)


def test_validation_is_set_apart_by_picture(recipe: Build) -> None:
    run = recipe(data_val="", data_val_fraction=0.2, eval_max_images=0)
    train_samples, val_samples = read_samples(run)
    assert (len(train_samples), len(val_samples)) == (16, 4)
    assert not {sample.id for sample in train_samples} & {sample.id for sample in val_samples}
    best = train(run, show_progress=False)
    assert [line for line in read_log(best.parent / "log.jsonl") if "cider" in line]


def test_validation_data_without_captions_are_refused(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text(json.dumps({"image": str(scenes.parent / "scene-000000.png")}))
    with pytest.raises(cutline.DataError, match=r"bare\.jsonl: no validation image has a caption"):
        train(recipe(data_val=str(bare)), show_progress=False)


def test_bad_validation_pictures_are_named_and_cost_nothing_learned(
    recipe: Build, scenes: Path, tmp_path: Path
) -> None:
    row = json.dumps({"image": "gone.png", "caption": "a star"}) + "\n"
    half = tmp_path / "half.jsonl"
    half.write_text(
        row + json.dumps({"image": str(scenes.parent / "scene-000000.png"), "caption": "a star"})
    )
    best = train(recipe(data_val=str(half)), show_progress=False)
    assert (
        sum("gone.png" in line.get("skipped", "") for line in read_log(best.parent / "log.jsonl"))
        == 1
    )
    by_loss = train(
        recipe(data_val=str(half), output=str(tmp_path / "loss"), eval_select_by="loss"),
        show_progress=False,
    )
    assert (
        sum(
            "gone.png" in line.get("skipped", "") for line in read_log(by_loss.parent / "log.jsonl")
        )
        == 1
    )
    none = tmp_path / "none.jsonl"
    none.write_text(row)
    run = recipe(data_val=str(none), output=str(tmp_path / "other"))
    with pytest.raises(cutline.DataError, match="none of the 1 images can be read"):
        train(run, show_progress=False)
    assert (tmp_path / "other" / "state.safetensors").exists()  # the epoch before it is not lost


def test_the_best_can_be_chosen_by_loss(recipe: Build) -> None:
    best = train(recipe(eval_select_by="loss", optim_epochs=3), show_progress=False)
    lines = [line for line in read_log(best.parent / "log.jsonl") if "val_loss" in line]
    assert len(lines) == 3
    running = float("inf")
    for line in lines:
        assert line["best"] == (line["val_loss"] < running)
        running = min(running, line["val_loss"])


def test_without_validation_the_training_loss_decides(recipe: Build) -> None:
    best = train(recipe(data_val="", data_val_fraction=0.0), show_progress=False)
    lines = [line for line in read_log(best.parent / "log.jsonl") if "train_loss" in line]
    assert [line["best"] for line in lines] == [
        True,
        lines[1]["train_loss"] < lines[0]["train_loss"],
    ]


def test_a_folder_with_a_run_is_not_overwritten(recipe: Build) -> None:
    train(recipe(optim_epochs=1), show_progress=False)
    with pytest.raises(cutline.ConfigError, match="already holds a run: add --resume"):
        train(recipe(optim_epochs=1), show_progress=False)
    with pytest.raises(
        cutline.ConfigError, match=r"was trained with optim.weight_decay = 0.05, not 0.1"
    ):
        train(recipe(optim_epochs=1, optim_weight_decay=0.1), resume=True, show_progress=False)


def test_a_loss_that_is_not_a_number_stops_with_the_last_good_state(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "check_finite", spoil_at(3))
        with pytest.raises(
            cutline.CutlineError, match=r"at step 3; .* holds the state before it: lower `optim.lr`"
        ):
            train(recipe(), show_progress=False)
    assert len(losses(recipe().output)) == 2
    train(
        recipe(optim_lr=1e-4), resume=True, show_progress=False
    )  # the way out that the sentence names
    assert len(losses(recipe().output)) == 8


def test_a_broken_state_says_so(recipe: Build) -> None:
    best = train(recipe(), show_progress=False)
    state = best.parent / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(
        cutline.CheckpointError,
        match=r"state.safetensors: the state of the run cannot be read .*start a new run",
    ):
        train(recipe(), resume=True, show_progress=False)


def test_the_recipe_names_what_is_missing(recipe: Build) -> None:
    with pytest.raises(cutline.ConfigError, match=r"set `data.train`"):
        train(recipe(data_train=""), show_progress=False)
    with pytest.raises(cutline.ConfigError, match=r"max_tokens 60 is above the model's 48 positions"):
        train(recipe(data_max_tokens=60), show_progress=False)


def test_fine_tuning_keeps_sizes_vocabulary_and_prompt(recipe: Build, tmp_path: Path) -> None:
    first = train(recipe(), show_progress=False)
    second = recipe(
        output=str(tmp_path / "second"),
        init=InitConfig(captioner=str(first)),
        model=ModelSettings(),
    )
    again = cutline.load(train(second, show_progress=False))
    former = cutline.load(first)
    assert again.config == former.config
    assert again.tokenizer.vocab_size == former.tokenizer.vocab_size
    other = replace(
        second,
        output=str(tmp_path / "third"),
        init=InitConfig(captioner=str(first), image_size=64),
    )
    assert cutline.load(train(other, show_progress=False)).config.vision.image_size == 64


@pytest.mark.slow
def test_fine_tuning_overfits_twenty_photographs(shared: Path, tmp_path: Path) -> None:
    """From the published layout to captions that are those of the photographs, nearly word for word."""
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
    rows = [
        json.loads(line)
        for line in (shared / "data/coco-mini/train.jsonl").read_text().splitlines()[:20]
    ]
    data = tmp_path / "twenty.jsonl"
    data.write_text(
        "\n".join(
            json.dumps(
                {
                    "image": str(shared / "data/coco-mini" / r["file_name"]),
                    "caption": r["captions"][0],
                }
            )
            for r in rows
        )
    )
    vocabulary = str(shared / "fixtures/bert-base-uncased-vocab.txt")
    run = Recipe(
        output=str(tmp_path / "run"),
        precision="fp32",
        init=InitConfig(
            captioner=str(fixture / "checkpoint.pth"),
            config=str(tmp_path / "sizes.json"),
            tokenizer=vocabulary,
        ),
        model=ModelSettings(text=TextSettings(dropout=0.0, attn_dropout=0.0), label_smoothing=0.0),
        data=replace(
            cutline.Recipe().data,
            train=str(data),
            val=str(data),
            crop_scale=(1.0, 1.0),
            flip=False,
            randaugment=False,
            cache=True,
            num_workers=0,
        ),
        optim=replace(
            cutline.Recipe().optim,
            batch_size=20,
            max_steps=110,
            lr=2e-3,
            warmup_steps=5,
        ),
        eval=replace(cutline.Recipe().eval, every_epochs=110),
        generation=GenerationConfig(max_length=30),
    )
    best = train(run, show_progress=False)
    last = read_log(best.parent / "log.jsonl")[-1]
    assert last["bleu4"] > 0.9
    assert last["cider"] > 8  # ten is perfect
