"""On a GPU: captions are those of the CPU, and training lowers the loss."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from random_captioner import draw_images, make_captioner
from test_scheduler import stress

from cutline.captioner import Captioner
from cutline.config import (
    DataConfig,
    Engine,
    EvalConfig,
    LoraConfig,
    MemoryConfig,
    ModelSettings,
    OptimConfig,
    Recipe,
    TextSettings,
    VisionSettings,
)
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.model import CaptionModel
from cutline.training import read_log, train

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 1},
        {"sample": True, "seed": 3},
        {"num_beams": 4, "repetition_penalty": 1.3},
    ],
)
@pytest.mark.parametrize("engine", ["eager", "packed", "compiled"])
def test_captions_are_those_of_the_cpu(settings: dict[str, Any], engine: Engine) -> None:
    """Covers CUDA graphs (packed), new images in freed slots, and the cache of an earlier call."""
    on_cpu, images = make_captioner(), draw_images(7)
    on_gpu = Captioner(copy.deepcopy(on_cpu.model), on_cpu.tokenizer, "cuda", "fp32", engine)
    prompts = ["", "a red ", "the", "a", "one two three ", "a picture of ", ""]
    expected = on_cpu.caption(images, prompts, **settings)
    for batch_size in (8, 3, 3, 1):
        captions = on_gpu.caption(images, prompts, batch_size=batch_size, **settings)
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in expected
        ]


@pytest.mark.parametrize("engine", ["eager", "packed", "compiled"])
def test_captions_of_merged_tokens_are_those_of_the_cpu(engine: Engine) -> None:
    """Covers the sizes of merged tokens in CUDA graphs."""
    plain, images = make_captioner(), draw_images(7)
    model = CaptionModel(replace(plain.config, merge_tokens=1))
    model.load_state_dict(plain.model.state_dict())
    on_cpu = Captioner(copy.deepcopy(model), plain.tokenizer, "cpu", "fp32")
    on_gpu = Captioner(model, plain.tokenizer, "cuda", "fp32", engine)
    expected = [caption.token_ids for caption in on_cpu.caption(images)]
    for batch_size in (8, 3):
        captions = on_gpu.caption(images, batch_size=batch_size)
        assert [caption.token_ids for caption in captions] == expected


@pytest.mark.parametrize("engine", ["eager", "packed", "compiled"])
def test_requests_from_many_threads_get_their_own_captions(engine: Engine) -> None:
    """Covers CUDA graphs with padded beams, and captures while other threads wait."""
    stress(engine, "cuda")


def make_recipe(folder: Path) -> Recipe:
    """Return a recipe that trains a small model on drawn scenes."""
    scenes = write_scenes(folder / "scenes", make_scenes(20, seed=3), size=32)
    return Recipe(
        output=str(folder / "run"),
        device="cuda",
        precision="fp32",
        log_every=1,
        model=ModelSettings(
            vision=VisionSettings(image_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2),
            text=TextSettings(embed_dim=32, depth=2, num_heads=2, mlp_dim=64, max_positions=48),
        ),
        data=DataConfig(train=str(scenes), val=str(scenes), num_workers=2),
        optim=OptimConfig(batch_size=10, epochs=10, lr=3e-3),
        eval=EvalConfig(every_epochs=10),
    )


def train_losses(recipe: Recipe) -> list[float]:
    """Train and return the losses."""
    lines = read_log(train(recipe, show_progress=False).parent / "log.jsonl")
    assert all(line["memory_gb"] > 0 for line in lines if "memory_gb" in line)
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["ema", "lora", "compile", "no checkpointing"])
def test_training_lowers_the_loss(tmp_path: Path, precision: str, variant: str) -> None:
    recipe = replace(make_recipe(tmp_path), precision=precision)
    changes: dict[str, Any] = {
        "ema": {"optim": replace(recipe.optim, ema_decay=0.9)},
        "lora": {
            "lora": LoraConfig(rank=8, targets=("*",)),
            "optim": replace(recipe.optim, lr=3e-2),
        },
        "compile": {"compile": True},
        "no checkpointing": {"memory": MemoryConfig(selective_checkpointing=False)},
    }[variant]
    losses = train_losses(replace(recipe, **changes))
    # an update of rank 8 to random weights cannot lower the loss as much
    assert losses[-1] < (0.95 if variant == "lora" else 0.9) * losses[0]


def test_selective_checkpointing_does_not_change_losses(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    text = replace(recipe.model.text, dropout=0.0, attn_dropout=0.0)
    recipe = replace(recipe, model=replace(recipe.model, text=text))
    losses = []
    for selective in (False, True):
        memory = MemoryConfig(selective_checkpointing=selective)
        output = str(tmp_path / f"selective-{selective}")
        losses.append(train_losses(replace(recipe, memory=memory, output=output)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
