"""Training a captioner that merges tokens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_recipe import NO_DROPOUT

import cutline
from cutline.config import CaptionConfig, ModelSettings, Recipe, TextConfig, VisionConfig
from cutline.model import CaptionModel
from cutline.training import read_log, train
from cutline.training.data.embeddings import fingerprint_encoder
from cutline.training.loop.trainer import Trainer

Build = Callable[..., Recipe]


def test_a_run_resumes_exactly_and_its_captioner_merges(
    recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What merges depends on the weights, so that a resumed run would soon show a difference."""
    changes = {"model_merge_tokens": 1, "vision_patch_size": 8, "optim_epochs": 1}
    whole, stopped = (recipe(output=str(tmp_path / name), **changes) for name in ("whole", "two"))
    train(whole, show_progress=False)
    check = Trainer.check_finite

    def stop(self: Trainer, loss: float, norm: float) -> None:
        check(self, loss, norm)
        if self.state.step == 2:
            raise cutline.CutlineError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "check_finite", stop)
        with pytest.raises(cutline.CutlineError, match="stopped"):
            train(replace(stopped, save_minutes=0.0), show_progress=False)
    best = train(stopped, resume=True, show_progress=False)
    states = [load_file(Path(run.output) / "state.safetensors") for run in (whole, stopped)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    captioner = cutline.load(best, "cpu", "fp32")
    assert captioner.config.merge_tokens == 1
    assert captioner.model.embeds_shape == (15, 33)

    # Fine-tuning keeps the setting, unless the recipe has another one.
    assert ModelSettings().override(captioner.config).merge_tokens == 1
    assert ModelSettings(merge_tokens=0).override(captioner.config).merge_tokens == 0


def test_embeddings_are_cached_for_one_number_of_merged_tokens() -> None:
    vision = VisionConfig(image_size=32, embed_dim=24, depth=1)
    text = TextConfig(vocab_size=9, embed_dim=24, depth=1, mlp_dim=24, max_positions=8)
    config = CaptionConfig(vision=vision, text=text)
    models = [CaptionModel(replace(config, merge_tokens=number)) for number in (0, 1, 2)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    assert len({fingerprint_encoder(model, torch.float32) for model in models}) == 3


def test_the_loss_is_that_of_the_captioner_that_merges(recipe: Build, tmp_path: Path) -> None:
    changes = {**NO_DROPOUT, "data_augment": False, "optim_max_steps": 1, "vision_patch_size": 8}
    losses = []
    for number in (0, 3):
        run = recipe(output=str(tmp_path / str(number)), model_merge_tokens=number, **changes)
        train(run, show_progress=False)
        losses.append(read_log(Path(run.output) / "log.jsonl")[0]["loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
