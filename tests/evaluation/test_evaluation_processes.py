"""`cutline evaluate` in several real processes."""

import json
from pathlib import Path
from typing import Any

import pytest
from random_captioner import save_captioner
from random_matcher import make_matcher
from torchrun import launch_command

from cutline.checkpoint import Checkpoint, save_native
from cutline.demo.scenes import make_scenes, write_scenes


def prepare_inputs(folder: Path) -> tuple[Path, Path]:
    """Return data of 7 images and a missing one, and a model that captions them nearly right."""
    data = write_scenes(folder / "scenes", make_scenes(7, seed=3))
    captioner = save_captioner(folder / "model")
    images = sorted(data.parent.glob("*.png"))
    rows = [
        {"file_name": image.name, "captions": [f"{caption.text} star"]}
        for image, caption in zip(images, captioner.caption(images), strict=True)
    ]
    rows.append({"file_name": "gone.png", "captions": ["a star"]})
    data.write_text("\n".join(map(json.dumps, rows)))
    return data, folder / "model"


@pytest.mark.slow  # three processes that import torch
def test_two_processes_give_the_results_of_one(tmp_path: Path) -> None:
    data, model = prepare_inputs(tmp_path)
    results: list[tuple[str, str, dict[str, Any]]] = []
    captions = []
    for num_processes in (1, 2):
        values, table, report = (
            tmp_path / f"{num_processes}.{suffix}" for suffix in ("json", "jsonl", "html")
        )
        arguments = ["evaluate", data, "-m", model, "--precision", "fp32", "--batch-size", 2]
        arguments += ["--resamples", 50, "--json", values, "-o", table, "--report", report]
        main, *others = launch_command([*map(str, arguments)], num_processes)
        assert main.returncode == 3, main.stderr
        assert "gone.png" in main.stderr
        assert [(process.returncode, process.stdout, process.stderr) for process in others] == [
            (0, "", "")
        ] * (num_processes - 1)
        results.append((main.stdout, main.stderr, json.loads(values.read_text())))
        rows = map(json.loads, table.read_text().splitlines())
        captions.append([(row["image"], row["caption"], row["cider"]) for row in rows])
    assert results[0] == results[1]
    assert captions[0] == captions[1]
    assert results[0][2]["scores"]["cider"] > 1


@pytest.mark.slow  # three processes that import torch
def test_two_processes_evaluate_a_matcher_as_one_does(tmp_path: Path) -> None:
    data, _ = prepare_inputs(tmp_path)
    matcher = make_matcher()
    weights = {name: value.clone() for name, value in matcher.model.state_dict().items()}
    save_native(tmp_path / "matcher", Checkpoint(matcher.config, weights, matcher.tokenizer))
    results = []
    for num_processes in (1, 2):
        values = tmp_path / f"{num_processes}.json"
        arguments = ["evaluate", data, "--matcher", tmp_path / "matcher", "--precision", "fp32"]
        arguments += ["--k-test", 3, "--batch-size", 2, "--json", values]
        main, *others = launch_command([*map(str, arguments)], num_processes)
        assert main.returncode == 3, main.stderr
        assert [(process.returncode, process.stdout, process.stderr) for process in others] == [
            (0, "", "")
        ] * (num_processes - 1)
        results.append((main.stdout, main.stderr, json.loads(values.read_text())))
    assert results[0] == results[1]
    assert results[0][2]["num_images"] == 7
    assert "gone.png" in results[0][1]
