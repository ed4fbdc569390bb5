"""On a GPU: the captions of the CPU, and training that runs."""

import copy
from pathlib import Path

import pytest
import torch
from test_captioner import captioner, pictures  # noqa: F401  # fixtures

from cutline.captioner import Captioner
from cutline.config import CaptionConfig, DataConfig, Engine, EvalConfig, OptimConfig, Recipe, TextConfig, VisionConfig
from cutline.data.scenes import make_scenes, write_scenes
from cutline.training import read_log, train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


@pytest.mark.parametrize("settings", [{}, {"num_beams": 1}, {"sample": True, "seed": 3}, {"num_beams": 4, "repetition_penalty": 1.3}])
@pytest.mark.parametrize("engine", ["plain", "packed", "compiled"])
def test_captions_are_those_of_the_cpu(captioner: Captioner, pictures: list, settings: dict, engine: Engine) -> None:  # noqa: F811
    """Also with recorded steps (packed), newcomers taking the places of others, and the memory of the call before."""
    on_gpu = Captioner(copy.deepcopy(captioner.model), captioner.tokenizer, "cuda", "fp32", engine)
    prompts = ["", "a red ", "the", "a", "one two three ", "a picture of ", ""]
    theirs = captioner.caption(pictures, prompts, **settings)
    for batch_size in (8, 3, 3, 1):
        ours = on_gpu.caption(pictures, prompts, batch_size=batch_size, **settings)
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
