"""`cutline evaluate` in several real processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from random_captioner import random_captioner

from cutline.checkpoint import Checkpoint, save_checkpoint
from cutline.demo.scenes import make_scenes, write_scenes


def launch(words: list[str], processes: int) -> list[subprocess.CompletedProcess[str]]:
    """`cutline WORDS…` in one group of `processes`, as `torchrun` starts them; in the order of their ranks."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    alone = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": "1",
    }
    group = [
        subprocess.Popen(
            [sys.executable, "-m", "cutline", *words],
            env={**os.environ, **alone, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    said = [process.communicate(timeout=200) for process in group]
    return [
        subprocess.CompletedProcess(words, process.returncode, *texts)
        for process, texts in zip(group, said, strict=True)
    ]


@pytest.mark.slow  # three processes that import torch
def test_two_processes_say_once_what_one_says(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "scenes", make_scenes(7, seed=3))
    made, names = random_captioner(), sorted(path.name for path in data.parent.glob("*.png"))
    true = [
        f"{caption.text} star" for caption in made.caption([data.parent / name for name in names])
    ]
    rows = [
        {"file_name": name, "captions": [text]}
        for name, text in zip([*names, "gone.png"], [*true, "a star"], strict=True)
    ]
    data.write_text("\n".join(map(json.dumps, rows)))
    save_checkpoint(
        tmp_path / "model", Checkpoint(made.config, made.model.state_dict(), made.tokenizer)
    )
    found, captions = {}, {}
    for processes in (1, 2):
        files = {name: tmp_path / f"{processes}.{name}" for name in ("json", "jsonl", "html")}
        words = [
            "evaluate",
            str(data),
            "-m",
            str(tmp_path / "model"),
            "--bootstrap",
            "50",
            "--batch-size",
            "2",
            "--precision",
            "fp32",
        ]
        words += [
            "--json",
            str(files["json"]),
            "-o",
            str(files["jsonl"]),
            "--report",
            str(files["html"]),
        ]
        first, *others = launch(words, processes)
        assert first.returncode == 3, first.stderr
        assert "gone.png" in first.stderr
        assert [(one.returncode, one.stdout, one.stderr) for one in others] == [(0, "", "")] * (
            processes - 1
        )
        found[processes] = (first.stdout, first.stderr, json.loads(files["json"].read_text()))
        lines = map(json.loads, files["jsonl"].read_text().splitlines())
        captions[processes] = [(line["image"], line["caption"], line["cider"]) for line in lines]
    assert found[1] == found[2]
    assert captions[1] == captions[2]
    assert found[1][2]["scores"]["cider"] > 1
