"""Several real processes train as one does."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from processes import launch
from safetensors.torch import load_file
from tars import write_tar
from tiny_recipe import NO_DROPOUT, tiny_recipe

from cutline.config import InitConfig, LoraConfig, Recipe
from cutline.tokenizer import Tokenizer
from cutline.training import read_log, train

OFF = {
    **NO_DROPOUT,
    "optim_epochs": 2,
    "optim_lr": 1e-3,
    "optim_ema_decay": 0.9,
    "eval_max_images": 5,
}
LORA = LoraConfig(rank=2, targets=("*.qkv", "text.*.fc1"))
LAYOUTS = {
    "1x8": {"optim_batch_size": 8},
    "4x2": {"optim_batch_size": 2, "optim_grad_accum_steps": 4},
    "2x4": {"optim_batch_size": 4},
    "2x2x2": {"optim_batch_size": 2, "optim_grad_accum_steps": 2},
    "sharded": {"optim_batch_size": 4, "distributed_fsdp": True},
    "lora 1x8": {"optim_batch_size": 8, "lora": LORA},
    "lora 2x4": {"optim_batch_size": 4, "lora": LORA},
    "lora sharded": {"optim_batch_size": 4, "lora": LORA, "distributed_fsdp": True},
    "2x4, stopped": {"optim_batch_size": 4},
    "sharded, stopped": {"optim_batch_size": 4, "distributed_fsdp": True},
}
if not hasattr(torch.cpu.Stream, "record_event"):  # PyTorch 2.6 shards on GPUs only
    LAYOUTS = {name: layout for name, layout in LAYOUTS.items() if "sharded" not in name}
ALONE = ("1x8", "4x2", "lora 1x8")
NUMBERS = ("loss", "grad_norm", "lr", "train_loss", "cider", "bleu4", "epoch")


def with_a_bad_image(scenes: Path, path: Path) -> Path:
    """Write the scenes with one unreadable image, which only one process reads."""
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    rows = [{**row, "file_name": str(scenes.parent / row["file_name"])} for row in rows]
    rows[3]["file_name"] = str(path.with_name("missing.png"))
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def broken_stream(folder: Path) -> Recipe:
    """Write two shards, the second of which is truncated in its header."""
    captions = "a red circle"
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    for number in range(2):
        members = {
            f"{key:03d}.{kind}": content
            for key in range(20)
            for kind, content in (("png", buffer.getvalue()), ("txt", captions))
        }
        write_tar(folder / "shards" / f"{number:03d}.tar", members)
    broken = folder / "shards" / "001.tar"
    broken.write_bytes(broken.read_bytes()[:7000])
    Tokenizer.train([captions, "an image of"] * 3, 60).save(folder / "tokenizer.json")
    stream = {
        "data_train": str(folder / "shards"),
        "data_stream": True,
        "data_samples_per_epoch": 40,
        "data_shuffle_buffer": 1,
    }
    start = InitConfig(tokenizer=str(folder / "tokenizer.json"))
    return tiny_recipe(
        folder / "data.jsonl", folder / "broken", init=start, optim_batch_size=2, **stream
    )


def test_all_layouts_train_alike(scenes: Path, tmp_path: Path) -> None:
    """Losses, gradient norms, evaluations and weights equal those of one process and batch."""
    data = with_a_bad_image(scenes, tmp_path / "data.jsonl")
    recipes = {
        name: tiny_recipe(data, tmp_path / name, **OFF, **layout)
        for name, layout in LAYOUTS.items()
    }
    for name in ALONE:
        train(recipes[name], show_progress=False)
    jobs = []
    for name in recipes.keys() - set(ALONE):
        stopped = "stopped" in name
        jobs += [(recipes[name], False, 3 * stopped), *[(recipes[name], True, 0)] * stopped]
    said = launch([*jobs, (broken_stream(tmp_path), False, 0)], tmp_path)
    num_stopped = sum("stopped" in name for name in LAYOUTS)
    assert said.count("stopped after step 3") == 2 * num_stopped  # two processes each
    assert (
        said.count("001.tar: the shard cannot be read") == 2
    )  # by one, and the other does not wait for it
    for name in recipes:
        one = "lora 1x8" if "lora" in name else "1x8"
        expected = read_log(tmp_path / one / "log.jsonl")
        assert [line["step"] for line in expected if "loss" in line] == [1, 2, 3, 4]
        assert sum("skipped" in line for line in expected) == 1
        for line, same in zip(expected, read_log(tmp_path / name / "log.jsonl"), strict=True):
            assert {key: same[key] for key in line if key in NUMBERS} == {
                key: pytest.approx(value, rel=1e-5) for key, value in line.items() if key in NUMBERS
            }, name
            assert same.get("samples") == line.get("samples")
        for file in ("best/model.safetensors", "state.safetensors"):
            weights, same = load_file(tmp_path / one / file), load_file(tmp_path / name / file)
            assert weights.keys() == same.keys()
            for key, weight in weights.items():
                torch.testing.assert_close(
                    same[key],
                    weight,
                    rtol=1e-4,
                    atol=2e-5,
                    msg=lambda text, key=key: f"{key}: {text}",
                )
