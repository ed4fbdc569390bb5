"""Several processes train as a single one does."""

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

SETTINGS = {
    **NO_DROPOUT,
    "memory_selective_checkpointing": True,
    "vision_depth": 1,
    "optim_epochs": 2,
    "optim_lr": 1e-3,
    "optim_ema_decay": 0.9,
    "eval_max_images": 5,
    "eval_before_training": True,
    "caption_bag_of_words_weight": 0.1,
}
LORA = LoraConfig(rank=2, targets=("*.qkv", "text.*.fc1"))
# processes x batch size, or processes x batch size x batches per step
CONFIGURATIONS = {
    "1x8": {"optim_batch_size": 8},
    "1x2x4": {"optim_batch_size": 2, "optim_grad_accum_steps": 4},
    "2x2x2": {"optim_batch_size": 2, "optim_grad_accum_steps": 2},
    "lora 1x8": {"optim_batch_size": 8, "lora": LORA},
    "lora fsdp": {"optim_batch_size": 4, "lora": LORA, "distributed_fsdp": True},
    "2x4, stopped": {"optim_batch_size": 4},
    "fsdp, stopped": {"optim_batch_size": 4, "distributed_fsdp": True},
}
MORE = {
    "2x4": {"optim_batch_size": 4},
    "fsdp": {"optim_batch_size": 4, "distributed_fsdp": True},
    "lora 2x4": {"optim_batch_size": 4, "lora": LORA},
}
if not hasattr(torch.cpu.Stream, "record_event"):  # PyTorch 2.6 shards on GPUs only
    CONFIGURATIONS = {
        name: changes for name, changes in CONFIGURATIONS.items() if "fsdp" not in name
    }
SINGLE_PROCESS = ("1x8", "1x2x4", "lora 1x8")
NUMBERS = (
    "loss",
    "lm",
    "bag_of_words",
    "grad_norm",
    "lr",
    "train_loss",
    "val_loss",
    "cider",
    "bleu4",
    "epoch",
)


def write_scenes_with_missing_image(scenes: Path, path: Path) -> Path:
    """Write the scenes with one missing image, which only one process reads."""
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    rows = [{**row, "file_name": str(scenes.parent / row["file_name"])} for row in rows]
    rows[3]["file_name"] = str(path.with_name("missing.png"))
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def make_broken_stream(folder: Path) -> Recipe:
    """Return a recipe that streams two shards, of which the second is truncated."""
    caption = "a red circle"
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    for number in range(2):
        members = {
            f"{key:03d}.{kind}": content
            for key in range(20)
            for kind, content in (("png", buffer.getvalue()), ("txt", caption))
        }
        write_tar(folder / "shards" / f"{number:03d}.tar", members)
    broken = folder / "shards" / "001.tar"
    broken.write_bytes(broken.read_bytes()[:7000])
    Tokenizer.train([caption, "a picture of"] * 3, 60).save(folder / "tokenizer.json")
    stream = {
        "data_train": str(folder / "shards"),
        "data_stream": True,
        "data_samples_per_epoch": 40,
        "data_shuffle_buffer": 1,
    }
    init = InitConfig(tokenizer=str(folder / "tokenizer.json"))
    return tiny_recipe(
        folder / "data.jsonl", folder / "broken", init=init, optim_batch_size=2, **stream
    )


def test_all_configurations_give_the_same_run(scenes: Path, tmp_path: Path) -> None:
    """Losses, gradient norms, evaluations and weights equal those of one process and batch."""
    data = write_scenes_with_missing_image(scenes, tmp_path / "data.jsonl")
    recipes = {
        name: tiny_recipe(data, tmp_path / name, **SETTINGS, **changes)
        for name, changes in CONFIGURATIONS.items()
    }
    for name in SINGLE_PROCESS:
        train(recipes[name], show_progress=False)
    jobs = []
    for name in recipes.keys() - set(SINGLE_PROCESS):
        if "stopped" in name:
            jobs += [(recipes[name], False, 3), (recipes[name], True, 0)]
        else:
            jobs.append((recipes[name], False, 0))
    diverged = CONFIGURATIONS.get("fsdp", {}) | SETTINGS | {"optim_lr": 1e30}
    jobs += [
        (make_broken_stream(tmp_path), False, 0),
        (tiny_recipe(data, tmp_path / "log", **SETTINGS), False, -2),
        (tiny_recipe(data, tmp_path / "diverged", **diverged), False, 0),
    ]
    output = launch(jobs, tmp_path)
    num_stopped = sum("stopped" in name for name in CONFIGURATIONS)
    assert output.count("stopped after step 3") == 2 * num_stopped  # two processes each
    # One process meets the broken shard, and both report it: neither waits for the other.
    assert output.count("001.tar: the shard cannot be read") == 2
    assert output.count("log.jsonl: cannot be written (Is a directory)") == 2
    assert output.count("no state was saved before") == 2
    for name in recipes:
        check_same_run(tmp_path / name, tmp_path / ("lora 1x8" if "lora" in name else "1x8"))


@pytest.mark.slow
@pytest.mark.skipif("fsdp, stopped" not in CONFIGURATIONS, reason="PyTorch 2.6 shards on GPUs only")
def test_more_configurations_give_the_same_run(scenes: Path, tmp_path: Path) -> None:
    """The test above stops and resumes two of them, and has shards with LoRA."""
    data = write_scenes_with_missing_image(scenes, tmp_path / "data.jsonl")
    configurations = {name: CONFIGURATIONS[name] for name in SINGLE_PROCESS} | MORE
    recipes = {
        name: tiny_recipe(data, tmp_path / name, **SETTINGS, **changes)
        for name, changes in configurations.items()
    }
    for name in SINGLE_PROCESS:
        train(recipes[name], show_progress=False)
    launch([(recipes[name], False, 0) for name in MORE], tmp_path)
    for name in MORE:
        check_same_run(tmp_path / name, tmp_path / ("lora 1x8" if "lora" in name else "1x8"))


def check_same_run(actual: Path, expected: Path) -> None:
    """Assert that two runs have the same log, weights and state."""
    expected_lines = read_log(expected / "log.jsonl")
    assert [line["step"] for line in expected_lines if "loss" in line] == [1, 2, 3, 4]
    assert sum("skipped" in line for line in expected_lines) == 1
    for expected_line, line in zip(expected_lines, read_log(actual / "log.jsonl"), strict=True):
        values = {key: value for key, value in expected_line.items() if key in NUMBERS}
        assert {key: line[key] for key in values} == pytest.approx(values, rel=1e-5), actual
        assert line.get("samples") == expected_line.get("samples")
    for file in ("best/model.safetensors", "state.safetensors"):
        expected_tensors, tensors = load_file(expected / file), load_file(actual / file)
        assert tensors.keys() == expected_tensors.keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                tensor,
                expected_tensors[name],
                rtol=1e-4,
                atol=2e-5,
                msg=lambda text, name=name: f"{name}: {text}",
            )
