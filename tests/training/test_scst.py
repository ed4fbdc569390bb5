"""Runs of self-critical sequence training."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from equal_runs import assert_equal_files, read_numbers
from interruption import train_interrupted
from processes import launch
from random_captioner import make_captioner
from random_matcher import save_matcher
from safetensors.torch import load_file, save_file
from tiny_recipe import CACHED, CHECKPOINTED, tiny_recipe
from torch import Tensor
from torch.testing import assert_close

import cutline
from cutline.checkpoint import Checkpoint, load_checkpoint, save_native
from cutline.config import InitConfig, LoraConfig, ModelSettings, Recipe, TextSettings
from cutline.errors import ConfigError, CutlineError
from cutline.training import (
    dry_run,
    inspect_first_batch,
    overfit,
    read_log,
    run_lr_range_test,
    train,
)
from cutline.training.data.caption_batch import count_scored
from cutline.training.data.scst_batch import ScstBatch
from cutline.training.diagnostics.session import make_trainer
from cutline.training.setup import prepare_run
from cutline.training.tasks.scst import ScstTask

Build = Callable[..., Recipe]
VALUES = ("reward", "baseline", "caption_length", "unfinished", "distinct1", "distinct2")
TOTALS = re.compile(r"(\d+) scored tokens, summed loss ([\d.]+), mean ([\d.]+)")
GUARDED = {"scst_lm_weight": 0.5, "scst_kl_weight": 0.1}
"""changes that add the terms of the loss which keep the captioner close to its captions"""


@pytest.fixture(scope="session")
def start(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a captioner that has seen the scenes for a second."""
    output = tmp_path_factory.mktemp("start") / "run"
    return train(
        tiny_recipe(
            scenes,
            output,
            optim_lr=1e-2,
            optim_epochs=8,
            eval_every_epochs=8,
            eval_select_by="loss",
        ),
        show_progress=False,
    )


@pytest.fixture
def scst_recipe(start: Path, recipe: Build) -> Build:
    """Return a function that builds a recipe; see `tiny_recipe`."""

    def build(**changes: object) -> Recipe:
        settings = {"init": InitConfig(captioner=str(start)), "model": ModelSettings()}
        return recipe(**{"task": "scst", **settings, **changes})

    return build


def read_training(run: Recipe) -> list[dict[str, float]]:
    return [line for line in read_log(Path(run.output) / "log.jsonl") if "loss" in line]


def test_a_run_writes_what_a_run_of_captions_does(
    scst_recipe: Build, recipe: Build, start: Path, tmp_path: Path
) -> None:
    run = scst_recipe(tensorboard="on", eval_before_training=True, **GUARDED)
    best = train(run, show_progress=False)
    lines = read_training(run)
    assert len(lines) == 8
    for line in lines:
        assert line.keys() >= {*VALUES, "kl", "lm"}
        assert 0 <= line["unfinished"] <= 1 >= line["distinct1"] > 0 < line["distinct2"] <= 1
        expected = -line["reward"] + 0.1 * line["kl"] + 0.5 * line["lm"]
        assert line["loss"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert line["baseline"] == pytest.approx(line["reward"] - 0.1 * line["kl"], abs=1e-5)
    assert abs(lines[0]["kl"]) < 1e-5  # of the initial model from itself
    assert lines[-1]["kl"] != lines[0]["kl"]
    cutline.load(best).caption([torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()])
    assert load_checkpoint(best).config == load_checkpoint(start).config  # with its dropout
    page = (best.parent / "report.html").read_text()
    for title in (
        "Reward",
        "Samples without an end token",
        "Distinct-2 of an image's samples",
        "self-critical sequence training",
        "per caption",
    ):
        assert title.replace("'", "&#39;") in page or title in page
    assert "has overfitted" not in page
    caption = recipe(
        output=str(tmp_path / "caption"),
        init=run.init,
        model=ModelSettings(),
        eval_before_training=True,
        optim_max_steps=1,
    )
    train(caption, show_progress=False)
    before, expected = (read_log(Path(each.output) / "log.jsonl")[0] for each in (run, caption))
    assert before == expected  # LM loss and metrics of the initial weights


@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
def test_the_loss_of_a_batch(scst_recipe: Build, baseline: str) -> None:
    """With captions, its value and gradient are those of a loop over images and samples."""
    run = scst_recipe(
        scst_baseline=baseline, scst_num_samples=3, data_captions_per_image=2, scst_lm_weight=0.5
    )
    setup = prepare_run(run)
    trainer, task = make_trainer(run, setup), setup.task
    assert isinstance(task, ScstTask)
    [batch] = next(trainer.read_steps())
    assert isinstance(batch, ScstBatch)
    assert batch.num_targets == 15
    model = trainer.model

    def measure(embeds: Tensor, image: int, greedy: bool) -> list[tuple[Tensor, float]]:
        """Return log-probability and reward of each caption of an image."""
        inputs = (embeds[None], batch.prompts[image : image + 1])
        if greedy:
            samples = task.sampler.search_greedily(model, *inputs)
        else:
            samples = task.sampler.sample(model, *inputs, batch.seeds[image : image + 1], 3)
        log_probs = samples.compute_log_probs(model, embeds[None])[0]
        references = batch.references[image]
        rewards = [
            task.reward.compute_from_ngrams(each, references) for each in samples.captions[0]
        ]
        return list(zip(log_probs, rewards, strict=True))

    expected, surrogate = torch.zeros(()), torch.zeros(())
    pixels = cutline.image.normalize(batch.pixels, model.config.image)
    for image, embeds in enumerate(model.vision(pixels)):
        found = measure(embeds, image, greedy=False)
        for number, (log_prob, reward) in enumerate(found):
            others = [reward for other, (_, reward) in enumerate(found) if other != number]
            if baseline == "greedy":
                others = [reward for _, reward in measure(embeds, image, greedy=True)]
            expected -= reward
            surrogate -= (reward - fmean(others)) * log_prob
        rows = slice(2 * image, 2 * image + 2)
        inputs = (batch.input_ids[rows], batch.attention_mask[rows], batch.labels[rows])
        lm = model(None, *inputs, "mean", image_embeds=embeds[None]).loss
        expected, surrogate = expected + 3 * 0.5 * lm.detach(), surrogate + 3 * 0.5 * lm
    surrogate.backward()
    expected_gradients = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    loss = trainer.compute_loss(model, batch)
    loss.loss.backward()
    assert_close(loss.loss.detach(), expected, rtol=1e-4, atol=1e-5)
    assert float(loss.values["reward"]) > 0.1
    for name, weight in model.named_parameters():
        assert_close(weight.grad, expected_gradients[name], rtol=1e-3, atol=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(scst_recipe: Build, tmp_path: Path) -> None:
    settings = {"optim_ema_decay": 0.9, "optim_grad_accum_steps": 2, "log_every": 3, **GUARDED}
    settings["eval_select_by"] = "loss"
    full, resumed = (
        scst_recipe(output=str(tmp_path / name), **settings) for name in ("full", "resumed")
    )
    train(full, show_progress=False)
    train_interrupted(resumed, 2)
    train(resumed, resume=True, show_progress=False)
    assert read_numbers(resumed) == read_numbers(full)
    assert_equal_files(full, resumed, "state.safetensors", "best/model.safetensors")


@pytest.mark.parametrize(
    ("num_processes", "batch_size", "num_batches"),
    [(1, 2, 4), pytest.param(2, 2, 2, marks=pytest.mark.slow)],
)
def test_batches_and_processes_do_not_change_a_run(
    scst_recipe: Build, tmp_path: Path, num_processes: int, batch_size: int, num_batches: int
) -> None:
    """One image has fewer captions than others, and another one cannot be read."""
    run = scst_recipe(data_captions_per_image=2, optim_batch_size=8, optim_epochs=1, **GUARDED)
    scenes = Path(run.data.train)
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    rows = [{**row, "file_name": str(scenes.parent / row["file_name"])} for row in rows]
    rows[2]["captions"] = rows[2]["captions"][:1]
    rows[3]["file_name"] = "missing.png"
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    run = replace(run, data=replace(run.data, train=str(data), val=str(data)))
    optim = replace(run.optim, batch_size=batch_size, grad_accum_steps=num_batches)
    divided = replace(run, output=str(tmp_path / "divided"), optim=optim)
    train(run, show_progress=False)
    if num_processes == 1:
        train(divided, show_progress=False)
    else:
        launch([(divided, False, 0)], tmp_path, num_processes)
    for line, expected in zip(read_numbers(divided), read_numbers(run), strict=True):
        texts = {"samples", "skipped"} & expected.keys()
        assert {name: line.pop(name) for name in texts} == {name: expected[name] for name in texts}
        numbers = {name: value for name, value in expected.items() if name not in texts}
        assert line == pytest.approx(numbers, rel=1e-4, abs=1e-5)
    weights, expected_weights = (
        load_file(Path(each.output) / "last/model.safetensors") for each in (divided, run)
    )
    for name, weight in weights.items():
        assert_close(weight, expected_weights[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("bias", "unfinished"), [(100.0, 0.0), (-100.0, 1.0)], ids=["finished", "unfinished"]
)
def test_a_saturated_model_gets_no_gradient(
    scst_recipe: Build, tmp_path: Path, bias: float, unfinished: float
) -> None:
    """All of its samples are equal: they are empty, or a word without end."""
    captioner = make_captioner()
    weights = captioner.model.state_dict()
    weights["text.lm_head.bias"][captioner.tokenizer.sep_id] = bias
    weights["text.lm_head.bias"][20] = 50.0
    save_native(tmp_path / "model", Checkpoint(captioner.config, weights, captioner.tokenizer))
    init = InitConfig(captioner=str(tmp_path / "model"))
    run = scst_recipe(init=init, optim_max_steps=2, optim_weight_decay=0.0)
    best = train(run, show_progress=False)
    for line in read_training(run):
        assert (line["grad_norm"], line["unfinished"]) == (0, unfinished)
        assert (line["caption_length"] > 0) == bool(unfinished)
    for name, weight in load_file(best / "model.safetensors").items():
        assert torch.equal(weight, weights[name])


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16", "scst_baseline": "greedy"},
        {"lora": LoraConfig(rank=2)},
        CACHED | GUARDED,
        CHECKPOINTED | GUARDED,
        {"scst_baseline": "greedy", "scst_num_samples": 1, "scst_bleu4_weight": 2.0},
        pytest.param(
            {"data_val": "", "data_val_fraction": 0.0, "data_num_workers": 1},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"eval_select_by": "loss", "eval_metric_tokenizer": "words"}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_what_works_for_captions_works(
    scst_recipe: Build, settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where embeddings are cached
    run = scst_recipe(optim_max_steps=2, **settings)
    before = load_file(Path(run.init.captioner) / "model.safetensors")
    after = load_file(train(run, show_progress=False) / "model.safetensors")
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert any(name.startswith("text.layers.") for name in changed)
    assert any(name.startswith("vision.") for name in changed) == ("optim_freeze" not in settings)


@pytest.mark.parametrize("image_size", [32, pytest.param(48, marks=pytest.mark.slow)])
def test_the_match_probability_is_part_of_the_reward(
    scst_recipe: Build, tmp_path: Path, image_size: int
) -> None:
    """Its probabilities are those of texts and images as the captioner sees them."""
    matcher = save_matcher(tmp_path / "matcher", image_size)
    weights = {"scst_cider_weight": 0.0, "scst_matcher_weight": 2.0}
    path = str(tmp_path / "matcher")
    run = scst_recipe(data_augment=False, scst_matcher=path, **weights, scst_num_samples=2)
    setup = prepare_run(run)
    trainer, task = make_trainer(run, setup), setup.task
    assert isinstance(task, ScstTask)
    [batch] = next(trainer.read_steps())
    assert isinstance(batch, ScstBatch)
    embeds = trainer.model.vision(cutline.image.normalize(batch.pixels, trainer.model.config.image))
    samples = task.sampler.sample(trainer.model, embeds, batch.prompts, batch.seeds, 2)
    images = [pixels.permute(1, 2, 0).numpy() for pixels in batch.pixels for _ in range(2)]
    texts = [caption.text for row in samples.captions for caption in row]
    expected = 2 * matcher.match(images, texts)
    tolerance = 1e-5 if image_size == 32 else 0.02  # it resizes as PIL does, nearly
    actual = task.reward.compute(samples.captions, batch.references, batch.pixels)
    assert_close(actual.flatten(), expected, rtol=0, atol=2 * tolerance)
    assert float(actual.std()) > 0.01
    train(replace(run, optim=replace(run.optim, max_steps=1)), show_progress=False)


def test_diagnostics(scst_recipe: Build) -> None:
    run = scst_recipe(**GUARDED)
    result = dry_run(run)
    assert f"per caption; chance level is 0.5 x ln({result.vocab_size})" in str(result)
    train(run, show_progress=False)
    assert result.loss == read_training(run)[0]["loss"]
    numbers = TOTALS.search(inspect_first_batch(run))
    assert numbers
    count, total, mean = map(float, numbers.groups())
    [batch] = next(make_trainer(run, prepare_run(run)).read_steps())
    assert isinstance(batch, ScstBatch)
    assert count == count_scored(batch.labels).sum() != batch.num_targets
    assert mean == pytest.approx(total / count, abs=1e-4)
    curve = run_lr_range_test(scst_recipe(), 1e-6, 1e-3, steps=10, show_progress=False)
    assert max(curve.losses) < 0  # minus the reward
    assert not curve.diverged


def test_the_first_loss_is_compared_with_that_without_reward(scst_recipe: Build) -> None:
    assert "chance level is that without reward = 0.000" in str(dry_run(scst_recipe()))


@pytest.mark.slow
def test_overfitting_teaches_captions(scst_recipe: Build) -> None:
    result = overfit(scst_recipe(optim_lr=3e-3), show_progress=False)
    assert result.unit == "token"
    assert result.success


def test_a_run_that_diverges_stops(scst_recipe: Build) -> None:
    with pytest.raises(CutlineError, match=r"lower `optim\.lr`"):
        train(scst_recipe(optim_lr=1e30, optim_epochs=3), show_progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
def test_the_reward_rises(scst_recipe: Build, baseline: str) -> None:
    run = scst_recipe(optim_lr=1e-3, optim_epochs=40, scst_baseline=baseline)
    train(run, show_progress=False)
    rewards = [line["reward"] for line in read_training(run)]
    assert fmean(rewards[-20:]) > 1.2 * fmean(rewards[:20])


def test_processes_that_load_data_get_no_models(scst_recipe: Build) -> None:
    setup = prepare_run(scst_recipe(scst_kl_weight=0.1))
    assert vars(pickle.loads(pickle.dumps(setup.task))) == {"recipe": setup.task.recipe}


REFUSED = {
    "set `init.captioner`": {"init": InitConfig()},
    "`init.matcher` needs `task: match`": {"init": InitConfig(matcher="matcher")},
    "`model.text.dropout` and `task: scst` exclude each other": {
        "model": ModelSettings(text=TextSettings(dropout=0.1))
    },
    "`lora.dropout` and `task: scst`": {"lora": LoraConfig(rank=2, dropout=0.1)},
    "`data.stream` and `task: scst`": {"data_stream": True, "data_samples_per_epoch": 5},
    "`distributed.fsdp` and `task: scst`": {"distributed_fsdp": True},
    "`data.cache_embeddings` and `task: scst`": {
        **CACHED,
        "scst_matcher": "matcher",
        "scst_matcher_weight": 1.0,
    },
    "`scst.matcher_weight` and `scst.matcher` go together": {"scst_matcher": "matcher"},
    "`scst.num_samples` 1 leaves no other sample": {"scst_num_samples": 1},
    "the reward is always 0": {"scst_cider_weight": 0.0},
    "num_samples must be at least 1": {"scst_num_samples": 0},
    "kl_weight must be at least 0": {"scst_kl_weight": -1.0},
    "the settings of `scst` need `task: scst`": {"task": "caption", "scst_num_samples": 3},
}


@pytest.mark.parametrize(("message", "changes"), REFUSED.items(), ids=REFUSED)
def test_settings_that_make_no_sense_are_refused(
    scst_recipe: Build, message: str, changes: dict
) -> None:
    with pytest.raises(ConfigError) as raised:
        scst_recipe(**changes)
    assert message in str(raised.value)


def test_a_run_does_not_resume_with_another_model_in_its_loss(
    scst_recipe: Build, start: Path, tmp_path: Path
) -> None:
    """A captioner that only gave the initial weights may change."""
    paths = {name: tmp_path / name for name in ("captioner", "matcher")}
    shutil.copytree(start, paths["captioner"])
    save_matcher(paths["matcher"])
    weights = {"scst_matcher_weight": 1.0, "scst_matcher": str(paths["matcher"])}
    init = InitConfig(captioner=str(paths["captioner"]))
    runs = {
        weight: scst_recipe(
            output=str(tmp_path / f"kl-{weight}"), init=init, scst_kl_weight=weight, **weights
        )
        for weight in (0.0, 0.1)
    }
    for run in runs.values():
        train_interrupted(run, 1)
    change_weights(paths["captioner"])
    with pytest.raises(ConfigError, match=r"the model of `init\.captioner` has changed since"):
        train(runs[0.1], resume=True, show_progress=False)
    change_weights(paths["matcher"])
    with pytest.raises(ConfigError, match=r"the model of `scst\.matcher` has changed since"):
        train(runs[0.0], resume=True, show_progress=False)
    shutil.rmtree(paths["matcher"])
    save_matcher(paths["matcher"])
    train(runs[0.0], resume=True, show_progress=False)


def change_weights(folder: Path) -> None:
    """Change the weights of a model in a folder, as more training would."""
    file = folder / "model.safetensors"
    save_file({name: 1.01 * weight for name, weight in load_file(file).items()}, file)


def test_prompts_that_max_tokens_cuts_are_refused(scst_recipe: Build) -> None:
    """The prompt, "a picture of ", has 4 tokens; the samples would begin with [SEP]."""
    data = {"data_val": "", "data_val_fraction": 0.0}
    with pytest.raises(ConfigError, match=r"max_tokens 4 cuts the longest prompt, of 4 tokens"):
        prepare_run(scst_recipe(data_max_tokens=4, **data))
    prepare_run(scst_recipe(data_max_tokens=6, **data))


def test_errors_name_the_setting(scst_recipe: Build) -> None:
    with pytest.raises(CutlineError, match=r"`scst\.matcher`"):
        prepare_run(scst_recipe(scst_matcher="no/such", scst_matcher_weight=1.0))
    generation = replace(scst_recipe().generation, max_length=4, min_length=0)
    with pytest.raises(CutlineError, match=r"max_length.* leaves no room for a caption"):
        prepare_run(scst_recipe(generation=generation, data_val_fraction=0.0, data_val=""))
