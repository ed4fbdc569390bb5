"""Runs recipes, one after another, in the processes that `launch` starts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cutline.config import Recipe, to_dict
from cutline.distributed import process_group
from cutline.training import Interrupted, train


def launch(recipes: list[Recipe], folder: Path, processes: int = 2, **settings: Any) -> str:
    """Train `recipes` in one group of `processes`, and return what they say on stderr. Raises RuntimeError where one fails."""
    jobs = []
    for number, recipe in enumerate(recipes):
        path = folder / f"recipe-{number}.yaml"
        path.write_text(yaml.safe_dump(to_dict(recipe)))
        jobs.append({"recipe": str(path), **settings})
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    alone = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, json.dumps(jobs)]
    group = [
        subprocess.Popen(
            command, env={**os.environ, **alone, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(processes)
    ]
    said = [process.communicate(timeout=200)[1] for process in group]
    for process, text in zip(group, said, strict=True):
        if process.returncode:
            raise RuntimeError(text)
    return "".join(said)


def run(jobs: list[dict[str, Any]]) -> None:
    """What each process does."""
    with process_group():
        for job in jobs:
            try:
                train(**job, show_progress=False)
            except Interrupted as stopped:
                sys.stderr.write(f"{stopped}\n")


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
