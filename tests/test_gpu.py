"""On a GPU: the captions of the CPU, and training that runs."""

import copy
from pathlib import Path

import pytest
import torch
from test_captioner import captioner, pictures  # noqa: F401  # fixtures

from cutline.captioner import Captioner
from cutline.config import CaptionConfig, DataConfig, EvalConfig, OptimConfig, Recipe, TextConfig, VisionConfig
from cutline.data.scenes import make_scenes, write_scenes
from cutline.training import read_log, train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


@pytest.mark.parametrize("settings", [{}, {"num_beams": 1}, {"sample": True, "seed": 3}, {"num_beams": 4, "repetition_penalty": 1.3}])
def test_captions_are_those_of_the_cpu(captioner: Captioner, pictures: list, settings: dict) -> None:  # noqa: F811
    on_gpu = Captioner(copy.deepcopy(captioner.model), captioner.tokenizer, "cuda", "fp32")
    prompts = ["", "a red ", "the", "a", "one two three ", "a picture of ", ""]
    ours, theirs = (one.caption(pictures, prompts, **settings) for one in (on_gpu, captioner))
    assert [caption.token_ids for caption in ours] == [caption.token_ids for caption in theirs]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_runs_and_learns(tmp_path: Path, precision: str) -> None:
    scenes = write_scenes(tmp_path / "scenes", make_scenes(20, seed=3), size=32)
    run = Recipe(
        output=str(tmp_path / "run"),
        device="cuda",
        precision=precision,  # type: ignore[arg-type]
        log_every=1,
        model=CaptionConfig(
            vision=VisionConfig(image_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2),
            text=TextConfig(embed_dim=32, depth=2, num_heads=2, mlp_dim=64, max_positions=48),
        ),
        data=DataConfig(train=str(scenes), val=str(scenes), num_workers=2),
        optim=OptimConfig(batch_size=10, epochs=10, lr=3e-3, ema_decay=0.9),
        eval=EvalConfig(every=10),
    )
    losses = [line["loss"] for line in read_log(train(run, show_progress=False).parent / "log.jsonl") if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
