"""`run.json`, the log and TensorBoard: what a run records about itself."""

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
from cutline.training.run import tensorboard
from cutline.training.run.info import fingerprint_data

Build = Callable[..., Recipe]


def test_every_start_is_recorded_with_versions_seed_and_data(recipe: Build) -> None:
    directory = train(recipe(seed=3), show_progress=False).parent
    train(recipe(seed=3), resume=True, show_progress=False)
    starts = json.loads((directory / "run.json").read_text())["starts"]
    assert len(starts) == 2
    # torch.__version__ also names the build, such as 2.6.0+cu124.
    assert torch.__version__.startswith(starts[0]["versions"]["torch"])
    assert (starts[0]["seed"], starts[0]["world_size"]) == (3, 1)
    assert starts[0]["data"] == starts[1]["data"]
    assert starts[0]["data"]["train"]["num_images"] == 20
    last = read_log(directory / "log.jsonl")[-1]
    assert starts[0]["steps_per_epoch"] == last["step"] / last["epoch"]


def test_a_run_is_not_resumed_on_other_data(recipe: Build, scenes: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    lines = [json.loads(line) for line in scenes.read_text().splitlines()]
    rows = [{**line, "file_name": str(scenes.parent / line["file_name"])} for line in lines]
    data.write_text("\n".join(map(json.dumps, rows)))
    run = recipe(data_train=str(data))
    train(run, show_progress=False)
    rows[7]["captions"] = ["something else"]
    data.write_text("\n".join(map(json.dumps, rows)))
    message = r"run.json: the training data has changed .* \(same number of images\)"
    with pytest.raises(ConfigError, match=message):
        train(run, resume=True, show_progress=False)
    data.write_text("\n".join(map(json.dumps, rows[1:])))
    with pytest.raises(ConfigError, match=r"\(20 images then, 19 now\): restore it"):
        train(run, resume=True, show_progress=False)


def test_the_fingerprint_depends_on_captions_order_and_images_but_not_on_the_folder(
    tmp_path: Path,
) -> None:
    for folder, content in (("a", b"one"), ("b", b"one"), ("c", b"other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jpg").write_bytes(content)
    first = Sample(str(tmp_path / "a" / "x.jpg"), ("a dog",), "x")
    second = Sample(b"bytes", ("a cat",), "y", "see ")
    moved = replace(first, image=str(tmp_path / "b" / "x.jpg"))
    assert fingerprint_data([first, second]) == fingerprint_data([moved, second])
    datasets = [
        [first, second],
        [replace(first, image=str(tmp_path / "c" / "x.jpg")), second],
        [replace(first, captions=("a", "dog")), second],
        [first, replace(second, prompt=None)],
        [first, replace(second, image=b"")],
        [second, first],
        [first],
    ]
    assert len(set(map(fingerprint_data, datasets))) == len(datasets)


def test_the_log_has_speed_memory_and_gradient_norm(recipe: Build) -> None:
    directory = train(recipe(), show_progress=False).parent
    lines = [line for line in read_log(directory / "log.jsonl") if "grad_norm" in line]
    assert len(lines) == 8
    for line in lines:
        assert line["tokens_per_second"] > line["pictures_per_second"] > 0
        assert 0.05 < line["memory_gb"] < 50
        assert line["grad_norm"] > 0


def test_tensorboard_has_the_values_of_the_log(recipe: Build) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = recipe(tensorboard="on", eval_max_images=2, eval_before_training=True)
    directory = train(run, show_progress=False).parent
    events = accumulator.EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    lines = [line for line in read_log(directory / "log.jsonl") if "loss" in line]
    losses = [(event.step, event.value) for event in events.Scalars("training/loss")]
    assert losses == [(line["step"], pytest.approx(line["loss"])) for line in lines]
    assert [event.step for event in events.Scalars("validation/cider")] == [0, 4, 8]
    assert events.Tags()["images"] == ["images/0", "images/1"]
    assert [event.step for event in events.Tensors("captions/text_summary")] == [0, 4, 8]


def test_tensorboard_can_be_turned_off(recipe: Build) -> None:
    directory = train(recipe(tensorboard="off"), show_progress=False).parent
    assert not (directory / "tensorboard").exists()


def test_tensorboard_that_is_not_installed_is_reported_before_anything_is_written(
    recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    run = recipe(tensorboard="on")
    with pytest.raises(ConfigError, match=r"pip install 'cutline\[tensorboard\]'"):
        train(run, show_progress=False)
    assert not Path(run.output).exists()
