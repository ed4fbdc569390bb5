"""Several processes train a matcher as a single one does, where negatives are certain."""

import json
from pathlib import Path

import pytest
import torch
from processes import launch
from safetensors.torch import load_file
from tiny_recipe import MATCH, MOMENTUM, NO_DROPOUT, PRETRAIN, tiny_recipe

from cutline.training import read_log, train

SETTINGS = NO_DROPOUT | {"optim_ema_decay": 0.9, "eval_max_images": 5, "optim_epochs": 1}
ALL_RANKS = {"optim_batch_size": 1, "match_negative_all_rank": True}
CONFIGURATIONS = {
    "2x1": ALL_RANKS,
    "2x1, stopped": ALL_RANKS,
    "fsdp": ALL_RANKS | {"distributed_fsdp": True},
}
if not hasattr(torch.cpu.Stream, "record_event"):  # PyTorch 2.6 shards on GPUs only
    del CONFIGURATIONS["fsdp"]
NUMBERS = (
    "loss",
    "itc",
    "itm",
    "lm",
    "cider",
    "temperature",
    "grad_norm",
    "train_loss",
    "recall_mean",
)


@pytest.fixture
def data(scenes: Path, tmp_path: Path) -> Path:
    """Return ten scenes, of which one image is missing: its pair then has no negative."""
    rows = [json.loads(line) for line in scenes.read_text().splitlines()][:10]
    rows = [{**row, "file_name": str(scenes.parent / row["file_name"])} for row in rows]
    rows[3]["file_name"] = str(tmp_path / "missing.png")
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def load_models(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of all models in a folder."""
    return {
        f"{file.parent.name} {key}": weight
        for file in sorted(folder.rglob("model.safetensors"))
        for key, weight in load_file(file).items()
        if "kv.bias" not in key  # the gradient of a key's bias is 0 but for rounding
    }


TASKS = {"match": MATCH, "pretrain": PRETRAIN | MOMENTUM}


@pytest.mark.parametrize("task", TASKS)
def test_negatives_of_all_ranks_give_the_run_of_one_process(
    task: str, data: Path, tmp_path: Path
) -> None:
    """A step of two pairs in one process is that of one pair in each of two."""
    settings = SETTINGS | TASKS[task]
    single = tiny_recipe(data, tmp_path / "1x2", **settings, optim_batch_size=2)
    train(single, show_progress=False)
    recipes = {
        name: tiny_recipe(data, tmp_path / name, **settings, **changes)
        for name, changes in CONFIGURATIONS.items()
    }
    local = tiny_recipe(data, tmp_path / "local", **settings, optim_batch_size=3)
    jobs = [(local, False, 0)]
    for name, recipe in recipes.items():
        if "stopped" in name:
            jobs += [(recipe, False, 3), (recipe, True, 0)]
        else:
            jobs.append((recipe, False, 0))
    assert launch(jobs, tmp_path).count("stopped after step 3") == 2
    assert [line["step"] for line in read_log(tmp_path / "local" / "log.jsonl") if "itc" in line]
    expected = read_log(tmp_path / "1x2" / "log.jsonl")
    assert sum("skipped" in line for line in expected) == 1
    for name in recipes:
        for line, other in zip(expected, read_log(tmp_path / name / "log.jsonl"), strict=True):
            values = {key: value for key, value in line.items() if key in NUMBERS}
            assert {key: other[key] for key in values} == pytest.approx(values, rel=1e-4), name
        weights, others = (load_models(tmp_path / run / "best") for run in ("1x2", name))
        for key, weight in weights.items():
            torch.testing.assert_close(
                others[key],
                weight,
                rtol=1e-4,
                atol=1e-4,
                msg=lambda text, place=f"{name}, {key}": f"{place}: {text}",
            )
