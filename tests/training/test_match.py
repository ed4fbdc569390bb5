"""Training of matchers: whole runs, where they start from, and what they refuse."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from equal_runs import assert_equal_files, read_numbers
from interruption import train_interrupted
from random_captioner import make_captioner, save_captioner, save_encoders
from tiny_recipe import CACHED, CHECKPOINTED, MATCH, NO_DROPOUT, WIDER

import cutline
from cutline.checkpoint import load_matcher_checkpoint
from cutline.config import GenerationConfig, InitConfig, LoraConfig, ModelSettings, Recipe
from cutline.config.task import MatchTaskConfig
from cutline.errors import ConfigError, DataError
from cutline.training import (
    dry_run,
    inspect_first_batch,
    overfit,
    read_log,
    run_lr_range_test,
    train,
)
from cutline.training.diagnostics.session import make_trainer
from cutline.training.setup import prepare_run, read_samples

Build = Callable[..., Recipe]
RECALLS = [f"{way}_r{at}" for way in ("image_to_text", "text_to_image") for at in (1, 5, 10)]


@pytest.fixture
def match_recipe(recipe: Build) -> Build:
    """Return a function that makes a recipe of a tiny matcher."""
    return lambda **changes: recipe(**MATCH | changes)


def test_run_writes_a_matcher_a_log_and_a_report(match_recipe: Build, scenes: Path) -> None:
    best = train(match_recipe(), show_progress=False)
    lines = read_log(best.parent / "log.jsonl")
    steps = [line for line in lines if "lr" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    for line in steps:
        assert line["loss"] == pytest.approx(line["itc"] + line["itm"])
        assert 0.001 <= line["temperature"] <= 0.5
        assert "pairs_per_second" in line
    evaluations = [line for line in lines if "train_loss" in line]
    assert [line["epoch"] for line in evaluations] == [1, 2]
    for line in evaluations:
        mean = sum(line[name] for name in RECALLS) / len(RECALLS)
        assert line["recall_mean"] == pytest.approx(mean)
        assert 0 <= line["itm_accuracy"] <= 1
    matcher = cutline.load_matcher(best.parent)  # its best checkpoint
    image = scenes.parent / "scene-000000.png"
    assert matcher.match(image, ["a red circle", "two stars"]).shape == (2,)
    report = (best.parent / "report.html").read_text()
    for title in ("Image-text contrastive (ITC)", "Mean recall", "per pair"):
        assert title in report


def test_the_checkpoint_holds_the_matcher_and_its_temperature(match_recipe: Build) -> None:
    run = match_recipe()
    trainer = make_trainer(run, prepare_run(run))
    with torch.no_grad():
        trainer.model.get_parameter("temperature").fill_(0.25)
    trainer.save()
    checkpoint = load_matcher_checkpoint(trainer.directory / "last")
    assert checkpoint.config.temperature == 0.25
    assert "temperature" not in checkpoint.weights
    exported = trainer.export_model()
    assert torch.equal(exported.get_parameter("temperature"), torch.tensor([0.25]))


def test_resumed_run_equals_an_uninterrupted_one(match_recipe: Build, tmp_path: Path) -> None:
    """Interrupted within an epoch, with dropout, augmentation, negatives and EMA."""
    settings = {"optim_ema_decay": 0.9, "optim_grad_accum_steps": 2, "log_every": 3}
    full, resumed = (match_recipe(output=str(tmp_path / name), **settings) for name in "ab")
    train(full, show_progress=False)
    train_interrupted(resumed, 2)
    train(resumed, resume=True, show_progress=False)
    assert read_numbers(full) == read_numbers(resumed)
    assert_equal_files(full, resumed, "state.safetensors", "best/model.safetensors")


@pytest.mark.slow
def test_a_tiny_matcher_finds_every_text_of_a_few_scenes(match_recipe: Build) -> None:
    settings = {**NO_DROPOUT, "data_augment": False, "optim_batch_size": 20, "eval_max_images": 0}
    settings |= {"optim_epochs": 1000, "optim_lr": 1e-3, "eval_every_epochs": 1000}
    settings |= {"optim_warmup_steps": 100, "optim_clip_norm": 1.0}
    run = match_recipe(**WIDER, **settings)
    best = train(run, show_progress=False)
    last = read_log(best.parent / "log.jsonl")[-1]
    assert [last[name] for name in RECALLS] == [1.0] * 6
    assert last["itm_auroc"] > 0.95
    assert last["itm_accuracy"] > 0.9


def test_the_loss_of_the_validation_data_selects_the_best(match_recipe: Build) -> None:
    best = train(match_recipe(eval_select_by="loss"), show_progress=False)
    evaluations = [line for line in read_log(best.parent / "log.jsonl") if "val_loss" in line]
    assert len(evaluations) == 2
    assert "recall_mean" not in evaluations[0]


def test_it_starts_from_a_captioner(match_recipe: Build, tmp_path: Path) -> None:
    """With its weights but for the LM head; the heads of the matcher are new."""
    captioner = save_captioner(tmp_path / "captioner")
    init = InitConfig(captioner=str(tmp_path / "captioner"))
    model = prepare_run(match_recipe(init=init, model=ModelSettings())).model
    weights = model.state_dict()
    expected = captioner.model.state_dict()
    shared = {name for name in expected if not name.startswith("text.lm_head.")}
    assert all(torch.equal(weights[name], expected[name]) for name in shared)
    heads = {name.partition(".")[0] for name in weights.keys() - shared}
    assert heads == {"vision_proj", "text_proj", "itm_head", "temperature"}


def test_it_starts_from_a_matcher_and_resizes_it(match_recipe: Build, tmp_path: Path) -> None:
    first = train(match_recipe(optim_epochs=1), show_progress=False)
    expected = load_matcher_checkpoint(first)
    init = InitConfig(matcher=str(first), image_size=64)
    settings = ModelSettings(text=replace(ModelSettings().text, dropout=0.3))
    setup = prepare_run(match_recipe(init=init, model=settings, output=str(tmp_path / "second")))
    config, weights = setup.model.config, setup.model.state_dict()
    assert config.vision.image_size == 64
    assert config.text.dropout == 0.3
    assert float(weights["temperature"]) == pytest.approx(expected.config.temperature)
    for name, weight in expected.weights.items():
        assert name == "vision.pos_embed" or torch.equal(weights[name], weight)


def test_it_starts_from_a_vision_encoder_and_a_bert(match_recipe: Build, tmp_path: Path) -> None:
    captioner = make_captioner()
    init = save_encoders(tmp_path, captioner)
    sizes = replace(ModelSettings.from_config(captioner.config), prompt=None, label_smoothing=None)
    actual = prepare_run(match_recipe(init=init, model=sizes)).model.state_dict()
    expected = captioner.model.state_dict()
    for name in ("vision.blocks.1.attn.qkv.weight", "text.layers.1.self_attn.qkv.weight"):
        assert torch.equal(actual[name], expected[name])


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"lora": LoraConfig(rank=2)},
        CACHED,
        {"match_negatives": "image", "data_captions_per_image": 1, "optim_layer_decay": 0.7},
        CHECKPOINTED,
    ],
    ids=str,
)
def test_what_works_for_captioners_works(
    match_recipe: Build, settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where embeddings are cached
    run = match_recipe(optim_epochs=1, **settings)
    before = {name: weight.clone() for name, weight in prepare_run(run).model.state_dict().items()}
    best = train(run, show_progress=False)
    after = load_matcher_checkpoint(best).weights
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {"itm_head.weight", "vision_proj.weight", "text_proj.weight"} <= changed
    assert any(name.startswith("vision.") for name in changed) == ("optim_freeze" not in settings)


def test_rows_of_an_image_with_other_prompts_are_one_image(
    match_recipe: Build, tmp_path: Path
) -> None:
    """Their texts belong together, and none of them has a prompt."""
    data = tmp_path / "data.csv"
    data.write_text("image,caption,prompt\na.png,a red star,look:\na.png,a blue star,see:\n")
    train_samples, _ = read_samples(match_recipe(data_train=str(data), data_val=str(data)))
    assert [sample.captions for sample in train_samples] == [("a red star", "a blue star")]


REFUSED = {
    "model.prompt": ({"model_prompt": "a"}, "`model.prompt` is for captioners only"),
    "smoothing": ({"model_label_smoothing": 0.0}, "`model.label_smoothing` is for captioners"),
    "generation": ({"generation": GenerationConfig(num_beams=1)}, "`generation` is for captioners"),
    "tokenizer": ({"eval_metric_tokenizer": "words"}, "`eval.metric_tokenizer` is for captioners"),
    "prompt column": ({"data_prompt_column": "x"}, "`data.prompt_column` is for captioners only"),
    "template": ({"data_prompt_template": "{x}"}, "`data.prompt_template` is for captioners only"),
    "captions": ({"data_captions_per_image": 2}, "a matcher has one caption per example: set"),
    "both": ({"init": InitConfig(captioner="a")}, "`model` and `init.captioner` both set sizes"),
    "matcher": ({"init": InitConfig(matcher="a")}, "`model` and `init.matcher` both set sizes"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_without_effect_are_refused(
    match_recipe: Build, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        match_recipe(**changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_captioners_refuse_the_settings_of_matchers() -> None:
    with pytest.raises(ConfigError, match="the settings of `match` need `task: match`"):
        Recipe(match=MatchTaskConfig(negatives="image"))
    with pytest.raises(ConfigError, match=r"`init\.matcher` needs `task: match`"):
        Recipe(init=InitConfig(matcher="a"))
    with pytest.raises(ConfigError, match="are both given: remove one of them"):
        InitConfig(captioner="a", matcher="b")
    with pytest.raises(ConfigError, match="k_test must be at least 1, not 0"):
        MatchTaskConfig(k_test=0)


def test_texts_are_cut_at_35_tokens_and_fit_the_model(match_recipe: Build) -> None:
    assert match_recipe().data.max_tokens == 35
    assert match_recipe(data_max_tokens=20).data.max_tokens == 20
    with pytest.raises(ConfigError, match=r"data\.max_tokens 35 is above the model's 30 positions"):
        prepare_run(match_recipe(text_max_positions=30))


def test_diagnostics_speak_of_pairs(match_recipe: Build) -> None:
    run = match_recipe()
    result = dry_run(run)
    assert "per pair; chance level is ln(5) + ln(2) = 2.303" in str(result)
    train(match_recipe(optim_max_steps=1), show_progress=False)
    assert result.loss == read_log(Path(run.output) / "log.jsonl")[0]["loss"]
    text = inspect_first_batch(run)
    assert text.startswith("pair 1: [CLS] ")
    assert "5 pairs, mean loss" in text
    curve = run_lr_range_test(run, 1e-6, 1e-3, steps=10, show_progress=False)
    assert (len(curve.losses), curve.unit) == (10, "pair")


@pytest.mark.slow
def test_overfitting_finds_the_text_of_each_image(match_recipe: Build) -> None:
    result = overfit(match_recipe(**WIDER, optim_lr=1e-3, optim_clip_norm=1.0), show_progress=False)
    assert result.success
    assert "  found      " in str(result)
    assert "5 of 5 captions equal their references" in result.summary


def test_data_without_a_readable_image_are_refused(match_recipe: Build, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"image": "missing.png", "caption": "a star"}\n')
    with pytest.raises(DataError, match="none of the images can be read"):
        train(match_recipe(data_train=str(data), data_val=str(data)), show_progress=False)
