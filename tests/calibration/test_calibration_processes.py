"""`cutline calibrate` in several real processes."""

import json
from pathlib import Path

import pytest
from random_captioner import save_captioner
from torchrun import launch_command

from cutline.demo.scenes import make_scenes, write_scenes


@pytest.mark.slow  # three processes that import torch
def test_two_processes_give_the_calibration_of_one(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "scenes", make_scenes(20, seed=3))
    captioner = save_captioner(tmp_path / "model")
    images = sorted(data.parent.glob("*.png"))
    rows = [
        {"image": image.name, "captions": [caption.text if number % 2 else "a star"]}
        for number, (image, caption) in enumerate(
            zip(images, captioner.caption(images), strict=True)
        )
    ]
    data.write_text("\n".join(map(json.dumps, rows)))
    outputs, calibrations = [], []
    for num_processes in (1, 2):
        calibration = tmp_path / f"{num_processes}.json"
        arguments = ["calibrate", data, "-m", tmp_path / "model", "--precision", "fp32"]
        arguments += ["--batch-size", 1, "-o", calibration]
        main, *others = launch_command([*map(str, arguments)], num_processes)
        assert main.returncode in (0, 3), main.stderr  # captions may have no words
        assert [(process.returncode, process.stdout, process.stderr) for process in others] == [
            (0, "", "")
        ] * (num_processes - 1)
        outputs.append((main.returncode, main.stdout))
        calibrations.append(json.loads(calibration.read_text()))
    assert outputs[0] == outputs[1]
    assert calibrations[0] == calibrations[1]
    assert 0 < calibrations[0]["test"]["words"]["right"] < 1
