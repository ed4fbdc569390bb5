"""Pre-training of a captioner and a matcher: whole runs, where they start, what they refuse."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from equal_runs import assert_equal_files, read_numbers
from interruption import train_interrupted
from random_captioner import make_captioner, save_captioner, save_encoders
from random_matcher import save_matcher
from tiny_recipe import CACHED, CHECKPOINTED, MOMENTUM, NO_DROPOUT, PRETRAIN, WIDER

import cutline
from cutline.checkpoint import (
    find_kinds,
    is_matcher,
    load_checkpoint,
    load_config,
    load_matcher_checkpoint,
    load_tokenizer,
    save_checkpoint,
)
from cutline.config import InitConfig, LoraConfig, ModelSettings, Recipe
from cutline.errors import ConfigError
from cutline.reranking import share_encoder
from cutline.training import (
    dry_run,
    inspect_first_batch,
    overfit,
    read_log,
    run_lr_range_test,
    train,
)
from cutline.training.diagnostics.session import make_trainer, take_step
from cutline.training.setup import prepare_run

Build = Callable[..., Recipe]
SHARED = ("vision.patch_embed.weight", "text.token_embed.weight", "text.layers.1.mlp.fc1.weight")
OWN = ("text.layers.0.self_attn.qkv.weight", "text.layers.1.norm1.bias")


@pytest.fixture
def pretrain_recipe(recipe: Build) -> Build:
    """Return a function that makes a recipe of a tiny captioner and matcher."""
    return lambda **changes: recipe(**PRETRAIN | changes)


def test_run_writes_a_captioner_and_a_matcher(pretrain_recipe: Build, scenes: Path) -> None:
    run = pretrain_recipe(**MOMENTUM)
    best = train(run, show_progress=False)
    lines = read_log(best.parent / "log.jsonl")
    steps = [line for line in lines if "lr" in line]
    assert len(steps) == 8
    for line in steps:
        assert line["loss"] == pytest.approx(line["itc"] + line["itm"] + line["lm"])
    evaluations = [line for line in lines if "train_loss" in line]
    for line in evaluations:
        assert {"cider", "bleu4", "recall_mean", "itm_accuracy", "samples"} <= line.keys()
    report = (best.parent / "report.html").read_text()
    for title in ("Language model (LM)", "Mean recall", "CIDEr", "samples/0.jpg"):
        assert title in report
    captioner, matcher = cutline.load(best.parent), cutline.load_matcher(best.parent)
    assert captioner.config.prompt == ""
    image = scenes.parent / "scene-000000.png"
    [caption] = captioner.caption([image], num_captions=2, num_beams=2, rerank=matcher)
    assert caption.match is not None
    assert share_encoder(captioner, matcher)
    assert is_matcher(best.parent)
    assert [kind.name for kind in find_kinds(best)] == ["captioner", "matcher"]
    assert load_config(best) == captioner.config
    assert load_tokenizer(best.parent).to_json() == captioner.tokenizer.to_json()
    weights = load_checkpoint(best).weights, load_matcher_checkpoint(best).weights
    assert all(torch.equal(*(each[name] for each in weights)) for name in SHARED)
    assert not any(torch.equal(*(each[name] for each in weights)) for name in OWN)
    assert not any("momentum" in name or "decoder" in name for each in weights for name in each)


def test_resumed_run_equals_an_uninterrupted_one(pretrain_recipe: Build, tmp_path: Path) -> None:
    settings = {**MOMENTUM, "optim_ema_decay": 0.9}
    full, resumed = (pretrain_recipe(output=str(tmp_path / name), **settings) for name in "ab")
    train(full, show_progress=False)
    train_interrupted(resumed, 3)
    train(resumed, resume=True, show_progress=False)
    assert read_numbers(full) == read_numbers(resumed)
    names = ("state", "best/captioner/model", "last/matcher/model")
    assert_equal_files(full, resumed, *(f"{name}.safetensors" for name in names))


def test_alpha_rises_over_two_epochs(pretrain_recipe: Build) -> None:
    run = pretrain_recipe(**MOMENTUM)
    trainer, alphas = make_trainer(run, prepare_run(run)), []
    for batches in trainer.read_steps():
        take_step(trainer, batches)
        alphas.append(trainer.model.momentum.alpha)
    assert alphas == pytest.approx([0.05 * step for step in range(8)])  # 4 steps an epoch


@pytest.mark.slow
def test_a_tiny_model_captions_and_finds_a_few_scenes(pretrain_recipe: Build) -> None:
    settings = {**NO_DROPOUT, **WIDER, "data_augment": False, "optim_batch_size": 20}
    settings |= {"optim_epochs": 300, "optim_lr": 1e-3, "eval_every_epochs": 300}
    settings |= {"optim_warmup_steps": 50, "optim_clip_norm": 1.0, "eval_max_images": 0}
    best = train(pretrain_recipe(**settings, **MOMENTUM), show_progress=False)
    last = read_log(best.parent / "log.jsonl")[-1]
    assert last["recall_mean_cosine"] == 1.0
    assert last["cider"] > 5


def start_from(build: Build, **init: str) -> dict[str, torch.Tensor]:
    """Return the initial weights of pre-training from a model."""
    setup = prepare_run(build(init=InitConfig(**init), model=ModelSettings(), **MOMENTUM))
    for name, copy in setup.model.momentum.named_parameters():
        assert torch.equal(copy, setup.model.get_parameter(name))
    return setup.model.state_dict()


def test_it_starts_from_a_captioner(pretrain_recipe: Build, tmp_path: Path) -> None:
    expected = save_captioner(tmp_path / "model").model.state_dict()
    state = start_from(pretrain_recipe, captioner=str(tmp_path / "model"))
    for name, weight in expected.items():
        assert torch.equal(state[name], weight)
    for name in OWN:
        decoder = name.replace("layers.0.", "layers.0.decoder.")
        decoder = decoder.replace("layers.1.", "layers.1.decoder.")
        assert torch.equal(state[decoder], expected[name])


def test_it_starts_from_a_matcher(pretrain_recipe: Build, tmp_path: Path) -> None:
    expected = save_matcher(tmp_path / "model").model.state_dict()
    state = start_from(pretrain_recipe, matcher=str(tmp_path / "model"))
    for name, weight in expected.items():
        assert torch.equal(state[name], weight)
    name = "text.layers.0.decoder.self_attn.proj.weight"
    assert torch.equal(state[name], expected[name.replace(".decoder.", ".")])


@pytest.mark.parametrize("setting", ["captioner", "matcher"])
@pytest.mark.parametrize("kind", ["run", "pth"])
def test_it_starts_from_both(
    pretrain_recipe: Build, tmp_path: Path, setting: str, kind: str
) -> None:
    """From an earlier run, or a file with both as BLIP's pre-trained ones are."""
    path = train(pretrain_recipe(output=str(tmp_path / "first"), optim_epochs=1, **MOMENTUM))
    captioner, matcher = load_checkpoint(path), load_matcher_checkpoint(path)
    init = {setting: str(path)}
    if kind == "pth":
        file = save_pretrained_file(path, tmp_path / "both.pth")
        init = {setting: str(file), "config": str(path / "captioner" / "config.json")}
    state = start_from(pretrain_recipe, **init)
    for name, weight in matcher.weights.items():
        assert torch.equal(state[name], weight)
    for name, weight in captioner.weights.items():
        decoder = name.replace("self_attn.", "decoder.self_attn.").replace("norm1", "decoder.norm1")
        own = decoder if decoder in state and name.startswith("text.") else name
        assert torch.equal(state[own], weight), name
    assert float(state["temperature"]) == pytest.approx(matcher.config.temperature)


def save_pretrained_file(run: Path, file: Path) -> Path:
    """Write captioner and matcher of a run into one file, and return it."""
    content: dict[str, torch.Tensor] = {}
    for number, load in enumerate((load_checkpoint, load_matcher_checkpoint)):
        part = file.with_name(f"{number}.pth")
        save_checkpoint(part, load(run), "salesforce")
        content |= torch.load(part, weights_only=True)["model"]
    content["visual_encoder_m.cls_token"] = torch.zeros(3)
    torch.save({"model": content}, file)
    shutil.copy(file.with_name("0.tokenizer.json"), file.with_name("tokenizer.json"))
    return file


def test_it_starts_from_a_vision_encoder_and_a_bert(pretrain_recipe: Build, tmp_path: Path) -> None:
    """BERT's self-attention is that of encoder and decoder."""
    captioner = make_captioner()
    init = save_encoders(tmp_path, captioner)
    sizes = replace(ModelSettings.from_config(captioner.config), prompt=None)
    state = prepare_run(pretrain_recipe(init=init, model=sizes)).model.state_dict()
    expected = captioner.model.state_dict()
    for name in ("vision.blocks.1.attn.qkv.weight", "text.lm_head.dense.weight", OWN[0]):
        assert torch.equal(state[name], expected[name])
    assert torch.equal(state["text.layers.0.decoder.self_attn.qkv.weight"], expected[OWN[0]])


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16", **MOMENTUM},
        {"lora": LoraConfig(rank=2)},
        CACHED | MOMENTUM,
        {"match_negatives": "image", "data_captions_per_image": 1, "optim_layer_decay": 0.7},
        CHECKPOINTED,
        {"eval_select_by": "loss", **MOMENTUM},
        {"data_val": "", "data_val_fraction": 0.0},
    ],
    ids=str,
)
def test_what_works_for_both_alone_works(
    pretrain_recipe: Build, settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where embeddings are cached
    run = pretrain_recipe(optim_epochs=1, **settings)
    before = {name: weight.clone() for name, weight in prepare_run(run).model.state_dict().items()}
    best = train(run, show_progress=False)
    after = load_checkpoint(best).weights | load_matcher_checkpoint(best).weights
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert {"itm_head.weight", "text_proj.weight", OWN[0]} <= changed
    attention = load_checkpoint(best).weights[OWN[0]]
    assert not torch.equal(attention, before["text.layers.0.decoder.self_attn.qkv.weight"])
    assert any(name.startswith("vision.") for name in changed) == ("optim_freeze" not in settings)


def test_the_product_of_both_scores_selects_the_best(pretrain_recipe: Build) -> None:
    best = train(pretrain_recipe(optim_lr=3e-3, optim_epochs=3), show_progress=False)
    evaluations = [line for line in read_log(best.parent / "log.jsonl") if "train_loss" in line]
    scores = [line["recall_mean"] * (line["cider"] + line["bleu4"]) for line in evaluations]
    for number, line in enumerate(evaluations):
        assert line["best"] == (scores[number] > max(scores[:number], default=-1))


def test_prompts_in_the_data_are_not_read(pretrain_recipe: Build, scenes: Path) -> None:
    data = scenes.parent / "prompts.jsonl"
    image = scenes.parent / "scene-000000.png"
    data.write_text(f'{{"image": "{image}", "caption": "a red star", "prompt": "look at"}}\n')
    run = pretrain_recipe(data_train=str(data), data_val=str(data), optim_max_steps=1)
    assert "[CLS] a r ##e ##d s " in inspect_first_batch(run)
    train(run, show_progress=False)


REFUSED = {
    "model.prompt": {"model_prompt": "a"},
    "data.prompt_column": {"data_prompt_column": "x"},
    "data.prompt_template": {"data_prompt_template": "{x}"},
}


@pytest.mark.parametrize(("name", "changes"), REFUSED.items(), ids=REFUSED)
def test_prompts_are_refused(pretrain_recipe: Build, name: str, changes: dict) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` has no effect with `task: pretrain`"):
        pretrain_recipe(**changes)


def test_captions_must_be_possible(pretrain_recipe: Build) -> None:
    assert pretrain_recipe().data.max_tokens == 30
    generation = replace(pretrain_recipe().generation, max_length=60)
    with pytest.raises(ConfigError, match=r"generation\.max_length 60 is above the model's 48"):
        prepare_run(pretrain_recipe(generation=generation))


def test_diagnostics_know_three_losses(pretrain_recipe: Build) -> None:
    run = pretrain_recipe(**MOMENTUM)
    result = dry_run(run)
    assert f"chance level is ln(5) + ln(2) + ln({result.vocab_size}) = " in str(result)
    best = train(run, show_progress=False)
    assert result.loss == read_log(best.parent / "log.jsonl")[0]["loss"]
    files = [best.parent / "state.safetensors"] * 2 + [*best.parent.glob("*/*/model.safetensors")]
    size = sum(file.stat().st_size for file in files)
    assert result.needed_disk < size < 1.1 * result.needed_disk
    assert " lm " in inspect_first_batch(run)
    curve = run_lr_range_test(run, 1e-6, 1e-3, steps=10, show_progress=False)
    assert len(curve.losses) == 10


@pytest.mark.slow
def test_overfitting_captions_each_image(pretrain_recipe: Build) -> None:
    result = overfit(pretrain_recipe(optim_lr=3e-3, **NO_DROPOUT), show_progress=False)
    assert result.success
    assert "  generated  " in str(result)
