"""Several processes train a matcher as a single one does, where negatives are certain."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import launch
from safetensors.torch import load_file
from tiny_recipe import MATCH, MOMENTUM, NO_DROPOUT, PRETRAIN, tiny_recipe

from cutline.training import read_log, train

SETTINGS = NO_DROPOUT | {
    "optim_ema_decay": 0.9,
    "eval_max_images": 5,
    "eval_before_training": True,
    "optim_epochs": 1,
}
TASKS = {"match": MATCH, "pretrain": PRETRAIN | MOMENTUM}
ALL_RANKS = {"optim_batch_size": 1, "match_negative_all_rank": True}
NUMBERS = (
    "loss",
    "itc",
    "itm",
    "lm",
    "cider",
    "temperature",
    "grad_norm",
    "train_loss",
    "val_loss",
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


@pytest.fixture(params=TASKS)
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the settings of each task."""
    return SETTINGS | TASKS[request.param]


@pytest.fixture
def single(data: Path, settings: dict[str, Any], tmp_path: Path) -> Path:
    """Return a run of a single process."""
    recipe = tiny_recipe(data, tmp_path / "1x2", **settings, optim_batch_size=2)
    train(recipe, show_progress=False)
    return tmp_path / "1x2"


def load_models(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of all models in a folder."""
    return {
        f"{file.parent.name} {key}": weight
        for file in sorted(folder.rglob("model.safetensors"))
        for key, weight in load_file(file).items()
        if "kv.bias" not in key  # the gradient of a key's bias is 0 but for rounding
    }


def check_same_run(run: Path, expected: Path) -> None:
    """Assert that two runs have the same numbers in their logs, and the same weights."""
    lines, others = (read_log(each / "log.jsonl") for each in (expected, run))
    assert sum("skipped" in line for line in lines) == 1
    for line, other in zip(lines, others, strict=True):
        values = {key: value for key, value in line.items() if key in NUMBERS}
        assert {key: other[key] for key in values} == pytest.approx(values, rel=1e-4)
    weights, actual = (load_models(each / "best") for each in (expected, run))
    torch.testing.assert_close(actual, weights, rtol=1e-4, atol=1e-4)


def test_negatives_of_all_ranks_give_the_run_of_one_process(
    data: Path, settings: dict[str, Any], single: Path, tmp_path: Path
) -> None:
    """A step of two pairs in one process is that of one pair in each of two, though stopped."""
    recipe = tiny_recipe(data, tmp_path / "2x1", **settings, **ALL_RANKS)
    local = tiny_recipe(data, tmp_path / "local", **settings, optim_batch_size=3)
    output = launch([(local, False, 0), (recipe, False, 3), (recipe, True, 0)], tmp_path)
    assert output.count("stopped after step 3") == 2
    assert [line["step"] for line in read_log(tmp_path / "local" / "log.jsonl") if "itc" in line]
    check_same_run(tmp_path / "2x1", single)


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="PyTorch 2.6 shards on GPUs only"
)
def test_shards_give_the_run_of_one_process(
    data: Path, settings: dict[str, Any], single: Path, tmp_path: Path
) -> None:
    names = {"2x1": ALL_RANKS, "fsdp": ALL_RANKS | {"distributed_fsdp": True}}
    recipes = [
        tiny_recipe(data, tmp_path / name, **settings, **changes) for name, changes in names.items()
    ]
    launch([(recipe, False, 0) for recipe in recipes], tmp_path)
    for name in names:
        check_same_run(tmp_path / name, single)
