"""On a GPU: the captions of the CPU, and training that runs."""

import copy
from pathlib import Path

import pytest
import torch
from test_captioner import captioner, pictures  # fixtures

from cutline.captioner import Captioner
from cutline.config import (
    CaptionConfig,
    DataConfig,
    Engine,
    EvalConfig,
    LoraConfig,
    OptimConfig,
    Recipe,
    TextConfig,
    VisionConfig,
)
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.training import read_log, train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 1},
        {"sample": True, "seed": 3},
        {"num_beams": 4, "repetition_penalty": 1.3},
    ],
)
@pytest.mark.parametrize("engine", ["plain", "packed", "compiled"])
def test_captions_are_those_of_the_cpu(
    captioner: Captioner, pictures: list, settings: dict, engine: Engine
) -> None:
    """Also with recorded steps (packed), newcomers taking the places of others, and the memory of the call before."""
    on_gpu = Captioner(copy.deepcopy(captioner.model), captioner.tokenizer, "cuda", "fp32", engine)
    prompts = ["", "a red ", "the", "a", "one two three ", "a picture of ", ""]
    theirs = captioner.caption(pictures, prompts, **settings)
    for batch_size in (8, 3, 3, 1):
        ours = on_gpu.caption(pictures, prompts, batch_size=batch_size, **settings)
        assert [caption.token_ids for caption in ours] == [caption.token_ids for caption in theirs]


def train_on_gpu(folder: Path, precision: str = "fp32", **settings: object) -> list[float]:
    """The losses of a short run."""
    scenes = write_scenes(folder / "scenes", make_scenes(20, seed=3), size=32)
    run = Recipe(
        output=str(folder / "run"),
        device="cuda",
        precision=precision,  # type: ignore[arg-type]
        log_every=1,
        model=CaptionConfig(
            vision=VisionConfig(image_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2),
            text=TextConfig(embed_dim=32, depth=2, num_heads=2, mlp_dim=64, max_positions=48),
        ),
        data=DataConfig(train=str(scenes), val=str(scenes), num_workers=2),
        optim=OptimConfig(batch_size=10, epochs=10, lr=3e-3, **settings),  # type: ignore[arg-type]
        eval=EvalConfig(every=10),
    )
    lines = read_log(train(run, show_progress=False).parent / "log.jsonl")
    assert all(line["memory_gb"] > 0 for line in lines if "memory_gb" in line)
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "settings",
    [
        {"ema_decay": 0.9},
        {"lora": LoraConfig(rank=8, targets=("*",))},
        {"compile": True},
        {"recompute_cheap": False},
    ],
)
def test_training_runs_and_learns(
    tmp_path: Path, precision: str, settings: dict[str, object]
) -> None:
    losses = train_on_gpu(tmp_path, precision, **settings)
    assert losses[-1] < 0.9 * losses[0]


def test_what_is_recomputed_changes_no_loss(tmp_path: Path) -> None:
    settings: dict[str, object] = {"dropout": 0.0}
    plain = train_on_gpu(tmp_path / "plain", recompute_cheap=False, **settings)
    assert train_on_gpu(tmp_path / "cheap", **settings) == pytest.approx(plain, rel=1e-3)
