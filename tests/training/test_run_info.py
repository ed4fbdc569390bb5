"""What a run writes down of itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cutline.config import Recipe
from cutline.data import Sample
from cutline.errors import ConfigError
from cutline.training import read_log, train
from cutline.training.run.info import fingerprint_data

Build = Callable[..., Recipe]


def test_every_start_is_recorded_with_versions_seed_and_data(recipe: Build) -> None:
    folder = train(recipe(seed=3), show_progress=False).parent
    train(recipe(seed=3), resume=True, show_progress=False)
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert len(starts) == 2
    assert starts[0]["versions"]["torch"] == torch.__version__
    assert (starts[0]["seed"], starts[0]["processes"]) == (3, 1)
    assert starts[0]["data"] == starts[1]["data"]
    assert starts[0]["data"]["train"]["images"] == 20


def test_other_data_are_refused_on_resume(recipe: Build, scenes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    lines = [json.loads(line) for line in scenes.read_text().splitlines()]
    rows = [{**line, "file_name": str(scenes.parent / line["file_name"])} for line in lines]
    data.write_text("\n".join(map(json.dumps, rows)))
    train(recipe(data_train=str(data)), show_progress=False)
    rows[7]["captions"] = ["something else"]
    data.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        ConfigError, match=r"run.json: the training data are not those that the run began with"
    ):
        train(recipe(data_train=str(data)), resume=True, show_progress=False)


def test_the_fingerprint_tells_captions_order_and_pictures_apart_but_not_folders(
    tmp_path: Path,
) -> None:
    for folder, content in (("a", b"one"), ("b", b"one"), ("c", b"other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_bytes(content)
    one = [
        Sample(str(tmp_path / "a" / "x.jpg"), ("a dog",), "x"),
        Sample(b"bytes", ("a cat",), "y", "see "),
    ]
    assert fingerprint_data(one) == fingerprint_data(
        [replace(one[0], image=str(tmp_path / "b" / "x.jpg")), one[1]]
    )
    others = [
        [replace(one[0], image=str(tmp_path / "c" / "x.jpg")), one[1]],
        [replace(one[0], captions=("a", "dog")), one[1]],
        [one[0], replace(one[1], prompt=None)],
        [one[0], replace(one[1], image=b"")],
        one[::-1],
        one[:1],
    ]
    assert len({fingerprint_data(samples) for samples in [one, *others]}) == 1 + len(others)


def test_the_log_tells_speed_memory_and_gradients(recipe: Build) -> None:
    folder = train(recipe(), show_progress=False).parent
    lines = [line for line in read_log(folder / "log.jsonl") if "grad_norm" in line]
    assert len(lines) == 8
    for line in lines:
        assert line["tokens_per_second"] > line["pictures_per_second"] > 0
        assert 0.05 < line["memory_gb"] < 50
        assert line["grad_norm"] > 0


def test_tensorboard_holds_what_the_log_holds(recipe: Build) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = train(recipe(tensorboard="on", eval_max_pictures=2), show_progress=False).parent
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    losses = [
        (line["step"], line["loss"]) for line in read_log(folder / "log.jsonl") if "loss" in line
    ]
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [
        (step, pytest.approx(loss)) for step, loss in losses
    ]
    assert [event.step for event in events.Scalars("validation/cider")] == [4, 8]
    assert events.Tags()["images"] == ["images/0", "images/1"]
    assert [event.step for event in events.Tensors("captions/text_summary")] == [4, 8]


def test_tensorboard_can_be_left_out(recipe: Build) -> None:
    assert not (
        train(recipe(tensorboard="off"), show_progress=False).parent / "tensorboard"
    ).exists()
