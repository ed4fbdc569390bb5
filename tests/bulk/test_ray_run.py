"""`cutline caption --cluster ray`: the same run on a real Ray, whose processes are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from random_captioner import save_captioner

from cutline.cli.main import run_command
from cutline.demo.scenes import make_scenes, write_scenes

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, and with images, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("ray")
    write_scenes(folder / "images", make_scenes(300, seed=5), size=64)
    (folder / "images" / "broken.png").write_bytes(b"no image")
    save_captioner(folder / "model")
    return folder


def command(folder: Path, out: str, *flags: str) -> list[str]:
    """Return the words of a command, whose batches of one image make it slow."""
    images, model = str(folder / "images"), str(folder / "model")
    return ["caption", images, "-m", model, "-o", str(folder / out), "--batch-size", "1", *flags]


def start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "cutline", *words], stderr=subprocess.PIPE)


def wait_for_parts(state: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run has committed parts."""
    while process.poll() is None and len(list(state.glob("part-*"))) < count:
        time.sleep(0.05)


def find_actors() -> list[int]:
    """Return the processes of actors."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::CaptionActor" in path.read_bytes():
                pids.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return pids


def read(path: Path) -> list[tuple[str, str]]:
    rows = map(json.loads, path.read_text().splitlines())
    return [(row["id"], row["caption"]) for row in rows]


def test_a_run_whose_actor_and_driver_are_killed_equals_a_local_one(folder: Path) -> None:
    assert run_command(command(folder, "local.jsonl")) == 3
    words = command(folder, "ray.jsonl", "--cluster", "ray", "--ray-actors", "2")
    process = start(words)
    state = folder / "ray.jsonl.state"
    wait_for_parts(state, 1, process)
    os.kill(find_actors()[0], signal.SIGKILL)
    wait_for_parts(state, 4, process)
    process.kill()
    process.communicate()
    num_parts = len(list(state.glob("part-*")))
    assert num_parts >= 2
    assert not (folder / "ray.jsonl").exists()
    process = start(words)
    messages = process.communicate()[1].decode()
    assert process.returncode == 3, messages
    assert "captioned by an earlier run: " in messages
    assert read(folder / "ray.jsonl") == read(folder / "local.jsonl")
    records = [
        json.loads(line)["id"]
        for part in sorted(state.glob("part-*"))
        for line in part.read_text().splitlines()
    ]
    assert len(records) == len(set(records)) == 301
    failed = (folder / "ray.jsonl.failed.jsonl").read_text()
    assert json.loads(failed)["id"] == "broken.png"


def test_the_manifest_of_a_ray_run_serves_a_local_one(folder: Path) -> None:
    words = command(folder, "half.jsonl", "--limit", "150")
    assert run_command([*words, "--cluster", "ray", "--ray-actors", "1"]) == 3
    assert run_command(command(folder, "half.jsonl")) == 3
    assert read(folder / "half.jsonl") == read(folder / "local.jsonl")
